"""The database file: refused when it is not ours, and what happens when it is taken away."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from jobkeep_protocol.errors import StorageError
from jobkeep_protocol.messages import RecordExecution
from jobkeep_protocol.states import CheckpointState
from jobkeepd.store.schema import SCHEMA_VERSION
from tests.daemon_process import DaemonProcess
from tests.wire import Wire

NEWER = SCHEMA_VERSION + 1
JOB = CheckpointState(job_id="job", total_sheets=3)


def execute(database: Path, script: str) -> None:
    """Change a database that no daemon has."""
    connection = sqlite3.connect(database)
    connection.executescript(script)
    connection.close()


# -- files that are not ours --------------------------------------------------------------------


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is no database at all\n" * 1000)


def _foreign(path: Path) -> None:
    execute(path, "CREATE TABLE people (name TEXT); INSERT INTO people VALUES ('x');")


def _foreign_with_a_log(path: Path) -> None:
    execute(path, "PRAGMA journal_mode = WAL; CREATE TABLE people (name TEXT);")


def _older(path: Path) -> None:
    execute(
        path,
        "CREATE TABLE schema_version (version INTEGER, applied_at TEXT);"
        "INSERT INTO schema_version VALUES (3, 'then');",
    )


def _version(version: int) -> str:
    return f"INSERT INTO schema_version VALUES ({version}, 'then');"  # noqa: S608 # a number


def _newer(path: Path) -> None:
    execute(
        path,
        "CREATE TABLE schema_version (version INTEGER, applied_at TEXT);"
        + _version(SCHEMA_VERSION)
        + _version(NEWER),
    )


def _truncated(path: Path) -> None:
    execute(path, "CREATE TABLE schema_version (version INTEGER);")
    path.write_bytes(path.read_bytes()[:2_000])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_garbage, "cannot be read as an SQLite database"),
        (_truncated, "cannot be read as an SQLite database"),
        (_foreign, "without a table `schema_version`, so it is not jobkeep's"),
        (_foreign_with_a_log, "without a table `schema_version`, so it is not jobkeep's"),
        (_older, "schema version 3, from an earlier tool"),
        (
            _newer,
            f"schema version {NEWER}, and this jobkeepd knows up to {SCHEMA_VERSION}; install a "
            "newer jobkeep",
        ),
    ],
)
def test_file_that_is_not_ours_is_refused_and_not_changed_by_a_byte(
    daemon_process: DaemonProcess, make: Callable[[Path], None], words: str
) -> None:
    make(daemon_process.database)
    before = daemon_process.database.read_bytes()

    daemon_process.spawn()

    assert daemon_process.wait() == 1
    assert words in daemon_process.log
    assert "Traceback" not in daemon_process.log
    assert daemon_process.database.read_bytes() == before
    assert not daemon_process.socket.exists()


def test_newer_file_with_a_log_from_a_kill_is_refused_with_both_unchanged(
    daemon: DaemonProcess,
) -> None:
    with Wire(daemon.socket) as wire:
        wire.save(JOB)
    daemon.stop()
    execute(daemon.database, _version(NEWER))
    keeper = sqlite3.connect(daemon.database)  # keeps the log from being folded in
    keeper.execute("SELECT * FROM jobs").fetchall()
    with sqlite3.connect(daemon.database) as other:
        other.execute("UPDATE jobs SET name = 'from a newer daemon'")
    other.close()
    log = daemon.database.with_name(daemon.database.name + "-wal")
    before = (daemon.database.read_bytes(), log.read_bytes())

    daemon.spawn()

    assert daemon.wait() == 1
    assert f"schema version {NEWER}" in daemon.log
    assert (daemon.database.read_bytes(), log.read_bytes()) == before
    assert before[1]
    keeper.close()


def test_empty_file_becomes_a_database(daemon_process: DaemonProcess) -> None:
    daemon_process.database.touch()
    daemon_process.start()
    with Wire(daemon_process.socket) as wire:
        assert wire.save(JOB).revision == 1


def test_directory_in_place_of_the_database_is_refused(daemon_process: DaemonProcess) -> None:
    daemon_process.database.mkdir()
    daemon_process.spawn()
    assert daemon_process.wait() == 1
    assert f"the database {daemon_process.database} cannot be opened" in daemon_process.log


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


# -- files that are taken away ------------------------------------------------------------------


def _unlink(database: Path) -> None:
    database.unlink()


def _unlink_the_log(database: Path) -> None:
    database.with_name(database.name + "-wal").unlink()


def _rename(database: Path) -> None:
    database.rename(database.with_name("moved.db"))


def _replace(database: Path) -> None:
    database.rename(database.with_name("moved.db"))
    database.write_bytes(database.with_name("moved.db").read_bytes())


@pytest.mark.parametrize("take_away", [_unlink, _unlink_the_log, _rename, _replace])
def test_database_that_is_taken_away_ends_the_daemon_and_nothing_is_acknowledged(
    daemon: DaemonProcess, take_away: Callable[[Path], None]
) -> None:
    with Wire(daemon.socket) as wire:
        wire.save(JOB)
        take_away(daemon.database)

        with pytest.raises(StorageError, match="has been removed or replaced") as unknown:
            wire.ask(RecordExecution("job", 1, 1))

    assert unknown.value.data == {"outcome": "unknown"}
    assert daemon.wait() == 74
    assert "has been removed or replaced" in daemon.log
    assert "Traceback" not in daemon.log


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
