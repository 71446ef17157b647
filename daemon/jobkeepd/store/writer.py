"""The writer: the one connection that writes and checkpoints, on a thread of its own.

What lives here: group commit, what a failure means, and when the log is checkpointed. What may
not: what a request does (that is `writes`), and answering (that is the caller's).

Requests that arrive while a commit is under way go into the next transaction together: one hop to
the thread, one sync of the disk and one hop back for all of them. A result is handed out only
after the commit that holds it. A request that fails does so alone: when something must be undone,
the transaction is rolled back and its requests are applied again, each in a transaction of its own.

What a failure means:

- A request is refused before it changed anything: nothing to undo.
- The disk is full (SQLITE_FULL): SQLite rolls back cleanly; the request fails, and later ones work
  again when there is room.
- The disk fails (SQLITE_IOERR and its like): what was being written may or may not be there after a
  restart, so nothing more is acknowledged and the writer is broken for good.

Cancelling a caller never cancels a write: it would leave a transaction open.

Checkpoints are made here too: when the log is long, in quiet moments, and at the end. They are
PASSIVE, so they never wait for a reader
(https://www.sqlite.org/pragma.html#pragma_wal_checkpoint).
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from jobkeep_protocol.errors import JobkeepError, LimitExceeded, StorageError
from jobkeep_protocol.messages import encode_reply
from jobkeepd.files import FileIdentity
from jobkeepd.processes import ProcessId
from jobkeepd.store.applied import AppliedRequests, RequestKey
from jobkeepd.store.connection import wal_path
from jobkeepd.store.transaction import Transaction
from jobkeepd.store.writes import WRITES

log = logging.getLogger(__name__)

MAX_QUEUED = 4_096
CHECKPOINT_PAGES = 1_000
"""About how long the log gets before it is checkpointed after a commit: SQLite's own default."""

MIN_WRITES = 16
"""Writes between two checkpoints at the least, however large they are."""

QUIET_SECONDS = 1.0
"""With nothing to do for this long, the log is checkpointed however short it is, and it is seen
whether another program has written."""

EXPIRE_SECONDS = 3_600.0

_LOCKED_OUT = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
"""Another program holds the lock for writing."""

_CLEAN_FAILURES = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_CONSTRAINT,
    *_LOCKED_OUT,
}
"""Primary result codes after which SQLite has rolled back, or can (https://www.sqlite.org/rescode.html)."""


class Write:
    """One request on its way through the writer.

    `outcome` is the body of the reply, or the error to answer with. For the daemon's own writes,
    which have no key, it is the reply itself.
    """

    __slots__ = ("done", "key", "outcome", "process", "request")

    def __init__(
        self,
        request: Any,
        done: Callable[[Any], None],
        key: RequestKey | None = None,
        process: ProcessId | None = None,
    ) -> None:
        self.request = request
        self.done = done
        self.key = key
        self.process = process
        self.outcome: Any = None


class _MustUndoError(Exception):
    """A request failed after it had changed something."""


