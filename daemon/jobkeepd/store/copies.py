"""Copies of the database, made while others read and write.

What lives here: making a copy of one moment, and handing out those that backups read. What may not:
where a client keeps its own.

A copy is made by VACUUM INTO (https://www.sqlite.org/lang_vacuum.html#vacuuminto), by a connection
that only reads: it sees one commit, keeps nobody from writing, and leaves out free pages. The log
cannot be emptied while it runs, and grows. A copy for a backup is a file beside the database that
has no name any more once it is made, so that nothing of it is left whatever happens.
"""

from __future__ import annotations

import asyncio
import errno
import glob
import os
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

from jobkeep_protocol.errors import InvalidRequest, LimitExceeded, StorageError
from jobkeep_protocol.messages import BackupPiece
from jobkeepd.durable import sync_directory, sync_file
from jobkeepd.files import size_of
from jobkeepd.store.connection import create_private, reading_uri, wal_path

MAX_COPIES = 2
"""Backups at the same time: each takes as much room on the disk as the database."""

PIECE_BYTES = 1024 * 1024
WAIT_SECONDS = 1.0
"""How long a reader is kept waiting for a copy that is being made, before it has to ask again."""

UNREAD_SECONDS = 60.0
"""After this long without a reader a copy is given up."""

_COPY = ".copy-"


def write_copy(connection: sqlite3.Connection, copy: Path) -> None:
    """Copy the database of a connection as it is now; the copy is on disk when this returns.

    There must be no file of this name, or an empty one. Raises sqlite3.Error and OSError.
    """
    create_private(copy)
    connection.execute("VACUUM INTO ?", (str(copy),))
    sync_file(copy)


def copy_database(database: Path, copy: Path) -> None:
    """The same for a database that others may be using. Raises StorageError, and leaves no file."""
    try:
        with closing(sqlite3.connect(reading_uri(database), uri=True)) as connection:
            write_copy(connection, copy)
    except (sqlite3.Error, OSError) as error:
        copy.unlink(missing_ok=True)
        raise StorageError(
            f"copying {database} to {copy} failed: {error}; is there room on the disk for as much "
            "again?"
        ) from error


def copy_to_new_file(database: Path, path: Path) -> int:
    """Copy the database to a file that appears under its name when it is whole; gives its size.

    Raises FileExistsError when there is one of this name, StorageError when copying fails.
    """
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, "there is a file of this name", str(path))
    unfinished = path.with_name(path.name + ".partial")
    unfinished.unlink(missing_ok=True)
    copy_database(database, unfinished)
    unfinished.rename(path)
    sync_directory(path.parent)
    return path.stat().st_size


def remove_leftovers(database: Path) -> None:
    """Remove the copies that a daemon which was killed was making. Raises StorageError."""
    try:
        for path in database.parent.glob(f"{glob.escape(database.name)}{_COPY}*"):
            path.unlink()
    except OSError as error:
        raise StorageError(
            f"what a backup of the database {database} has left cannot be removed: "
            f"{error.strerror} ({error.filename}); may this user list and write its directory?"
        ) from error


class Copies:
    """The copies that backups read at this time. Belongs to the event loop it is used on."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._copies: dict[str, _Copy] = {}

    def start(self) -> str:
        """Begin a copy; gives its id.

        Raises LimitExceeded when too many are being made or read, StorageError without room.
        """
        for copy_id in [one for one, copy in self._copies.items() if copy.is_read]:
            self._give_up(copy_id)
        if len(self._copies) >= MAX_COPIES:
            raise LimitExceeded(
                f"{MAX_COPIES} backups are under way; wait for their end, or for "
                f"{UNREAD_SECONDS:g} s after one was broken off",
                {"limit": "backups", "maximum": MAX_COPIES},
            )
        self._check_room()
        copy_id = secrets.token_hex(8)
        self._copies[copy_id] = _Copy(self._database, copy_id, partial(self._give_up, copy_id))
        return copy_id

    async def read(self, copy_id: str, offset: int) -> BackupPiece:
        """The bytes from `offset` on; none of them, and `more`, while the copy is being made.

        Raises InvalidRequest for an unknown id, StorageError when the copy could not be made.
        """
        copy = self._copies.get(copy_id)
        if copy is None:
            raise InvalidRequest(
                f"there is no backup {copy_id!r}: it was read to its end, or not read for "
                f"{UNREAD_SECONDS:g} s; start another",
                {"field": "backup_id"},
            )
        return await copy.read(offset)

    async def close(self) -> None:
        """Give up all copies, after those that are being made."""
        for copy_id, copy in list(self._copies.items()):
            self._give_up(copy_id)
            await copy.closed()

    def _give_up(self, copy_id: str) -> None:
        self._copies.pop(copy_id).close()

    def _check_room(self) -> None:
        """A copy must not take the room that writers need."""
        needed = size_of(self._database) + size_of(wal_path(self._database))
        disk = os.statvfs(self._database.parent)
        free = disk.f_bavail * disk.f_frsize
        if free < needed:
            raise StorageError(
                f"a backup needs {needed} bytes in {self._database.parent} while it is read, and "
                f"{free} are free; make room there",
                {"reason": "disk_full"},
            )


class _Copy:
    """One copy, being made or read. `give_up` is called when nobody has read it for long."""

    def __init__(self, database: Path, copy_id: str, give_up: Callable[[], None]) -> None:
        self.is_read = False
        """Whether its last bytes were handed out. They may be asked for again."""
        self._loop = asyncio.get_running_loop()
        self._give_up = give_up
        self._timer = self._loop.call_later(UNREAD_SECONDS, give_up)
        path = database.with_name(f"{database.name}{_COPY}{copy_id}")
        self._file = self._loop.run_in_executor(None, _copy_without_name, database, path)

    async def read(self, offset: int) -> BackupPiece:
        """See `Copies.read`."""
        self._timer.cancel()
        self._timer = self._loop.call_later(UNREAD_SECONDS, self._give_up)
        await asyncio.wait([self._file], timeout=WAIT_SECONDS)
        if not self._file.done():
            return BackupPiece(b"", more=True)
        file = self._file.result()
        data = await self._loop.run_in_executor(None, os.pread, file, PIECE_BYTES, offset)
        self.is_read = offset + len(data) >= os.fstat(file).st_size
        return BackupPiece(data, more=not self.is_read)

    def close(self) -> None:
        """Let go of it, when it is made."""
        self._timer.cancel()
        self._file.add_done_callback(_close_file)

    async def closed(self) -> None:
        """Wait until nothing is left of it."""
        await asyncio.wait([self._file])


def _copy_without_name(database: Path, path: Path) -> int:
    """A copy that is gone from the disk when its file is closed; gives the descriptor."""
    copy_database(database, path)
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    finally:
        path.unlink()


def _close_file(made: asyncio.Future[int]) -> None:
    if made.exception() is None:
        os.close(made.result())
