"""A real `jobkeepd`, as a process of its own.

What lives here: starting one on files of a directory. What may not: measuring it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

from bench.servers import accepts, running

Durability: TypeAlias = Literal["full", "normal"]


@contextmanager
def running_daemon(directory: Path, durability: Durability = "full") -> Iterator[Path]:
    """The socket of a daemon that accepts.

    Raises RuntimeError, with what it said, when it does not start or ends badly.
    """
    path = directory / "jobkeep.sock"
    command = [sys.executable, "-m", "jobkeepd", "--durability", durability]
    command += ["--db", str(directory / "state.db"), "--socket", str(path)]
    with running(command, directory / "jobkeepd.log", lambda: accepts(path)):
        yield path
