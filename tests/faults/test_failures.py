"""What a failure of the database means: what the sender of a write is told, and who goes on."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobkeep_protocol.codec import decode_reply
from jobkeep_protocol.errors import JobkeepError, StorageError
from jobkeep_protocol.messages import (
    Delete,
    GetExecutionHistory,
    GetExecutionHistoryCount,
    GetNextSheet,
    MarkSheetStatus,
    RecordExecution,
    Status,
)
from jobkeep_protocol.states import CheckpointState, SheetStatus
from jobkeepd.store import committer as committer_module
from jobkeepd.store.committer import Committer, Write
from jobkeepd.store.connection import create_private, open_for_writing
from jobkeepd.store.failures import (
    DatabaseFailed,
    FilesTakenAwayError,
    InCommitError,
    is_final,
    is_undone_in_commit,
    refusal,
    write_failed,
)
from jobkeepd.store.migrations import migrate
from jobkeepd.store.writes import WRITES
from tests.daemon_process import DaemonProcess
from tests.faults.databases import mark_of, page_of
from tests.faults.injection import Tracing, needs_strace
from tests.support import wait_until
from tests.wire import Wire

JOB = CheckpointState(job_id="job", total_sheets=3)
RECORD = RecordExecution("job", 1, 1, output="x" * 1000)


# -- telling them apart -------------------------------------------------------------------------


def sqlite_error(code: int) -> sqlite3.Error:
    """An error as Python's module raises it for a result code."""
    error = sqlite3.OperationalError("words of SQLite")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (sqlite_error(sqlite3.SQLITE_FULL), "disk_full"),
        (sqlite_error(sqlite3.SQLITE_BUSY), "locked"),
        (sqlite_error(sqlite3.SQLITE_BUSY_SNAPSHOT), "locked"),
        (sqlite_error(sqlite3.SQLITE_NOMEM), "memory"),
        (MemoryError(), "memory"),
        (sqlite_error(sqlite3.SQLITE_CANTOPEN), "temporary_file"),
        (sqlite_error(sqlite3.SQLITE_TOOBIG), None),
        (sqlite_error(sqlite3.SQLITE_CONSTRAINT_NOTNULL), None),
        (sqlite_error(sqlite3.SQLITE_ERROR), None),
        (sqlite3.OperationalError("Could not decode to UTF-8 column"), None),
    ],
)
def test_failure_of_one_statement_refuses_one_request_and_says_that_nothing_was_written(
    error: Exception, reason: str | None
) -> None:
    assert not is_final(error)
    told = refusal("RecordExecution", error)
    assert isinstance(told, StorageError)
    assert "nothing was written" in str(told)
    assert told.data.get("reason") == reason


@pytest.mark.parametrize(
    "error",
    [
        sqlite_error(sqlite3.SQLITE_IOERR),
        sqlite_error(sqlite3.SQLITE_IOERR_FSYNC),
        sqlite_error(sqlite3.SQLITE_IOERR_WRITE),
        sqlite_error(sqlite3.SQLITE_READONLY_DBMOVED),
        sqlite_error(sqlite3.SQLITE_PROTOCOL),
        sqlite_error(sqlite3.SQLITE_INTERNAL),
        OSError("of the disk"),
        FilesTakenAwayError("gone"),
        KeyboardInterrupt(),
    ],
)
def test_failure_of_the_disk_is_final_and_its_outcome_unknown(error: BaseException) -> None:
    assert is_final(error)
    assert write_failed(Path("state.db"), error).data == {"outcome": "unknown"}


@pytest.mark.parametrize("code", [sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB])
def test_damaged_file_is_final_and_says_what_to_do(code: int) -> None:
    error = sqlite_error(code)
    assert is_final(error)
    told = write_failed(Path("state.db"), error)
    assert "nothing was written" in str(told)
    assert "run `jobkeepd --check` to see what is damaged, and restore a backup" in str(told)
    assert told.data == {"reason": "damaged"}


