"""Applying writes: one transaction for a batch, and checkpoints.

What lives here: the transaction around a batch, alone or one by one when something must be undone;
checkpoints. What may not: what a failure means (that is `failures`), when and on which thread all
this happens, and the event loop (that is `writer`).

A result is right only after the commit that holds it. A request that fails does so alone: when
something must be undone, the transaction is rolled back and its requests are applied again, each
in a transaction of its own. A failure after which nothing may be written any more leaves the
committer broken for good.

Checkpoints are made here too: when the log is long, in quiet moments, and at the end. They are
PASSIVE, so they never wait for a reader
(https://www.sqlite.org/pragma.html#pragma_wal_checkpoint).
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from jobkeep_protocol.codec import encode_reply
from jobkeep_protocol.errors import JobkeepError, StorageError
from jobkeep_protocol.messages import Event
from jobkeep_protocol.states import utc_now
from jobkeepd import failpoints
from jobkeepd.files import FileIdentity, has_room
from jobkeepd.limits import DEFAULT_LIMITS, Limits
from jobkeepd.processes import ProcessId
from jobkeepd.store.applied import AppliedRequests, RequestKey
from jobkeepd.store.connection import wal_path
from jobkeepd.store.failures import (
    DatabaseFailed,
    FilesTakenAwayError,
    InCommitError,
    LockedOutError,
    MustUndoError,
    house_keeping_failed,
    is_failed_write,
    is_final,
    is_locked_out,
    is_undone_in_commit,
    is_want_of_room,
    refusal,
    write_failed,
)
from jobkeepd.store.log_alarm import LogAlarm
from jobkeepd.store.marks import checkpoint
from jobkeepd.store.transaction import Transaction
from jobkeepd.store.writes import WRITES

log = logging.getLogger(__name__)

LOCK_PATIENCE_SECONDS = 5.0
"""How long to wait for the lock of another program that writes to the database."""

CHECKPOINT_PAGES = 1_000
"""About how long the log gets before it is checkpointed after a commit: SQLite's own default."""

MIN_WRITES = 16
"""Writes between two checkpoints at the least, however large they are."""

EXPIRE_SECONDS = 3_600.0

FIRST_EXPIRE_SECONDS = 600.0
"""By then those who waited for a daemon to come back have sent again, whatever the clock says."""


class Write:
    """One request on its way through the writer. `size` is that of its message, in bytes.

    `outcome` is the body of the reply, or the error to answer with. For the daemon's own writes,
    which have no key, it is the reply itself.
    """

    __slots__ = ("done", "key", "outcome", "process", "request", "size")

    def __init__(
        self,
        request: Any,
        done: Callable[[Any], None],
        key: RequestKey | None = None,
        process: ProcessId | None = None,
        size: int = 0,
    ) -> None:
        self.request = request
        self.done = done
        self.key = key
        self.process = process
        self.size = size
        self.outcome: Any = None


