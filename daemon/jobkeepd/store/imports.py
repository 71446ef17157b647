"""Files of other databases that are received, and the jobs in them that are imported.

What lives here: receiving a file, opening it, and the order of its jobs. What may not: what is
written for a job (that is `transfer`), and what becomes of older tables (that is `migrations`).

The file lies beside the database and is opened as one of our own would be: an older one is brought
to this version first. Its jobs then go through the writer in small writes, like those of a client.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from jobkeep_protocol.errors import InvalidRequest, JobNotFound, LimitExceeded, StorageError
from jobkeep_protocol.messages import ImportHistory, ImportJob, ImportJobs
from jobkeep_protocol.transfer import NOT_IN_FILE, ImportBegun, ImportedJob, ImportStep
from jobkeepd.files import has_room
from jobkeepd.store.connection import create_private, index_path, journal_path, path_of, wal_path
from jobkeepd.store.copies import name_of_copy
from jobkeepd.store.earlier.cells import NotUnderstoodError, moment
from jobkeepd.store.migrations import bring_to_this_version, check, schema_version
from jobkeepd.store.schema import SCHEMA_VERSION
from jobkeepd.store.transfer import executions_in, failures_in, job_in, jobs_in, place_of

MAX_IMPORTS = 2
UNUSED_SECONDS = 60.0
"""After this long without a request a file is given up."""

WAIT_SECONDS = 1.0
"""How long whoever asks is kept waiting for the next job that is done."""

MAX_JOBS_TOLD = 1_000


Writing: TypeAlias = Callable[[Any], Awaitable[Any]]
"""Gives the reply to a write of the daemon's own, after its commit."""


class Imports:
    """The files that are received and imported at this time. Belongs to the event loop it is used
    on."""

    def __init__(self, database: Path, write: Writing) -> None:
        self._database = database
        self._write = write
        self._one_at_a_time = asyncio.Lock()
        self._imports: dict[str, _Import] = {}

    def start(self) -> str:
        """Begin to receive a file; gives its id.

        Raises LimitExceeded when too many are under way, StorageError when no file can be made.
        """
        for import_id in [one for one, found in self._imports.items() if found.is_over]:
            self._give_up(import_id)
        if len(self._imports) >= MAX_IMPORTS:
            raise LimitExceeded(
                f"{MAX_IMPORTS} imports are under way; wait for their end, or for "
                f"{UNUSED_SECONDS:g} s after one was broken off",
                {"limit": "imports", "maximum": MAX_IMPORTS},
            )
        import_id = secrets.token_hex(8)
        path = name_of_copy(self._database, import_id)
        create_private(path)
        give_up = partial(self._give_up, import_id)
        self._imports[import_id] = _Import(path, self._write, give_up, self._one_at_a_time)
        return import_id

    async def receive(self, import_id: str, offset: int, data: bytes) -> int:
        """Some bytes of a file; gives how many it has. Raises StorageError without room."""
        return await self._find(import_id).receive(offset, data)

    async def step(self, request: ImportJobs) -> ImportStep:
        """What has become of jobs since. Raises StorageError for a file that cannot be imported."""
        return await self._find(request.import_id).step(request)

    async def close(self) -> None:
        """Give up all of them."""
        for import_id, one in list(self._imports.items()):
            self._give_up(import_id)
            await one.closed()

    def _find(self, import_id: str) -> _Import:
        found = self._imports.get(import_id)
        if found is None:
            raise StorageError(
                f"there is no import {import_id!r}: it is done, nobody asked for "
                f"{UNUSED_SECONDS:g} s, or the daemon was started anew; begin again, and it goes "
                "on where it was",
                {"reason": "no_import"},
            )
        return found

    def _give_up(self, import_id: str) -> None:
        self._imports.pop(import_id).close()


