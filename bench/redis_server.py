"""A Redis server of the benchmark's own.

What lives here: starting the machine's `redis-server` on files of a directory. What may not: what
is kept in it (that is `systems`).

Every write is appended to a file and synced before it is answered (`appendfsync always`); what
arrived together is synced together. There are no snapshots beside that, and no TCP. All else is as
redis-server has it by default.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.servers import accepts, first_line_of, running

PROGRAM = "redis-server"


def lacks(directory: Path) -> str | None:
    """Why none can run on files in this directory, None when one can."""
    del directory  # any will do
    if shutil.which(PROGRAM) is None:
        return "redis-server is not installed (Debian: redis-server)"
    return None


def version() -> str:
    """What the program says it is."""
    return first_line_of(PROGRAM, "--version")


@contextmanager
def running_redis(directory: Path) -> Iterator[Path]:
    """The socket of a new, empty server."""
    path = directory / "redis.sock"
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "daemonize": "no",
    }
    command = [PROGRAM, *(word for name, value in options.items() for word in (f"--{name}", value))]
    with running(command, directory / "redis.log", lambda: accepts(path)):
        yield path
