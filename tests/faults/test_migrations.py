"""A migration that is killed, or meets a failing disk: the next start completes it, and the file is
as if nothing had been."""

from __future__ import annotations

import itertools
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from jobkeepd.failpoints import VARIABLE
from tests.daemon_process import DaemonProcess
from tests.faults.injection import Tracing, killed_at, needs_strace
from tests.support import scaled, wait_until

SCHEMA_5 = Path(__file__).parents[1] / "daemon" / "schema_5.sql"


def make_older(database: Path) -> None:
    """A file of version 5."""
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(SCHEMA_5.read_text(encoding="utf-8"))


@pytest.fixture
def older(daemon_process: DaemonProcess) -> DaemonProcess:
    """A daemon whose file is of version 5."""
    make_older(daemon_process.database)
    return daemon_process


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What that file holds after a migration that nothing disturbed."""
    undisturbed = DaemonProcess(tmp_path_factory.mktemp("undisturbed"))
    make_older(undisturbed.database)
    undisturbed.start()
    undisturbed.stop()
    return contents(undisturbed.database)


def contents(database: Path) -> list[str]:
    """All that a file holds, as SQL, but for the moment of its migration."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE schema_version SET applied_at = 'then'")
        return sorted(connection.iterdump())


def assert_the_next_start_completes_it(older: DaemonProcess, migrated: list[str]) -> None:
    """And the copy is of the file as it was."""
    older.start()
    older.stop()
    assert contents(older.database) == migrated
    original = older.database.with_name("original.db")
    original.unlink(missing_ok=True)
    make_older(original)
    assert contents(older.database.with_name("state.db.v5")) == contents(original)


@pytest.mark.parametrize(
    ("point", "at"),
    [
        ("in migration copy", 1),
        ("after migration copy", 1),
        ("after migration statement", 1),
        ("after migration statement", 20),
    ],
)
def test_migration_that_was_killed_twice_is_completed_by_the_next_start(
    older: DaemonProcess, migrated: list[str], point: str, at: int
) -> None:
    for _ in range(2):
        older.spawn(environment=killed_at(point, at))
        assert older.wait() == -signal.SIGKILL, older.log
    assert_the_next_start_completes_it(older, migrated)


def test_migration_that_was_killed_after_its_commit_is_complete(
    older: DaemonProcess, migrated: list[str]
) -> None:
    older.spawn(environment=killed_at("after migration"))
    assert older.wait() == -signal.SIGKILL, older.log
    assert_the_next_start_completes_it(older, migrated)


@pytest.mark.soak
@pytest.mark.timeout(scaled(600))
def test_migration_that_was_killed_after_any_statement_is_completed_by_the_next_start(
    older: DaemonProcess, migrated: list[str]
) -> None:
    before = older.database.read_bytes()
    for at in itertools.count(1):
        for path in older.database.parent.glob("state.db*"):
            path.unlink()
        older.database.write_bytes(before)
        older.spawn(environment=killed_at("after migration statement", at))
        wait_until(lambda: older.is_accepting or not older.is_running)
        if older.is_running:
            break
        assert older.wait() == -signal.SIGKILL, older.log
        assert_the_next_start_completes_it(older, migrated)
    assert at > 30, "there are as many statements"


@needs_strace
def test_migration_that_was_killed_half_way_through_its_copy_is_completed_by_the_next_start(
    older: DaemonProcess, migrated: list[str]
) -> None:
    copy = older.database.with_name("state.db.v5")
    tracing = Tracing(older, "pwrite64", "signal=KILL:when=9", [copy])
    older.spawn()
    assert older.wait() == -signal.SIGKILL
    assert 0 < copy.stat().st_size < older.database.stat().st_size
    tracing.stop()
    assert_the_next_start_completes_it(older, migrated)


def test_migration_that_fails_says_so_and_is_completed_by_the_next_start(
    older: DaemonProcess, migrated: list[str]
) -> None:
    older.spawn(environment={VARIABLE: "after migration statement=error:20"})
    assert older.wait() == 1
    assert "bringing it to 6 failed: [Errno 5] failpoint 'after migration statement'" in older.log
    assert "Traceback" not in older.log
    assert_the_next_start_completes_it(older, migrated)


# -- a failing disk -----------------------------------------------------------------------------


def migrate_on_a_failing_disk(older: DaemonProcess, call: str, place: int) -> int:
    """Start it once with EIO in a call; gives the number of calls that failed."""
    files = ("state.db", "state.db-wal", "state.db.v5", "state.db.v5-journal")
    paths = [older.database.with_name(name) for name in files]
    tracing = Tracing(older, call, f"error=EIO:when={place}", paths)
    older.spawn()
    wait_until(lambda: older.is_accepting or not older.is_running)
    if older.is_running:
        older.kill()
    else:
        assert older.wait() == 1, older.log
        assert len([line for line in older.log.splitlines() if " INFO " not in line]) == 1
    failed = len(tracing.injected())
    tracing.stop()
    return failed


@needs_strace
def test_copy_that_cannot_be_synced_ends_the_migration_before_it_begins(
    older: DaemonProcess, migrated: list[str]
) -> None:
    before = older.database.read_bytes()
    assert migrate_on_a_failing_disk(older, "fsync", 1) == 1
    assert "bringing it to 6 failed: [Errno 5]" in older.log
    assert older.database.read_bytes()[100:] == before[100:]  # but for its being in WAL mode
    assert_the_next_start_completes_it(older, migrated)


@needs_strace
@pytest.mark.soak
@pytest.mark.timeout(scaled(1_200))
@pytest.mark.parametrize("call", ["fsync", "fdatasync", "pwrite64", "openat"])
def test_migration_that_meets_a_failing_disk_at_any_call_is_completed_by_the_next_start(
    older: DaemonProcess, migrated: list[str], call: str
) -> None:
    before = older.database.read_bytes()
    for place in itertools.count(1):
        for path in older.database.parent.glob("state.db*"):
            path.unlink()
        older.database.write_bytes(before)
        older.database.with_name("jobkeepd.log").unlink(missing_ok=True)
        if not migrate_on_a_failing_disk(older, call, place):
            break
        assert_the_next_start_completes_it(older, migrated)
    assert place > 1