class Committer:
    """Applies batches of writes to one connection. Used by one thread at a time, any thread.

    `writes` and `commits` count what was committed, `last_checkpoint_at` says when the log was last
    moved into the file. Once there is a `broken`, nothing may be written any more, for the reason
    it gives. `commit_seconds` is what a commit takes now, a moving average. `saw_foreign_write` is
    for its user to take note of and to set back.

    Raises StorageError when the database cannot be read.
    """

    def __init__(
        self, database: Path, connection: sqlite3.Connection, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self.commits = 0
        self.writes = 0
        self.commit_seconds = 0.0
        self.last_checkpoint_at: datetime | None = None
        self.saw_foreign_write = False
        self._noted: list[Event] = []
        self._database = database
        self._wal = wal_path(database)
        self._connection = connection
        self._patience = -1.0
        self.broken: DatabaseFailed | None = None
        self._has_failed_write = False
        try:
            self._data_version = _data_version(connection)
            self._tx = Transaction(connection)
            self._identity = FileIdentity.of(database)
            self._wal_identity = FileIdentity.of(self._wal)
            (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"the database {database} cannot be read: {error}") from error
        self._alarm = LogAlarm(database, page_bytes, limits.wal_alarm_bytes)
        self._applied = AppliedRequests(connection)
        self._expire_at = time.monotonic() + FIRST_EXPIRE_SECONDS
        self._checkpointed = 0
        self._checkpoint_after = CHECKPOINT_PAGES // 10

    def commit(self, batch: list[Write]) -> None:
        """Apply a batch and set the outcome of each write, waiting for no other program.

        Raises LockedOutError. An interrupt breaks it, as a failing disk does, and goes on.
        """
        self._commit(batch, 0.0)

    def commit_patiently(self, batch: list[Write]) -> None:
        """The same for what has no outcome yet, waiting for the lock of another program."""
        try:
            self._commit(_undecided(batch), LOCK_PATIENCE_SECONDS)
        except LockedOutError as error:
            for write in _undecided(batch):
                write.outcome = refusal(_name_of(write), error)

    def take_noted(self) -> list[Event]:
        """What was committed since this was asked last, in the order of the commits."""
        noted, self._noted = self._noted, []
        return noted

    @property
    def sequence(self) -> int:
        """The highest number that any change had."""
        return self._tx.sequence

    @property
    def needs_checkpoint(self) -> bool:
        """Whether the log has grown long."""
        return self.broken is None and self.writes - self._checkpointed >= self._checkpoint_after

    def keep_house(self, *, at_end: bool = False) -> None:
        """What is done between two transactions. Its failure is no write's failure, and breaks the
        committer when the disk is not to be trusted any more."""
        if self.broken is not None:
            return
        try:
            self._check_files()
            self._look_for_foreign_writes()
            if self.writes > self._checkpointed:
                self._checkpoint()
            if time.monotonic() >= self._expire_at:
                self._expire_at = time.monotonic() + EXPIRE_SECONDS
                self._applied.expire()
            if at_end:  # what SQLite moves when it closes may fail without a word
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except Exception as error:  # whatever it was, nobody waits here to be told
            if self._ends_all(error):
                self._break(house_keeping_failed(self._database, error))
                return
            log.warning(
                "house-keeping of %s failed, and is tried again later: %s",
                self._database,
                error,
                exc_info=not isinstance(error, sqlite3.Error),
            )

    def close(self) -> None:
        """Checkpoint, and close the connection."""
        self.keep_house(at_end=True)
        self._connection.close()

    # -- inside -------------------------------------------------------------------------------

    def _commit(self, batch: list[Write], patience: float) -> None:
        try:
            if patience != self._patience:
                self._connection.execute(f"PRAGMA busy_timeout = {round(patience * 1000)}")
                self._patience = patience
            self._apply_together(batch)
        except LockedOutError:
            raise
        except BaseException as error:  # whatever it was, nobody knows what is written
            broken = self._break(write_failed(self._database, error))
            for write in _undecided(batch):
                write.outcome = broken
            if not isinstance(error, Exception):
                raise

    def _break(self, failure: DatabaseFailed) -> DatabaseFailed:
        log.critical("%s", failure)
        self.broken = failure
        failpoints.reached("after failure")
        return failure

    def _apply_together(self, batch: list[Write]) -> None:
        """One transaction for the batch, or one for each of its writes when one must be undone."""
        try:
            self._transaction(batch)
        except BaseException as error:
            for write in batch:
                write.outcome = None
            if self._ends_all(error):
                raise
            self._roll_back()
            self._has_failed_write = is_want_of_room(error)
            if is_locked_out(error):
                raise LockedOutError from error
            if len(batch) > 1:
                for write in batch:
                    self._apply_together([write])
            else:
                batch[0].outcome = refusal(_name_of(batch[0]), error)

    def _transaction(self, batch: list[Write]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._look_for_foreign_writes()
        for write in batch:
            self._apply(write)
        self._applied.store()
        self._check_files()
        failpoints.reached("before commit")
        try:
            self._make_it_last()
        except Exception as error:
            if is_undone_in_commit(error):
                raise
            raise InCommitError from error
        self._applied.committed()
        self._noted += self._tx.noted
        self._tx.noted.clear()
        self.commits += 1
        self.writes += len(batch)

    def _make_it_last(self) -> None:
        """Commit; learn how quick the disk is."""
        began = time.perf_counter()
        self._connection.execute("COMMIT")
        failpoints.reached("after commit")
        self.commit_seconds += (time.perf_counter() - began - self.commit_seconds) / 16

    def _apply(self, write: Write) -> None:
        key = write.key
        before = self._connection.total_changes
        noted_before = len(self._tx.noted)
        self._tx.process = write.process
        try:
            if key is not None and (earlier := self._applied.reply_to(key)) is not None:
                write.outcome = earlier
                return
            reply = WRITES[type(write.request)](self._tx, write.request)
        except JobkeepError as error:
            if self._connection.total_changes != before:
                raise MustUndoError from error
            del self._tx.noted[noted_before:]
            write.outcome = error
            return
        write.outcome = reply
        if key is not None:
            write.outcome = encode_reply(key.request_id, reply)
            self._applied.add(key, write.outcome)

    def _ends_all(self, error: BaseException) -> bool:
        """Whether nothing may be written after this failure."""
        if is_failed_write(error):
            return has_room(self._database, self._wal)
        return is_final(error)

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._tx.noted.clear()
        self._applied.rolled_back()

    def _look_for_foreign_writes(self) -> None:
        """Rely on nothing that was learned from rows which another program may have changed."""
        version = _data_version(self._connection)
        is_ours, self._has_failed_write = self._has_failed_write, False
        if version == self._data_version:
            return
        self._data_version = version
        if not is_ours:  # a write of our own that failed counts for SQLite as one of others
            log.warning(
                "another program has written to %s; what was kept in memory is dropped. Only the "
                "daemon may write to it: stop that program",
                self._database,
            )
        self._tx.forget()
        self._applied.forget()
        self.saw_foreign_write = True

    def _check_files(self) -> None:
        """SQLite would go on committing into a file that has been unlinked or replaced."""
        wal = FileIdentity.of(self._wal)
        if self._wal_identity is None:
            self._wal_identity = wal
        if FileIdentity.of(self._database) != self._identity or wal != self._wal_identity:
            raise FilesTakenAwayError(f"{self._database} or its -wal has been removed or replaced")

    def _checkpoint(self) -> None:
        """Move the log into the database; learn from its length when to do so again.

        The length of the file does not tell: SQLite writes the log from its beginning again after
        a checkpoint, and leaves the file as long as it was.
        """
        writes = self.writes - self._checkpointed
        self._checkpointed = self.writes
        failpoints.reached("before checkpoint")
        pages = checkpoint(self._database, self._connection)
        failpoints.reached("after checkpoint")
        self.last_checkpoint_at = utc_now()
        self._alarm.look(pages)
        if pages > 0:
            self._checkpoint_after = max(MIN_WRITES, writes * CHECKPOINT_PAGES // pages)


def _name_of(write: Write) -> str:
    return type(write.request).__name__


def _undecided(batch: list[Write]) -> list[Write]:
    return [write for write in batch if write.outcome is None]


def _data_version(connection: sqlite3.Connection) -> int:
    """Changes when another connection has committed
    (https://www.sqlite.org/pragma.html#pragma_data_version)."""
    (version,) = connection.execute("PRAGMA data_version").fetchone()
    return int(version)