class _Import:
    """One file. `give_up` is called when nobody has asked for it for long."""

    def __init__(
        self, path: Path, write: Writing, give_up: Callable[[], None], turn: asyncio.Lock
    ) -> None:
        self._path = path
        self._write = write
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(UNUSED_SECONDS, give_up)
        self._turn = turn
        self._is_told = False
        self._done: list[ImportedJob] = []
        self._task: asyncio.Task[None] | None = None
        self._something_new = asyncio.Event()

    async def receive(self, offset: int, data: bytes) -> int:
        """See `Imports.receive`."""
        self._keep()
        if self._task is not None:
            raise InvalidRequest("the file is being imported already; nothing can be added to it")
        return await asyncio.to_thread(_write_at, self._path, offset, data)

    async def step(self, request: ImportJobs) -> ImportStep:
        """See `Imports.step`."""
        self._keep()
        if self._task is None:
            work = self._import_all(list(request.job_ids), request.replace)
            self._task = self._loop.create_task(work)
            self._task.add_done_callback(lambda _: self._something_new.set())
        if len(self._done) <= request.after and not self._task.done():
            self._something_new.clear()
            waiting = self._loop.create_task(self._something_new.wait())
            await asyncio.wait([waiting], timeout=WAIT_SECONDS)
            waiting.cancel()
        new = self._done[request.after : request.after + MAX_JOBS_TOLD]
        if not new and self._task.done():
            self._task.result()
        has_all = request.after + len(new) >= len(self._done)
        self._is_told = has_all and self._task.done() and self._task.exception() is None
        return ImportStep(new, more=not self._is_told)

    @property
    def is_over(self) -> bool:
        """Whether it failed, or the last of its outcomes was told: that may be asked for again."""
        if self._task is None or not self._task.done():
            return False
        return self._is_told or self._task.exception() is not None

    def close(self) -> None:
        """Stop, and remove the file."""
        self._timer.cancel()
        if self._task is None:
            _remove(self._path)
        else:
            self._task.cancel()

    async def closed(self) -> None:
        """Wait until nothing is left of it."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    def _keep(self) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(UNUSED_SECONDS, self._give_up)

    async def _import_all(self, job_ids: list[str], replace: bool) -> None:
        try:
            # One that was broken off by its client may still be at work on the same jobs.
            async with self._turn:
                with closing(await asyncio.to_thread(_open, self._path)) as connection:
                    await self._import_each(connection, job_ids, replace)
        except sqlite3.Error as error:
            raise StorageError(f"the file cannot be read: {error}") from error
        finally:
            _remove(self._path)

    async def _import_each(
        self, connection: sqlite3.Connection, job_ids: list[str], replace: bool
    ) -> None:
        for job_id in job_ids or await asyncio.to_thread(jobs_in, connection):
            self._done.append(await self._import(connection, job_id, replace))
            self._something_new.set()

    async def _import(
        self, connection: sqlite3.Connection, job_id: str, replace: bool
    ) -> ImportedJob:
        found = await asyncio.to_thread(job_in, connection, job_id)
        if found is None:
            return ImportedJob(job_id, "skipped", why=NOT_IN_FILE)
        state, sheets = found
        try:
            begun: ImportBegun = await self._write(ImportJob(state, sheets, replace))
            if begun.executions is None:
                return ImportedJob(job_id, "skipped", why=begun.why)
            return await self._import_history(connection, job_id, begun.executions)
        except (LimitExceeded, InvalidRequest, JobNotFound) as error:  # of this job, and no other
            return ImportedJob(job_id, "skipped", why=str(error))

    async def _import_history(
        self, connection: sqlite3.Connection, job_id: str, kept: int
    ) -> ImportedJob:
        count = kept
        after = await asyncio.to_thread(place_of, connection, job_id, kept)
        while True:
            batch, after = await asyncio.to_thread(executions_in, connection, job_id, after)
            if not batch:
                break
            expected = count + len(batch)
            count = await self._write(ImportHistory(job_id, count, batch))
            if count != expected:
                return ImportedJob(job_id, "skipped", count - kept, "somebody else works on it")
        failures = await asyncio.to_thread(failures_in, connection, job_id)
        await self._write(ImportHistory(job_id, count, [], failures))
        return ImportedJob(job_id, "imported", count - kept)


def _write_at(path: Path, offset: int, data: bytes) -> int:
    """Write some bytes; gives the size of the file."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            view = memoryview(data)
            while view:
                written = os.pwrite(file, view, offset)
                view, offset = view[written:], offset + written
            return os.fstat(file).st_size
        finally:
            os.close(file)
    except OSError as error:
        reason = "" if has_room(path) else "; there is no room on the disk of the database"
        raise StorageError(
            f"the file cannot be received: {error.strerror}{reason}", {"reason": "disk_full"}
        ) from error


def _open(path: Path) -> sqlite3.Connection:
    """Open a file that was received, and bring it to this version.

    Raises StorageError for one that is no database, is damaged, or is not jobkeep's or too new.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    name = path_of(connection)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA synchronous = OFF")  # it is a copy, and gone after a crash
        check(connection)
        (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            raise StorageError(f"the file is damaged: {found}; nothing was imported")
        version = schema_version(connection)
        if version == 0:
            raise StorageError("the file is an empty database; nothing was imported")
        if version != SCHEMA_VERSION:
            bring_to_this_version(connection, _time_of(connection))
    except (sqlite3.Error, OSError) as error:
        connection.close()
        raise StorageError(f"the file cannot be imported: {error}") from error
    except StorageError as error:
        connection.close()
        what = str(error).replace(name, "that was sent")
        raise StorageError(what.replace("; give another path with --db", "")) from error
    return connection


def _time_of(connection: sqlite3.Connection) -> datetime:
    """A time for what has none in an earlier tool's file: the same at each import of it, or a job
    whose import was broken off would be another one the next time."""
    try:
        (applied_at,) = connection.execute("SELECT max(applied_at) FROM schema_version").fetchone()
        return datetime.fromisoformat(moment(applied_at))
    except (sqlite3.Error, NotUnderstoodError):
        return datetime.fromtimestamp(0, UTC)


def _remove(path: Path) -> None:
    for one in (path, wal_path(path), index_path(path), journal_path(path)):
        one.unlink(missing_ok=True)