@pytest.mark.parametrize(
    ("code", "is_undone"),
    [
        (sqlite3.SQLITE_FULL, True),
        (sqlite3.SQLITE_BUSY, True),
        (sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY, True),
        (sqlite3.SQLITE_NOMEM, False),
        (sqlite3.SQLITE_IOERR_FSYNC, False),
        (sqlite3.SQLITE_CANTOPEN, False),
        (sqlite3.SQLITE_CORRUPT, False),
    ],
)
def test_commit_that_failed_may_have_been_made_unless_it_is_known_to_be_undone(
    code: int, is_undone: bool
) -> None:
    assert is_undone_in_commit(sqlite_error(code)) is is_undone
    failed = InCommitError()
    failed.__cause__ = sqlite_error(code)
    assert is_final(failed)
    assert write_failed(Path("state.db"), failed).data == {"outcome": "unknown"}


# -- in the committer ---------------------------------------------------------------------------


class FailingConnection(sqlite3.Connection):
    """A connection that fails in a statement, before or after it was carried out."""

    fails_in = ""
    error: Exception = MemoryError()
    comes_first = True

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        fails = bool(self.fails_in) and statement.startswith(self.fails_in)
        if fails and self.comes_first:
            raise self.error
        cursor = super().execute(statement, *values)
        if fails:
            raise self.error
        return cursor


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[FailingConnection]:
    """A database with a job, on a connection that may be told to fail."""
    database = tmp_path / "state.db"
    create_private(database)
    with closing(open_for_writing(database, "full", 0)) as first:
        migrate(first)
    with closing(
        sqlite3.connect(database, isolation_level=None, factory=FailingConnection)
    ) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "INSERT INTO jobs (id, name, total_sheets, created_at, updated_at) "
            "VALUES ('job', 'job', 3, '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z')"
        )
        yield connection


@pytest.fixture
def committer(tmp_path: Path, connection: FailingConnection) -> Committer:
    """A committer on that connection."""
    return Committer(tmp_path / "state.db", connection)


def record() -> Write:
    """A write that adds a row."""
    return Write(RECORD, print)


@pytest.mark.parametrize("comes_first", [True, False])
def test_commit_of_which_nobody_knows_is_not_repeated_and_not_acknowledged(
    committer: Committer, connection: FailingConnection, comes_first: bool
) -> None:
    connection.fails_in, connection.comes_first = "COMMIT", comes_first
    batch = [record(), record()]

    committer.commit(batch)

    assert committer.broken is not None
    assert [write.outcome for write in batch] == [committer.broken] * 2
    assert committer.broken.data == {"outcome": "unknown"}
    (count,) = connection.execute("SELECT count(*) FROM execution_history").fetchone()
    assert count == 2  # in the open transaction, or committed: applied once and not one by one
    assert committer.take_noted() == []


@pytest.mark.parametrize(
    ("number", "breaks"),
    [(errno.EDQUOT, False), (errno.EFBIG, False), (errno.ENOSPC, False), (errno.EIO, True)],
)
def test_write_that_a_quota_or_a_limit_refuses_is_refused_and_one_that_failed_breaks(
    committer: Committer,
    connection: FailingConnection,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    breaks: bool,
) -> None:
    def fallocate(*_: object) -> None:
        raise OSError(number, "no room")

    monkeypatch.setattr("os.posix_fallocate", fallocate)
    connection.fails_in, connection.error = "COMMIT", sqlite_error(sqlite3.SQLITE_IOERR_WRITE)
    write = record()

    committer.commit([write])

    assert (committer.broken is not None) is breaks
    assert isinstance(write.outcome, StorageError)
    assert write.outcome.data == ({"outcome": "unknown"} if breaks else {"reason": "disk_full"})


def test_want_of_memory_refuses_the_request_and_the_committer_goes_on(
    committer: Committer, connection: FailingConnection
) -> None:
    connection.fails_in = "INSERT INTO execution_history"
    write = record()

    committer.commit([write])

    assert isinstance(write.outcome, StorageError)
    assert write.outcome.data == {"reason": "memory"}
    connection.fails_in = ""
    committer.commit([again := record()])
    assert (committer.broken, again.outcome) == (None, 1)
    assert [event.execution_id for event in committer.take_noted()] == [1]


