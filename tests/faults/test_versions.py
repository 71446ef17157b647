"""A database with the log that an earlier version left at kill -9: everything in them is there."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from jobkeep_protocol.messages import (
    ClaimNextSheet,
    GetExecutionHistory,
    GetExecutionHistoryCount,
    Load,
    Status,
)
from jobkeep_protocol.states import JobStatus, SheetStatus
from jobkeepd.store.connection import wal_path
from jobkeepd.store.schema import SCHEMA_VERSION
from tests.daemon.counters import assert_counters_are_right
from tests.daemon_process import DaemonProcess
from tests.faults.golden import CLIENT, DATA, JOBS, LAST, LAST_ID, unpack
from tests.wire import Wire

VERSIONS = [5, 6, 7]


@pytest.fixture(params=VERSIONS)
def inherited(daemon_process: DaemonProcess, request: pytest.FixtureRequest) -> DaemonProcess:
    """A daemon of this version, not started yet, on what an earlier one left."""
    unpack(request.param, daemon_process.database)
    return daemon_process


def test_there_are_files_of_every_version_that_is_opened() -> None:
    kept = {path.name for path in DATA.iterdir()}
    assert kept == {f"schema_{version}.db{log}.gz" for version in VERSIONS for log in ("", "-wal")}
    assert max(VERSIONS) == SCHEMA_VERSION, "add files of this version: tests/faults/golden.py"


def test_everything_in_the_log_of_an_earlier_version_is_there(inherited: DaemonProcess) -> None:
    inherited.start()

    with Wire(inherited.socket, CLIENT) as wire:
        for job_id, sheets in JOBS.items():
            for sheet, attempts in sheets.items():
                assert wire.ask(GetExecutionHistoryCount(job_id, sheet)) == attempts
        assert wire.ask(Load("deleted")) is None
        job, sheets_of_it = wire.load("in the log")
        claimed = wire.load("in both")[1][1]
        newest = wire.ask(GetExecutionHistory("in the log", limit=1)).records[0]
        assert wire.ask(Status()).schema_version == SCHEMA_VERSION

    assert job.extra == sheets_of_it[1].extra == {"kept": ["as", {"it": None}, "was ü"]}
    assert sheets_of_it[1].status is SheetStatus.COMPLETED
    assert (newest["attempt_num"], newest["output"]) == (LAST.attempt_num, LAST.output)
    # Those who ran the one and had claimed the sheet of the other are dead.
    assert job.status is JobStatus.PAUSED
    assert claimed.status is SheetStatus.PENDING


def test_reply_that_an_earlier_version_kept_answers_the_request_when_it_is_sent_again(
    inherited: DaemonProcess,
) -> None:
    inherited.start()

    with Wire(inherited.socket, CLIENT) as wire:
        again = wire.ask(LAST, LAST_ID)
        page = wire.ask(GetExecutionHistory("in the log", LAST.sheet_num))

    assert [record["id"] for record in page.records] == [again]


def test_what_an_earlier_version_left_can_be_worked_on(inherited: DaemonProcess) -> None:
    inherited.start()
    with Wire(inherited.socket) as wire:
        assert wire.ask(ClaimNextSheet("in both")) == 1
        assert wire.ask(LAST) is not None
    inherited.stop()

    with closing(sqlite3.connect(inherited.database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert_counters_are_right(connection)


def test_copy_that_a_migration_makes_has_what_was_in_the_log(
    daemon_process: DaemonProcess,
) -> None:
    unpack(5, daemon_process.database)
    assert b"in the log" not in daemon_process.database.read_bytes()
    assert b"in the log" in wal_path(daemon_process.database).read_bytes()

    daemon_process.start()

    [copy] = daemon_process.database.parent.glob("state.db.v5-*")
    with closing(sqlite3.connect(copy)) as connection:
        (attempts,) = connection.execute(
            "SELECT count(*) FROM execution_history WHERE job_id = 'in the log'"
        ).fetchone()
        (version,) = connection.execute("SELECT max(version) FROM schema_version").fetchone()
    assert (attempts, version) == (4, 5)
