"""The database file while a daemon has it: rows it cannot read, and other programs."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from jobkeep_protocol.errors import StorageError
from jobkeep_protocol.states import CheckpointState
from tests.daemon_process import DaemonProcess
from tests.wire import Wire

JOB = CheckpointState(job_id="job", total_sheets=3)


def execute(database: Path, script: str) -> None:
    """Change a database that no daemon has."""
    connection = sqlite3.connect(database)
    connection.executescript(script)
    connection.close()


def test_row_that_no_state_can_hold_is_named_and_hides_no_other(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket) as wire:
        wire.save(JOB)
        wire.save(CheckpointState(job_id="spoilt", total_sheets=1))
    daemon.stop()
    execute(daemon.database, "UPDATE jobs SET status = 'asleep' WHERE id = 'spoilt'")

    daemon.start()

    with Wire(daemon.socket) as wire:
        with pytest.raises(StorageError, match=r"status is 'asleep'.*begins with \['spoilt'"):
            wire.load("spoilt")
        assert wire.load()[0].status == "pending"


# -- another program ----------------------------------------------------------------------------


def test_a_program_that_holds_the_lock_for_writing_is_named_as_the_reason_and_does_no_harm(
    daemon: DaemonProcess,
) -> None:
    with Wire(daemon.socket) as wire:
        wire.save(CheckpointState(job_id="before", total_sheets=1))
        other = sqlite3.connect(daemon.database, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(StorageError, match="another program holds the lock for writing"):
            wire.save(CheckpointState(job_id="during", total_sheets=1))
        assert wire.load("before")[0].revision == 1

        other.execute("ROLLBACK")
        other.close()
        assert wire.save(CheckpointState(job_id="after", total_sheets=1)).revision == 1
    daemon.stop()