def test_writes_that_were_committed_alone_keep_their_outcome_when_the_next_one_breaks_it(
    committer: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(*_: object) -> None:
        raise ValueError("a defect")

    def damage(*_: object) -> None:
        raise sqlite_error(sqlite3.SQLITE_CORRUPT)

    handlers: dict[type, Any] = {**WRITES, Delete: defect, MarkSheetStatus: damage}
    monkeypatch.setattr(committer_module, "WRITES", handlers)
    mark = MarkSheetStatus("job", 1, SheetStatus.READY)
    batch = [record(), Write(Delete("job"), print), record(), Write(mark, print), record()]

    committer.commit(batch)

    first, refused, second, damaged, last = (write.outcome for write in batch)
    assert (first, second) == (1, 2)
    assert [event.execution_id for event in committer.take_noted()] == [1, 2]
    assert isinstance(refused, JobkeepError)
    assert damaged is last is committer.broken


@pytest.mark.parametrize(
    ("error", "breaks"),
    [
        (sqlite_error(sqlite3.SQLITE_IOERR_FSYNC), True),
        (sqlite_error(sqlite3.SQLITE_CORRUPT), True),
        (OSError("of the disk"), True),
        (sqlite_error(sqlite3.SQLITE_FULL), False),
        (sqlite_error(sqlite3.SQLITE_BUSY), False),
        (MemoryError(), False),
    ],
)
def test_checkpoint_that_fails_breaks_the_committer_unless_it_can_be_tried_again(
    committer: Committer, connection: FailingConnection, error: Exception, breaks: bool
) -> None:
    committer.commit([record()])
    connection.fails_in, connection.error = "PRAGMA wal_checkpoint", error

    committer.keep_house()

    assert (committer.broken is not None) is breaks
    if isinstance(committer.broken, DatabaseFailed):
        assert "every write that was acknowledged is still in the log" in str(committer.broken)
        assert committer.broken.data == {"outcome": "unknown"}


# -- in a daemon --------------------------------------------------------------------------------


def test_cell_that_cannot_be_decoded_refuses_the_requests_that_need_it_alone(
    daemon: DaemonProcess,
) -> None:
    with Wire(daemon.socket) as wire:
        wire.save(CheckpointState(job_id="spoilt", total_sheets=3))
        wire.save(JOB)
    daemon.stop()
    with closing(sqlite3.connect(daemon.database)) as connection, connection:
        connection.execute(
            "UPDATE jobs SET error_message = CAST(x'ff' AS TEXT) WHERE id = 'spoilt'"
        )
    daemon.start()

    with Wire(daemon.socket) as wire:
        for job_id in ("job", "spoilt", "job"):
            wire.send(MarkSheetStatus(job_id, 1, SheetStatus.READY))
        answers = [wire.receive()[1] for _ in range(3)]

        decode_reply(MarkSheetStatus, answers[0])
        decode_reply(MarkSheetStatus, answers[2])
        with pytest.raises(StorageError, match="nothing was written: Could not decode to UTF-8"):
            decode_reply(MarkSheetStatus, answers[1])
    daemon.stop()


def test_damaged_page_ends_the_daemon_with_what_to_do(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket) as wire:
        wire.save(JOB)
        for _ in range(3):
            wire.ask(RecordExecution("job", 1, 1, output="x" * 1_000_000))
    daemon.stop()
    page, size = page_of(daemon.database, "idx_history_job_sheet")
    daemon.start()
    with Wire(daemon.socket) as wire, daemon.database.open("r+b", buffering=0) as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)

        with pytest.raises(StorageError, match=r"is damaged.*nothing was written") as damaged:
            wire.ask(RECORD)

    assert damaged.value.data == {"reason": "damaged"}
    assert daemon.wait() == 74
    assert "run `jobkeepd --check`" in daemon.log
    assert "Traceback" not in daemon.log


