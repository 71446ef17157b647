"""Being another user for a moment, for tests that run as root.

What lives here: `effective_user`, a place that others can reach, and the mark for tests that need
them. What a socket says of its peer are the effective ids at the moment of connect(2), and so are
the rights on files.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@contextmanager
def effective_user(uid: int, gid: int | None = None, groups: Sequence[int] = ()) -> Iterator[None]:
    """Be this user inside the block, in this group (of the same number by default) and these."""
    before = os.getgroups(), os.getegid()
    os.setgroups(list(groups))
    os.setegid(uid if gid is None else gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(before[1])
        os.setgroups(before[0])


@contextmanager
def public_directory() -> Iterator[Path]:
    """A directory that every user may enter; those that pytest makes are for their owner."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        directory = Path(made)
        directory.chmod(0o755)
        yield directory
