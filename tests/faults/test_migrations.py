"""A migration that is killed, or meets a failing disk: the next start completes it, and the file is
as if nothing had been."""

from __future__ import annotations

import itertools
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jobkeepd.failpoints import VARIABLE
from tests.daemon import old_files
from tests.daemon_process import DaemonProcess
from tests.faults.injection import Tracing, killed_at, needs_strace
from tests.support import scaled, wait_until

SCHEMA_5 = Path(__file__).parents[1] / "daemon" / "schema_5.sql"


VERSIONS = (*old_files.VERSIONS, 5)
A_FEW_VERSIONS = (2, 5)
"""Of each way: by way of the tables of version 5, and from there."""


def make_older(database: Path, version: int) -> None:
    """A file of an older version, with something in every table and of every kind."""
    if version == 5:
        with closing(sqlite3.connect(database)) as connection:
            connection.executescript(SCHEMA_5.read_text(encoding="utf-8"))
        return
    job, sheet, attempt = old_files.JOB, old_files.SHEET, old_files.ATTEMPT
    old_files.make_old_file(
        database,
        version,
        [job, {**job, "id": "odd", "status": "odd", "unknown": "column"}],
        [sheet, {**sheet, "sheet_num": 0}, {**sheet, "job_id": "gone", "confidence_score": 2}],
        [attempt, {**attempt, "id": -1, "job_id": "gone"}],
        and_then="CREATE INDEX idx_history ON execution_history(job_id);"
        "CREATE TABLE claims (name TEXT); INSERT INTO claims VALUES ('not ours');"
        "CREATE TRIGGER done AFTER UPDATE ON jobs BEGIN DELETE FROM claims; END;",
    )


class Older:
    """A daemon whose file is of an older version, not started yet."""

    def __init__(self, daemon: DaemonProcess, version: int, migrated: list[str]) -> None:
        self.daemon = daemon
        self.database = daemon.database
        self._version = version
        self._migrated = migrated
        make_older(self.database, version)
        self.before = self.database.read_bytes()

    def begin_anew(self) -> None:
        """Have the file as it was, and nothing beside it."""
        for path in self.database.parent.glob("state.db*"):
            path.unlink()
        self.database.write_bytes(self.before)
        self.database.with_name("jobkeepd.log").unlink(missing_ok=True)

    @property
    def copies(self) -> list[Path]:
        """What lies beside the file as a copy of it, whole or not."""
        beside = self.database.parent.glob("state.db.*")
        return sorted(path for path in beside if path.suffix != ".lock")

    def assert_the_next_start_completes_it(self) -> None:
        """And there is one copy, of the file as it was."""
        self.daemon.start()
        self.daemon.stop()
        assert contents(self.database) == self._migrated
        [copy] = self.copies
        assert copy.name.startswith(f"state.db.v{self._version}-")
        original = self.database.with_name("original.db")
        original.write_bytes(self.before)
        assert contents(copy) == contents(original)


@pytest.fixture
def version() -> int:
    """The version of the file, where a test does not name more."""
    return 5


@pytest.fixture
def older(daemon_process: DaemonProcess, version: int, migrated: dict[int, list[str]]) -> Older:
    """A daemon whose file is of this version."""
    return Older(daemon_process, version, migrated[version])


@pytest.fixture(scope="module", autouse=True)
def _no_search() -> Iterator[None]:
    """What the search fills in after the start depends on when the daemon is stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JOBKEEPD_SEARCH", "off")
        yield


@pytest.fixture(scope="module")
def migrated(_no_search: None, tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[str]]:
    """What each file holds after a migration that nothing disturbed."""
    found = {}
    for version in VERSIONS:
        undisturbed = DaemonProcess(tmp_path_factory.mktemp("undisturbed"))
        make_older(undisturbed.database, version)
        undisturbed.start()
        undisturbed.stop()
        found[version] = contents(undisturbed.database)
    return found


def contents(database: Path) -> list[str]:
    """All that a file holds, as SQL, but for the moment of its migration."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE schema_version SET applied_at = 'then'")
        return sorted(connection.iterdump())


@pytest.mark.parametrize("version", A_FEW_VERSIONS)
@pytest.mark.parametrize(
    ("point", "at"),
    [
        ("in migration copy", 1),
        ("after migration copy", 1),
        ("after migration statement", 1),
        ("after migration statement", 30),
    ],
)
def test_migration_that_was_killed_twice_is_completed_by_the_next_start(
    older: Older, point: str, at: int
) -> None:
    for _ in range(2):
        older.daemon.spawn(environment=killed_at(point, at))
        assert older.daemon.wait() == -signal.SIGKILL, older.daemon.log
    older.assert_the_next_start_completes_it()