@needs_strace
def test_read_that_meets_a_failing_disk_is_refused_alone(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket) as wire:
        wire.save(JOB)
        wire.ask(RecordExecution("job", 1, 1, output="x" * 3_000_000))
    daemon.stop()
    # strace counts for each thread: the one that looks at the file at the start reads some 3,100
    # pages, and the one that reads the record some 730 each time.
    tracing = Tracing(daemon, "pread64", "error=EIO:when=4000", [daemon.database])
    daemon.start()

    with Wire(daemon.socket) as wire:
        for _ in range(5):
            assert len(wire.ask(GetExecutionHistory("job")).records) == 1
        with pytest.raises(StorageError, match="the database cannot be read"):
            wire.ask(GetExecutionHistory("job"))
        assert len(wire.ask(GetExecutionHistory("job")).records) == 1
        assert wire.ask(RECORD) == 2
    daemon.stop()
    assert len(tracing.injected()) == 1


@contextmanager
def short_of_memory(pid: int) -> Iterator[None]:
    """A process that gets no more than a megabyte more, for a while."""
    (used,) = re.findall(r"VmSize:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    before = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (int(used) * 1024 + 1_000_000, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_AS, before)


def test_want_of_memory_costs_nobody_else_anything(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket) as wire, Wire(daemon.socket) as other:
        wire.save(JOB)
        assert wire.ask(GetExecutionHistoryCount("job")) == 0
        with short_of_memory(daemon.pid):
            with pytest.raises((JobkeepError, EOFError, ConnectionError)):
                other.ask(RecordExecution("job", 1, 1, output="x" * 12_000_000))
            assert wire.ask(RECORD) == 1

        assert wire.ask(RecordExecution("job", 1, 2, output="x" * 12_000_000)) == 2
        assert wire.ask(GetExecutionHistoryCount("job")) == 2
    daemon.stop()


SECOND_CHECKPOINT_FAILS = "error=EIO:when=2"
"""On the thread that makes checkpoints. The first of all is made at the start, by another."""


@needs_strace
@pytest.mark.soak
def test_failing_disk_in_a_checkpoint_ends_the_daemon_with_every_write_in_the_log(
    daemon: DaemonProcess,
) -> None:
    daemon.stop()
    tracing = Tracing(daemon, "fdatasync", SECOND_CHECKPOINT_FAILS, [daemon.database])
    daemon.start()
    with Wire(daemon.socket) as wire:
        began = mark_of(daemon.database)
        wire.save(JOB)
        wait_until(lambda: mark_of(daemon.database) != began)
        assert wire.ask(RECORD) is not None

        assert daemon.wait() == 74  # without another write, after a quiet second

    assert tracing.injected()
    assert "every write that was acknowledged is still in the log" in daemon.log
    tracing.stop()
    daemon.start()
    with Wire(daemon.socket) as wire:
        assert wire.ask(GetExecutionHistoryCount("job")) == 1


@needs_strace
def test_failing_disk_in_the_last_checkpoint_is_not_a_clean_end(daemon: DaemonProcess) -> None:
    daemon.stop()
    tracing = Tracing(daemon, "fdatasync", SECOND_CHECKPOINT_FAILS, [daemon.database])
    daemon.start()
    with Wire(daemon.socket) as wire:
        began = mark_of(daemon.database)
        wire.save(JOB)
        wait_until(lambda: mark_of(daemon.database) != began)
        wire.ask(RECORD)
        os.kill(daemon.pid, signal.SIGTERM)
        assert daemon.wait() == 74

    assert tracing.injected()
    assert daemon.log.count("stopped: every write") == 1  # the time before
    tracing.stop()
    daemon.start()
    with Wire(daemon.socket) as wire:
        assert wire.load()[0].revision == 1


@needs_strace
def test_full_disk_in_a_checkpoint_is_logged_and_the_next_one_makes_up_for_it(
    daemon: DaemonProcess,
) -> None:
    daemon.stop()
    tracing = Tracing(daemon, "pwrite64", "error=ENOSPC:when=2", [daemon.database])
    daemon.start()
    with Wire(daemon.socket) as wire:
        wire.save(JOB)
        wait_until(lambda: "house-keeping of" in daemon.log)
        assert "is tried again later: database or disk is full" in daemon.log

        assert wire.ask(RECORD) is not None
        assert wire.ask(GetNextSheet("job")) == 1
        assert wire.ask(Status()).writes == 2
    daemon.stop()
    assert b"x" * 1000 in daemon.database.read_bytes()
    assert len(tracing.injected()) == 1
