"""Where data lies while it is measured.

What lives here: a directory on a disk, removed at the end. What may not: what is put there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

SOURCES = Path(__file__).parents[1]


@contextmanager
def data_directory() -> Iterator[Path]:
    """A new directory where syncing reaches a disk. Other users can pass through it, for servers
    that run as one of them, and cannot list it."""
    with TemporaryDirectory(prefix="bench-", dir=_parent()) as name:
        directory = Path(name)
        directory.chmod(0o711)
        yield directory


def is_open_to_all(directory: Path) -> bool:
    """Whether every user can pass through to this directory."""
    path = directory.resolve()
    return all(one.stat().st_mode & 0o001 for one in (path, *path.parents))


def _parent() -> Path:
    """$TMPDIR, else with the sources, else /var/tmp. Not /tmp, which may well be memory."""
    if directory := os.environ.get("TMPDIR"):
        return Path(directory)
    build = SOURCES / "build"
    build.mkdir(exist_ok=True)
    if os.geteuid() == 0 and not is_open_to_all(build):
        return Path("/var/tmp")  # noqa: S108 # it gets a directory of our own, with a random name
    return build