@pytest.mark.parametrize("version", A_FEW_VERSIONS)
def test_migration_that_was_killed_after_its_commit_is_complete(older: Older) -> None:
    older.daemon.spawn(environment=killed_at("after migration"))
    assert older.daemon.wait() == -signal.SIGKILL, older.daemon.log
    older.assert_the_next_start_completes_it()


@pytest.mark.soak
@pytest.mark.timeout(scaled(1_200))
@pytest.mark.parametrize("version", VERSIONS)
def test_migration_that_was_killed_after_any_statement_is_completed_by_the_next_start(
    older: Older,
) -> None:
    for at in itertools.count(1):
        older.begin_anew()
        older.daemon.spawn(environment=killed_at("after migration statement", at))
        wait_until(lambda: older.daemon.is_accepting or not older.daemon.is_running)
        if older.daemon.is_running:
            break
        assert older.daemon.wait() == -signal.SIGKILL, older.daemon.log
        older.assert_the_next_start_completes_it()
    assert at > 30, "there are as many statements"


@needs_strace
def test_copy_that_a_kill_left_half_made_is_gone_and_never_had_the_name_of_a_whole_one(
    older: Older,
) -> None:
    half = older.database.with_name("state.db.copy-before-migration")
    tracing = Tracing(older.daemon, "pwrite64", "signal=KILL:when=9", [half])
    older.daemon.spawn()
    assert older.daemon.wait() == -signal.SIGKILL
    assert half in older.copies
    assert not [path for path in older.copies if ".v" in path.name]
    assert 0 < half.stat().st_size < older.database.stat().st_size
    tracing.stop()
    older.assert_the_next_start_completes_it()


@pytest.mark.parametrize("version", A_FEW_VERSIONS)
def test_migration_that_fails_says_so_and_is_completed_by_the_next_start(older: Older) -> None:
    older.daemon.spawn(environment={VARIABLE: "after migration statement=error:20"})
    assert older.daemon.wait() == 1
    log = older.daemon.log
    assert "bringing it to 7 failed: [Errno 5] failpoint 'after migration statement'" in log
    assert "Traceback" not in log
    older.assert_the_next_start_completes_it()


# -- a failing disk -----------------------------------------------------------------------------


def migrate_on_a_failing_disk(older: Older, call: str, place: int) -> int:
    """Start it once with EIO in a call; gives the number of calls that failed."""
    copy = "state.db.copy-before-migration"
    files = ("state.db", "state.db-wal", copy, f"{copy}-journal")
    paths = [older.database.with_name(name) for name in files]
    daemon = older.daemon
    tracing = Tracing(daemon, call, f"error=EIO:when={place}", paths)
    daemon.spawn()
    wait_until(lambda: daemon.is_accepting or not daemon.is_running)
    if daemon.is_running:
        daemon.kill()
    else:
        assert daemon.wait() == 1, daemon.log
        assert len([line for line in daemon.log.splitlines() if " CRITICAL " in line]) == 1
    failed = len(tracing.injected())
    tracing.stop()
    return failed


@needs_strace
def test_copy_that_cannot_be_synced_ends_the_migration_before_it_begins(older: Older) -> None:
    assert migrate_on_a_failing_disk(older, "fsync", 2) == 1  # the first is of the log as found
    assert "bringing it to 7 failed: [Errno 5]" in older.daemon.log
    # But for its being in WAL mode:
    assert older.database.read_bytes()[100:] == older.before[100:]
    older.assert_the_next_start_completes_it()


@needs_strace
@pytest.mark.soak
@pytest.mark.timeout(scaled(1_200))
@pytest.mark.parametrize("version", A_FEW_VERSIONS)
@pytest.mark.parametrize("call", ["fsync", "fdatasync", "pwrite64", "openat"])
def test_migration_that_meets_a_failing_disk_at_any_call_is_completed_by_the_next_start(
    older: Older, call: str
) -> None:
    for place in itertools.count(1):
        older.begin_anew()
        if not migrate_on_a_failing_disk(older, call, place):
            break
        older.assert_the_next_start_completes_it()
    assert place > 1
