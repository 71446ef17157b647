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
import filecmp
import glob
import itertools
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import msgspec

from jobkeep_protocol.errors import InvalidRequest, JobNotFound, LimitExceeded, StorageError
from jobkeep_protocol.messages import BackupPiece
from jobkeep_protocol.states import utc_now
from jobkeepd import failpoints
from jobkeepd.durable import sync_directory, sync_file
from jobkeepd.files import size_of
from jobkeepd.store.connection import create_private, reading_uri, wal_path
from jobkeepd.store.pruned import forget_pruned_jobs
from jobkeepd.store.search_tables import set_search

MAX_COPIES = 2
"""Backups at the same time: each takes as much room on the disk as the database."""

PIECE_BYTES = 1024 * 1024
WAIT_SECONDS = 1.0
"""How long a reader is kept waiting for a copy that is being made, before it has to ask again."""

UNREAD_SECONDS = 60.0
"""After this long without a reader a copy is given up."""

_COPY = ".copy-"


def name_of_copy(database: Path, name: str) -> Path:
    """A file beside the database that is removed at the next start, should it be there then."""
    return database.with_name(f"{database.name}{_COPY}{name}")


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


def copy_before_migration(connection: sqlite3.Connection, database: Path, version: int) -> Path:
    """Copy the database to `<name>.v<version>-<time>` beside it, on disk when this returns.

    It appears under its name when it is whole, and replaces no file. A copy of the same contents
    that is there already does as well: a migration that fails at every start fills no disk. Raises
    sqlite3.Error and OSError.
    """
    unfinished = name_of_copy(database, "before-migration")
    unfinished.unlink(missing_ok=True)
    create_private(unfinished)
    failpoints.reached("in migration copy")
    write_copy(connection, unfinished)
    name = f"{database.name}.v{version}-"
    copy = _same_file(database.parent.glob(f"{glob.escape(name)}*"), unfinished)
    if copy is None:
        copy = _free_name(database.with_name(f"{name}{utc_now():%Y%m%dT%H%M%SZ}"))
        unfinished.rename(copy)
    else:
        unfinished.unlink()
    sync_directory(copy.parent)
    failpoints.reached("after migration copy")
    return copy


def remove_leftovers(database: Path) -> None:
    """Remove the copies that a daemon which was killed was making. Raises StorageError."""
    try:
        for path in database.parent.glob(f"{glob.escape(database.name)}{_COPY}*"):
            path.unlink()
    except OSError as error:
        raise StorageError(
            f"what a copy of the database {database} has left cannot be removed: "
            f"{error.strerror} ({error.filename}); may this user list and write its directory?"
        ) from error


class Copies:
    """The copies that backups read at this time. Belongs to the event loop it is used on."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._copies: dict[str, _Copy] = {}

    def start(self, job_ids: Sequence[str] = ()) -> str:
        """Begin a copy, of these jobs alone if any are named; gives its id.

        Raises LimitExceeded when too many are being made or read, StorageError without room.
        """
        for copy_id in [one for one, copy in self._copies.items() if copy.is_over]:
            self._give_up(copy_id)
        if len(self._copies) >= MAX_COPIES:
            raise LimitExceeded(
                f"{MAX_COPIES} backups are under way; wait for their end, or for "
                f"{UNREAD_SECONDS:g} s after one was broken off",
                {"limit": "backups", "maximum": MAX_COPIES},
            )
        self._check_room()
        copy_id = secrets.token_hex(8)
        give_up = partial(self._give_up, copy_id)
        self._copies[copy_id] = _Copy(self._database, copy_id, give_up, job_ids)
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

    def __init__(
        self,
        database: Path,
        copy_id: str,
        give_up: Callable[[], None],
        job_ids: Sequence[str],
    ) -> None:
        self.is_over = False
        """Whether its last bytes were handed out, which may be asked for again, or why there are
        none."""
        self._loop = asyncio.get_running_loop()
        self._give_up = give_up
        self._timer = self._loop.call_later(UNREAD_SECONDS, give_up)
        path = name_of_copy(database, copy_id)
        self._file = self._loop.run_in_executor(None, _copy_without_name, database, path, job_ids)

    async def read(self, offset: int) -> BackupPiece:
        """See `Copies.read`."""
        self._timer.cancel()
        self._timer = self._loop.call_later(UNREAD_SECONDS, self._give_up)
        await asyncio.wait([self._file], timeout=WAIT_SECONDS)
        if not self._file.done():
            return BackupPiece(b"", more=True)
        self.is_over = self._file.exception() is not None
        file = self._file.result()
        data = await self._loop.run_in_executor(None, os.pread, file, PIECE_BYTES, offset)
        self.is_over = offset + len(data) >= os.fstat(file).st_size
        return BackupPiece(data, more=not self.is_over)

    def close(self) -> None:
        """Let go of it, when it is made."""
        self._timer.cancel()
        self._file.add_done_callback(_close_file)

    async def closed(self) -> None:
        """Wait until nothing is left of it."""
        await asyncio.wait([self._file])


def _same_file(paths: Iterable[Path], file: Path) -> Path | None:
    """The one of these that has the same bytes as a file."""
    for path in paths:
        if path.is_file() and filecmp.cmp(path, file, shallow=False):
            return path
    return None


def _free_name(path: Path) -> Path:
    """This path, or one with a number behind it, where there is no file yet."""
    others = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    return next(one for one in itertools.chain([path], others) if not os.path.lexists(one))


def _copy_without_name(database: Path, path: Path, job_ids: Sequence[str]) -> int:
    """A copy that is gone from the disk when its file is closed; gives the descriptor."""
    copy_database(database, path)
    try:
        if job_ids:
            _keep_only(path, job_ids)
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    finally:
        path.unlink()


def _keep_only(copy: Path, job_ids: Sequence[str]) -> None:
    """Remove all other jobs from a copy. Raises JobNotFound for one that is not there, and
    StorageError."""
    try:
        with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
            for job_id in job_ids:
                if not connection.execute("SELECT 1 FROM jobs WHERE id = ?", (job_id,)).fetchone():
                    raise JobNotFound.named(job_id)
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(
                "CREATE TEMP TABLE kept AS SELECT value AS id FROM json_each(?)",
                (msgspec.json.encode(list(job_ids)).decode(),),
            )
            connection.execute("DELETE FROM jobs WHERE id NOT IN (SELECT id FROM kept)")
            forget_pruned_jobs(connection)
            set_search(connection, is_on=False)  # the index would still have words of the others
            connection.execute("DELETE FROM applied_requests")
            connection.execute("VACUUM")
    except sqlite3.Error as error:
        raise StorageError(
            f"a copy of {len(job_ids)} jobs cannot be made: {error}; is there room on the disk?"
        ) from error


def _close_file(made: asyncio.Future[int]) -> None:
    if made.exception() is None:
        os.close(made.result())