class Writer:
    """Applies writes in groups. Belongs to the event loop it is started on.

    `on_broken` is called on the loop, once, when nothing can be written any more, and
    `on_foreign_write` whenever another program has written to the database.
    """

    def __init__(
        self,
        database: Path,
        connection: sqlite3.Connection,
        on_broken: Callable[[StorageError], None],
        on_foreign_write: Callable[[], None],
    ) -> None:
        self.commits = 0
        self.writes = 0
        self._loop = asyncio.get_running_loop()
        self._database = database
        self._wal = wal_path(database)
        self._connection = connection
        self._on_broken = on_broken
        self._on_foreign_write = on_foreign_write
        self._data_version = _data_version(connection)
        self._tx = Transaction(connection)
        self._applied = AppliedRequests(connection)
        self._queue: deque[Write] = deque()
        self._idle = asyncio.Event()
        self._idle.set()
        self._broken: StorageError | None = None
        self._expire_at = time.monotonic()
        self._checkpointed = 0
        self._checkpoint_after = CHECKPOINT_PAGES // 10
        self._identity = FileIdentity.of(database)
        self._wal_identity = FileIdentity.of(self._wal)
        self._batches: SimpleQueue[list[Write] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="jobkeepd-writer", daemon=True)
        self._thread.start()

    # -- on the event loop --------------------------------------------------------------------

    def submit(self, write: Write) -> None:
        """Apply this write; `write.done(outcome)` is called on the loop after the commit.

        Raises LimitExceeded when too many are waiting, StorageError when the writer is broken.
        """
        if self._broken is not None:
            raise self._broken
        if len(self._queue) >= MAX_QUEUED:
            raise LimitExceeded(
                f"{MAX_QUEUED} writes are waiting for the disk; try again later",
                {"limit": "queued_writes", "maximum": MAX_QUEUED},
            )
        self._queue.append(write)
        if self._idle.is_set():
            self._idle.clear()
            self._hand_over()

    async def drain(self) -> None:
        """Wait until everything submitted has been committed and handed out."""
        await self._idle.wait()

    async def close(self) -> None:
        """Finish what was submitted, checkpoint, and close the connection."""
        await self.drain()
        self._batches.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()

    def _hand_over(self) -> None:
        batch = list(self._queue)
        self._queue.clear()
        self._batches.put(batch)

    def _deliver(self, batch: list[Write], broken: StorageError | None) -> None:
        if broken is not None and self._broken is None:
            self._broken = broken
            self._on_broken(broken)
        if self._broken is not None:
            while self._queue:
                refused = self._queue.popleft()
                refused.outcome = self._broken
                batch.append(refused)
        has_more = bool(self._queue)
        if has_more:
            self._hand_over()  # first: the thread works while the replies go out
        for write in batch:
            write.done(write.outcome)
        if not has_more:
            self._go_on()

    def _go_on(self) -> None:
        if self._queue:
            self._hand_over()
        else:
            self._idle.set()

    # -- on the writer's thread ---------------------------------------------------------------

    def _work(self) -> None:
        while True:
            try:
                batch = self._batches.get(timeout=QUIET_SECONDS)
            except Empty:
                self._keep_house(is_quiet=True)
                continue
            if batch is None:
                break
            broken: StorageError | None = None
            try:
                self._apply_together(batch)
            except sqlite3.Error as error:
                broken = _outcome_unknown(self._database, error)
                log.critical("%s", broken)
                for write in batch:
                    write.outcome = broken
            self._loop.call_soon_threadsafe(self._deliver, batch, broken)
            if broken is not None:
                return
            self._keep_house(is_quiet=False)
        self._keep_house(is_quiet=True)

    def _apply_together(self, batch: list[Write]) -> None:
        """One transaction for the batch, or one for each of its writes when one must be undone."""
        try:
            self._transaction(batch)
        except Exception as error:
            self._roll_back()
            if isinstance(error, sqlite3.Error) and not _is_clean(error):
                raise
            if _is_locked_out(error):  # one by one each would wait as long again
                for write in batch:
                    write.outcome = _refusal(write, error)
            elif len(batch) > 1:
                for write in batch:
                    self._apply_together([write])
            else:
                batch[0].outcome = _refusal(batch[0], error)

    def _transaction(self, batch: list[Write]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._look_for_foreign_writes()
        for write in batch:
            self._apply(write)
        self._applied.store()
        self._check_files()
        self._connection.execute("COMMIT")
        self._applied.committed()
        self.commits += 1
        self.writes += len(batch)

    def _apply(self, write: Write) -> None:
        key = write.key
        before = self._connection.total_changes
        self._tx.process = write.process
        try:
            if key is not None and (earlier := self._applied.reply_to(key)) is not None:
                write.outcome = earlier
                return
            reply = WRITES[type(write.request)](self._tx, write.request)
        except JobkeepError as error:
            if self._connection.total_changes != before:
                raise _MustUndoError from error
            write.outcome = error
            return
        write.outcome = reply
        if key is not None:
            write.outcome = encode_reply(key.request_id, reply)
            self._applied.add(key, write.outcome)

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._applied.rolled_back()

    def _look_for_foreign_writes(self) -> None:
        """Rely on nothing that was learned from rows which another program may have changed."""
        version = _data_version(self._connection)
        if version == self._data_version:
            return
        self._data_version = version
        log.warning(
            "another program has written to %s; what was kept in memory is dropped. Only the "
            "daemon may write to it: stop that program",
            self._database,
        )
        self._tx.forget()
        self._applied.forget()
        self._loop.call_soon_threadsafe(self._on_foreign_write)

    def _check_files(self) -> None:
        """SQLite would go on committing into a file that has been unlinked or replaced."""
        wal = FileIdentity.of(self._wal)
        if self._wal_identity is None:
            self._wal_identity = wal
        if FileIdentity.of(self._database) != self._identity or wal != self._wal_identity:
            raise sqlite3.OperationalError(
                f"{self._database} or its -wal has been removed or replaced"
            )

    def _keep_house(self, is_quiet: bool) -> None:
        """What is done between two transactions. Its failure is no write's failure."""
        wanted = 1 if is_quiet else self._checkpoint_after
        try:
            if is_quiet:
                self._look_for_foreign_writes()
            if self.writes - self._checkpointed >= wanted:
                self._checkpoint()
            if time.monotonic() >= self._expire_at:
                self._expire_at = time.monotonic() + EXPIRE_SECONDS
                self._applied.expire()
        except sqlite3.Error as error:
            log.warning("house-keeping of %s failed, and is tried again: %s", self._database, error)

    def _checkpoint(self) -> None:
        """Move the log into the database; learn from its length when to do so again.

        The length of the file does not tell: SQLite writes the log from its beginning again after
        a checkpoint, and leaves the file as long as it was.
        """
        writes = self.writes - self._checkpointed
        self._checkpointed = self.writes
        _, pages, _ = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if pages > 0:
            self._checkpoint_after = max(MIN_WRITES, writes * CHECKPOINT_PAGES // pages)


def _data_version(connection: sqlite3.Connection) -> int:
    """Changes when another connection has committed
    (https://www.sqlite.org/pragma.html#pragma_data_version)."""
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    return int(version)


def _result_code(error: BaseException | None) -> int:
    """The primary result code of SQLite; 0 for any other error."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def _is_clean(error: sqlite3.Error) -> bool:
    """Whether nothing of the transaction can be on disk."""
    return _result_code(error) in _CLEAN_FAILURES


def _is_locked_out(error: Exception) -> bool:
    return _result_code(error) in _LOCKED_OUT


def _refusal(write: Write, error: Exception) -> JobkeepError:
    """What the sender of a write that was undone is told."""
    cause = error.__cause__ if isinstance(error, _MustUndoError) else error
    if isinstance(cause, JobkeepError):
        return cause
    name = type(write.request).__name__
    if isinstance(cause, sqlite3.Error):
        if _result_code(cause) in _LOCKED_OUT:
            return StorageError(
                "another program holds the lock for writing to the database; nothing was written. "
                "Only the daemon may write to it: stop that program, and try again",
                {"reason": "locked"},
            )
        if _result_code(cause) == sqlite3.SQLITE_FULL:
            return StorageError(
                "the disk is full; nothing was written. Reading goes on, and writing works again "
                "when there is room",
                {"reason": "disk_full"},
            )
        return StorageError(f"{name} was refused, and nothing was written: {cause}")
    log.error("a defect in %s; nothing was written", name, exc_info=cause)
    return JobkeepError(
        f"a defect of jobkeepd in {name} ({type(cause).__name__}: {cause}); nothing was written. "
        "The daemon's log has the details"
    )


def _outcome_unknown(database: Path, error: Exception) -> StorageError:
    return StorageError(
        f"writing to {database} failed ({error}); what was being written may or may not be there "
        "after a restart. The daemon stops; a client that sends its request again gets it applied "
        "once",
        {"outcome": "unknown"},
    )
