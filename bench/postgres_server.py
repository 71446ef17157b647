"""A PostgreSQL server of the benchmark's own.

What lives here: starting the machine's `postgres` on a new cluster in a directory. What may not:
what is kept in it (that is `systems`).

`fsync` and `synchronous_commit` are on: a commit is on disk before it is answered, and those that
wait together are synced together. There is no TCP. All else is as initdb leaves it, with one help:
the log is allocated beforehand (as much as the server keeps in the long run, min_wal_size), as it
would be on a server that has run for a while.

PostgreSQL does not run as root: when the benchmark does, the server runs as `postgres` or as
`nobody`, and the cluster belongs to that user.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from bench.places import is_open_to_all
from bench.servers import first_line_of, run_to_end, running

DEBIAN = Path("/usr/lib/postgresql")
"""Where Debian has its programs, in a folder for each version."""

OWNER = "jobkeep"
SEGMENTS = 5
"""How many files of log are allocated beforehand: 80 MB, the default of min_wal_size."""


def lacks(directory: Path) -> str | None:
    """Why none can run on files in this directory, None when one can."""
    if _program("postgres") is None or _program("initdb") is None:
        return "PostgreSQL is not installed (Debian: postgresql)"
    user = _user()
    if user is not None and not is_open_to_all(directory):
        return (
            f"PostgreSQL has to run as {user}, who cannot enter {directory}; set TMPDIR to a "
            "directory that everybody can enter"
        )
    return None


def version() -> str:
    """What the program says it is."""
    return first_line_of(_path("postgres"), "--version")


@contextmanager
def running_postgres(directory: Path) -> Iterator[Path]:
    """The directory with the socket of a new server with an empty database `postgres`, for the
    user `jobkeep`.

    The first one in the folder that holds `directory` makes a cluster there (`cluster`), and all
    later ones copy that.
    """
    user = _user()
    data = directory / "postgres"
    shutil.copytree(_cluster(directory.parent, user), data, copy_function=shutil.copy)
    _give(data, user)
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(data),
        "fsync": "on",
        "synchronous_commit": "on",
    }
    command = [_path("postgres"), "-D", str(data)]
    command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    log = directory / "postgres.log"
    # SIGINT is its "fast shutdown", which does not wait for clients to leave.
    with running(command, log, lambda: _is_ready(data), stop=signal.SIGINT, user=user):
        asyncio.run(_allocate_log(data))
        yield data


def _cluster(directory: Path, user: str | None) -> Path:
    path = directory / "cluster"
    if not path.exists():
        path.mkdir()
        _give(path, user)
        options = ["--no-sync", "--auth=trust", "--no-locale", "--encoding=UTF8"]
        run_to_end([_path("initdb"), "-D", str(path), "-U", OWNER, *options], user)
    return path


async def _allocate_log(socket: Path) -> None:
    """Use up some files of log, so that the checkpoint makes them the next ones."""
    connection = await asyncpg.connect(host=str(socket), user=OWNER, database="postgres")
    try:
        for _ in range(SEGMENTS):
            await connection.execute("SELECT pg_logical_emit_message(false, '', '')")
            await connection.execute("SELECT pg_switch_wal()")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


def _is_ready(data: Path) -> bool:
    """Whether it has said so, in the last line of the file with its pid."""
    try:
        return (data / "postmaster.pid").read_text().split()[-1:] == ["ready"]
    except FileNotFoundError:
        return False


def _user() -> str | None:
    """Who has to run it; None: whoever runs the benchmark."""
    if os.geteuid() != 0:
        return None
    names = {one.pw_name for one in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _give(directory: Path, user: str | None) -> None:
    directory.chmod(0o700)
    if user is not None:
        shutil.chown(directory, user)
        for path in directory.rglob("*"):
            shutil.chown(path, user)


def _path(name: str) -> str:
    found = _program(name)
    assert found is not None, "`lacks` was asked before"
    return found


def _program(name: str) -> str | None:
    """The newest that Debian has installed, else what is on PATH."""
    installed = sorted(
        DEBIAN.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]), reverse=True
    )
    return str(installed[0]) if installed else shutil.which(name)
