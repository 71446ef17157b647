"""The store: apply these writes as one transaction, answer this read.

What lives here: opening and closing the database as a whole. Nothing outside this package knows
SQLite. What may not: who asks, and what is to follow from an answer.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from jobkeep_protocol.codec import encode_part
from jobkeep_protocol.errors import JobkeepError, StorageError
from jobkeep_protocol.messages import BackupPiece, ImportJobs, Load, RecordExecution
from jobkeep_protocol.request import Read
from jobkeep_protocol.transfer import ImportStep
from jobkeepd.events import Events
from jobkeepd.files import has_room, size_of
from jobkeepd.limits import DEFAULT_LIMITS, Limits
from jobkeepd.processes import ProcessId
from jobkeepd.store import learning, pruning, reads, reports  # noqa: F401 # found in READS, WRITES
from jobkeepd.store import search as _search  # noqa: F401 # found in READS
from jobkeepd.store.applied import RequestKey
from jobkeepd.store.cache import DEFAULT_CACHE_BYTES, StateCache
from jobkeepd.store.committer import Write
from jobkeepd.store.connection import (
    Durability,
    create_private,
    make_durable,
    open_for_writing,
    wal_path,
)
from jobkeepd.store.copies import Copies, copy_to_new_file, remove_leftovers
from jobkeepd.store.failures import is_failed_write, is_final
from jobkeepd.store.filling import Filling
from jobkeepd.store.fits import check_request_fits
from jobkeepd.store.guard import admit
from jobkeepd.store.imports import Imports
from jobkeepd.store.lock import DatabaseLock
from jobkeepd.store.marks import checkpoint
from jobkeepd.store.migrations import migrate
from jobkeepd.store.outputs import with_output_cut
from jobkeepd.store.own_writes import apply
from jobkeepd.store.readers import Readers
from jobkeepd.store.schema import SCHEMA_VERSION
from jobkeepd.store.search_tables import set_search
from jobkeepd.store.shrinkable import make_shrinkable
from jobkeepd.store.writer import Writer
from jobkeepd.store.writes import Released, ReleaseProcess, jobs_changed_by

log = logging.getLogger(__name__)


class Store:
    """One open database. Belongs to the event loop it is opened on.

    `on_broken` is called once when nothing can be written any more. Up to `cache_bytes` of states
    are kept in memory as they were read. With `search`, the texts are indexed.
    """

    schema_version = SCHEMA_VERSION

    def __init__(
        self,
        database: Path,
        durability: Durability,
        on_broken: Callable[[StorageError], None],
        lock_patience: float = 0.0,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        limits: Limits = DEFAULT_LIMITS,
        search: bool = True,
    ) -> None:
        """Take the lock, open the file, bring its schema to this version.

        Raises DatabaseInUse when another process has it, StorageError when it cannot be used.
        """
        self.database = database
        self.durability = durability
        self._cache = StateCache(cache_bytes)
        self._lock = DatabaseLock(database, lock_patience)
        try:
            admit(database)
            create_private(database)
            remove_leftovers(database)
            connection = open_for_writing(database, durability, limits.wal_keep_bytes)
            try:
                make_durable(connection, database)  # before anything is written on top of it
                migrate(connection)
                make_shrinkable(database, connection)
                wants_filling = set_search(connection, is_on=search)
                _begin_log(database, connection)
                self._writer = Writer(
                    database, connection, on_broken, self._cache.all_changed, limits, search
                )
            except BaseException:
                connection.close()
                raise
        except BaseException:
            self._lock.release()
            raise
        self._filling = Filling(self._writer) if wants_filling else None
        self._readers = Readers(database, limits)
        self._copies = Copies(database)
        self._imports = Imports(database, self._import)

    def known(self, request: Read[Any]) -> Any:
        """The reply to a read, if it is in memory; else None."""
        if isinstance(request, Load) and request.after_sheet is None:
            return self._cache.get(request.job_id)
        return None

    async def read(self, request: Read[Any]) -> Any:
        """The reply to a read. Sees every write that was acknowledged before."""
        if isinstance(request, Load) and request.after_sheet is None:
            return await self._load(request)
        return await reads.READS[type(request)](self._readers, request)

    async def read_for_itself(self, request: Read[Any]) -> Any:
        """The same for what the daemon wants to know: no limit of time ends it."""
        return await reads.READS[type(request)](self._readers.patient(), request)

    def submit(
        self,
        request: Any,
        key: RequestKey,
        process: ProcessId | None,
        done: Callable[[bytes | JobkeepError], None],
        size: int,
    ) -> None:
        """Apply a write whose message has `size` bytes; after its commit, `done` gets the body of
        the reply, or the error.

        Of an output that is longer than is kept, head and tail are. Raises LimitExceeded or
        StorageError when it is not taken on.
        """
        if isinstance(request, RecordExecution):
            request = with_output_cut(request, self._writer.limits.max_kept_output_bytes)
        check_request_fits(request, size)
        after = partial(self._written, request, done)
        self._writer.submit(Write(request, after, key, process, size))

    async def apply(self, request: Any) -> Any:
        """Apply a write of the daemon's own; gives its reply. Raises what it is refused with."""
        return await apply(self._writer, request, partial(self._forget_changed_by, request))

    async def release(self, process: ProcessId) -> Released:
        """Pause the jobs of a dead process and give back its sheets."""
        request = ReleaseProcess(process)
        released = await apply(self._writer, request, self._cache.all_changed)
        assert isinstance(released, Released), released
        return released

    def start_backup(self, job_ids: Sequence[str] = ()) -> str:
        """`Copies.start`."""
        return self._copies.start(job_ids)

    async def read_backup(self, copy_id: str, offset: int) -> BackupPiece:
        """`Copies.read`."""
        return await self._copies.read(copy_id, offset)

    def start_import(self) -> str:
        """`Imports.start`."""
        return self._imports.start()

    async def write_import(self, import_id: str, offset: int, data: bytes) -> int:
        """`Imports.receive`."""
        return await self._imports.receive(import_id, offset, data)

    async def import_jobs(self, request: ImportJobs) -> ImportStep:
        """`Imports.step`."""
        return await self._imports.step(request)

    async def copy_to(self, path: Path) -> int:
        """`copy_to_new_file`."""
        return await asyncio.to_thread(copy_to_new_file, self.database, path)

    async def jobs_by_status(self) -> dict[str, int]:
        """How many jobs there are of each status that has any."""
        return await reads.jobs_by_status(self._readers)

    async def claims_by_process(self) -> dict[int, int]:
        """How many sheets each process holds, by its pid."""
        return await reads.claims_by_process(self._readers)

    async def known_processes(self) -> list[ProcessId]:
        """The processes that, as far as is known here, run jobs, hold claims or work on jobs."""
        return await reads.known_processes(self._readers)

    @property
    def events(self) -> Events:
        """What was committed last."""
        return self._writer.events

    @property
    def writes(self) -> int:
        """Writes committed since the database was opened."""
        return self._writer.writes

    @property
    def commits(self) -> int:
        """Transactions committed since the database was opened."""
        return self._writer.commits

    @property
    def batch_times(self) -> tuple[float, float]:
        """When the transaction whose outcomes are handed out now began, and when it was on disk, by
        `time.monotonic`."""
        return self._writer.batch_times

    @property
    def last_checkpoint_at(self) -> datetime | None:
        """When the log was last moved into the file since the database was opened."""
        return self._writer.last_checkpoint_at

    @property
    def rates(self) -> tuple[float, float]:
        """Writes and transactions committed a second, lately."""
        return self._writer.rates

    @property
    def commit_seconds(self) -> float:
        """What a commit takes now, a moving average."""
        return self._writer.commit_seconds

    @property
    def database_bytes(self) -> int:
        """The size of the file. Raises StorageError when it cannot be looked at."""
        return _size(self.database)

    @property
    def wal_bytes(self) -> int:
        """The size of the write-ahead log. Raises StorageError when it cannot be looked at."""
        return _size(wal_path(self.database))

    @property
    def queued_writes(self) -> int:
        """Writes that wait for the disk."""
        return self._writer.queued

    @property
    def queued_bytes(self) -> int:
        """How much is in them."""
        return self._writer.queued_bytes

    @property
    def is_alive(self) -> bool:
        """Whether the writer moves."""
        return self._writer.is_alive

    def reconfigure(self, limits: Limits) -> None:
        """Go by these limits from now on, but for what is set when the database is opened."""
        self._writer.limits = limits
        self._writer.events.limits = limits
        self._readers.limits = limits

    async def drain(self) -> None:
        """Wait until all that was submitted is committed."""
        await self._writer.drain()

    async def close(self) -> None:
        """Commit what was submitted, checkpoint, close, and give the lock back."""
        await self._copies.close()
        await self._imports.close()
        await self._readers.close()
        if self._filling is not None:
            await self._filling.close()
        await self._writer.close()
        self._lock.release()

    async def _load(self, request: Load) -> msgspec.Raw | None:
        """The first page of a state, which is kept in memory when it is all of it."""
        with self._cache.reading(request.job_id) as reading:
            page = await reads.load(self._readers, request)
            if page is None:
                return None
            reply = encode_part(page)
            if not page.more:
                self._cache.put(request.job_id, reply, reading)
        return reply

    async def _import(self, request: Any) -> Any:
        """`apply`, for what a client could have sent too."""
        check_request_fits(request, sys.maxsize)
        return await self.apply(request)

    def _written(
        self, request: Any, done: Callable[[bytes | JobkeepError], None], outcome: Any
    ) -> None:
        self._forget_changed_by(request)
        done(outcome)

    def _forget_changed_by(self, request: Any) -> None:
        for job_id in jobs_changed_by(request):
            self._cache.changed(job_id)


def _size(path: Path) -> int:
    try:
        return size_of(path)
    except OSError as error:
        raise StorageError(f"the file {path} cannot be looked at: {error.strerror}") from error


def _begin_log(database: Path, connection: sqlite3.Connection) -> None:
    """Move what the last daemon left into the file, and begin a log of our own. Where there is no
    room for that, it is done later."""
    try:
        checkpoint(database, connection)
    except (sqlite3.Error, OSError) as error:
        wants_room = is_failed_write(error) and not has_room(database, wal_path(database))
        if is_final(error) and not wants_room:
            raise StorageError(
                f"the log of {database} cannot be begun anew: {error}; is the disk in order?"
            ) from error
        log.warning("the log of %s could not be begun anew, and is later: %s", database, error)
