"""The store: apply these writes as one transaction, answer this read.

What lives here: opening and closing the database as a whole. Nothing outside this package knows
SQLite. What may not: who asks, and what is to follow from an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobkeep_protocol.errors import JobkeepError, StorageError
from jobkeep_protocol.messages import Read
from jobkeepd.processes import ProcessId
from jobkeepd.store import reads
from jobkeepd.store.applied import RequestKey
from jobkeepd.store.connection import (
    Durability,
    create_private,
    open_for_looking,
    open_for_writing,
    wal_path,
)
from jobkeepd.store.lock import DatabaseLock
from jobkeepd.store.migrations import check, migrate
from jobkeepd.store.readers import Readers
from jobkeepd.store.schema import SCHEMA_VERSION
from jobkeepd.store.writer import Write, Writer
from jobkeepd.store.writes import Released, ReleaseProcess


class Store:
    """One open database. Belongs to the event loop it is opened on.

    `on_broken` is called once when nothing can be written any more.
    """

    schema_version = SCHEMA_VERSION

    def __init__(
        self,
        database: Path,
        durability: Durability,
        on_broken: Callable[[StorageError], None],
        lock_patience: float = 0.0,
    ) -> None:
        """Take the lock, open the file, bring its schema to this version.

        Raises DatabaseInUse when another process has it, StorageError when it cannot be used.
        """
        self.database = database
        self.durability = durability
        self._lock = DatabaseLock(database, lock_patience)
        try:
            create_private(database)
            with open_for_looking(database) as looking:
                check(looking)
            connection = open_for_writing(database, durability)
            try:
                migrate(connection)
                self._writer = Writer(database, connection, on_broken)
            except BaseException:
                connection.close()
                raise
        except BaseException:
            self._lock.release()
            raise
        self._readers = Readers(database)

    async def read(self, request: Read[Any]) -> Any:
        """The reply to a read. Sees every write that was acknowledged before."""
        return await reads.READS[type(request)](self._readers, request)

    def submit(
        self,
        request: Any,
        key: RequestKey,
        process: ProcessId | None,
        done: Callable[[bytes | JobkeepError], None],
    ) -> None:
        """Apply a write; after its commit, `done` gets the body of the reply, or the error.

        Raises LimitExceeded or StorageError when it is not taken on.
        """
        self._writer.submit(Write(request, done, key, process))

    async def release(self, process: ProcessId) -> Released:
        """Pause the jobs of a dead process and give back its sheets."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._writer.submit(Write(ReleaseProcess(process), done.set_result))
        outcome = await asyncio.shield(done)
        if isinstance(outcome, JobkeepError):
            raise outcome
        assert isinstance(outcome, Released), outcome
        return outcome

    async def jobs_by_status(self) -> dict[str, int]:
        """How many jobs there are of each status that has any."""
        return await reads.jobs_by_status(self._readers)

    async def known_processes(self) -> list[ProcessId]:
        """The processes that, as far as is known here, run jobs, hold claims or work on jobs."""
        return await reads.known_processes(self._readers)

    @property
    def writes(self) -> int:
        """Writes committed since the database was opened."""
        return self._writer.writes

    @property
    def commits(self) -> int:
        """Transactions committed since the database was opened."""
        return self._writer.commits

    @property
    def database_bytes(self) -> int:
        """The size of the file."""
        return self.database.stat().st_size

    @property
    def wal_bytes(self) -> int:
        """The size of the write-ahead log."""
        wal = wal_path(self.database)
        return wal.stat().st_size if wal.exists() else 0

    async def drain(self) -> None:
        """Wait until all that was submitted is committed."""
        await self._writer.drain()

    async def close(self) -> None:
        """Commit what was submitted, checkpoint, close, and give the lock back."""
        await self._readers.close()
        await self._writer.close()
        self._lock.release()
