"""A real `jobkeepd`, as a process of its own.

What lives here: starting one on files of a directory. What may not: measuring it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.servers import accepts, running


@contextmanager
def running_daemon(directory: Path, **settings: str) -> Iterator[Path]:
    """The socket of a daemon that accepts. It indexes no text unless told to: what it is compared
    with does not either.

    Raises RuntimeError, with what it said, when it does not start or ends badly.
    """
    path = directory / "jobkeep.sock"
    settings = {
        "search": "off",
        "db": str(directory / "state.db"),
        "socket": str(path),
        **settings,
    }
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    command = [sys.executable, "-m", "jobkeepd", *flags]
    with running(command, directory / "jobkeepd.log", lambda: accepts(path)):
        yield path
