"""A daemon that is killed at one named point of its way, and started again."""

from __future__ import annotations

import itertools
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from jobkeep_protocol.errors import InvalidRequest
from jobkeepd import failpoints
from tests.daemon_process import DaemonProcess
from tests.faults.account import LARGE, SMALL, Ledger
from tests.faults.injection import Tracing, needs_strace
from tests.support import scaled, wait_until

SCHEMA_5 = Path(__file__).parents[1] / "daemon" / "schema_5.sql"


def killed_at(point: str, at: int = 1) -> dict[str, str]:
    """The environment of a daemon that is killed when it passes a point for the N-th time."""
    return {failpoints.VARIABLE: f"{point}=kill:{at}"}


# -- in a transaction ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "is_applied"),
    [("before commit", False), ("after commit", True), ("before acknowledgement", True)],
)
def test_write_whose_reply_is_lost_to_a_kill_is_applied_once_when_it_is_sent_again(
    daemon_process: DaemonProcess, point: str, is_applied: bool
) -> None:
    daemon, ledger = daemon_process, Ledger()
    daemon.start(environment=killed_at(point, 5))
    ledger.write(daemon.socket, [SMALL] * 5)
    assert daemon.wait() == -signal.SIGKILL
    acknowledged, unanswered = len(ledger.acknowledged), len(ledger.unanswered)

    with closing(sqlite3.connect(daemon.database)) as connection:
        jobs, attempts = connection.execute(
            "SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM execution_history)"
        ).fetchone()
    daemon.start()
    ledger.send_again(daemon.socket)
    daemon.stop()

    assert (acknowledged, unanswered) == (4, 1)
    assert jobs + attempts == acknowledged + is_applied
    ledger.assert_is_kept_by(daemon.database)


def test_kills_among_large_and_pipelined_writes_lose_and_double_none(
    daemon_process: DaemonProcess,
) -> None:
    daemon, ledger = daemon_process, Ledger()
    for point, at in [("before commit", 3), ("after commit", 4), ("before acknowledgement", 6)]:
        daemon.start(environment=killed_at(point, at))
        while daemon.is_running:
            ledger.write(daemon.socket, [LARGE])
        assert daemon.wait() == -signal.SIGKILL
    daemon.start()
    ledger.send_again(daemon.socket)
    daemon.stop()
    ledger.assert_is_kept_by(daemon.database)


@pytest.mark.parametrize("point", ["before checkpoint", "after checkpoint"])
def test_kill_beside_a_checkpoint_loses_nothing(daemon_process: DaemonProcess, point: str) -> None:
    daemon, ledger = daemon_process, Ledger()
    daemon.start(environment=killed_at(point))
    while daemon.is_running:
        ledger.write(daemon.socket, [SMALL] * 5)
    assert daemon.wait() == -signal.SIGKILL
    daemon.start()
    ledger.send_again(daemon.socket)
    daemon.stop()
    ledger.assert_is_kept_by(daemon.database)


# -- in a migration -----------------------------------------------------------------------------


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
    older.spawn(environment={failpoints.VARIABLE: "after migration statement=error:20"})
    assert older.wait() == 1
    assert "bringing it to 6 failed: [Errno 5] failpoint 'after migration statement'" in older.log
    assert "Traceback" not in older.log
    assert_the_next_start_completes_it(older, migrated)


# -- setting them -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "after comit=kill",
        "after commit",
        "after commit=explode",
        "after commit=kill:0",
        "after commit=kill:x",
        "after commit=kill,,",
    ],
)
def test_failpoint_that_cannot_be_understood_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"expected POINT=ACTION or POINT=ACTION:N.*hang"):
        failpoints.arm(text)
    failpoints.reached("after commit")  # and nothing is set


def test_daemon_with_a_failpoint_it_does_not_know_does_not_start(
    daemon_process: DaemonProcess,
) -> None:
    daemon_process.spawn(environment={failpoints.VARIABLE: "after comit=kill"})
    assert daemon_process.wait() == 2
    assert "JOBKEEPD_FAILPOINTS has 'after comit=kill'" in daemon_process.log
    assert not daemon_process.database.exists()


def test_daemon_that_is_made_to_fail_says_so_at_its_start(daemon_process: DaemonProcess) -> None:
    daemon_process.start(
        environment={failpoints.VARIABLE: "after commit=kill:1000, before commit=hang:1000"}
    )
    warning = "this daemon is made to fail (after commit=kill:1000, before commit=hang:1000)"
    assert warning in daemon_process.log
