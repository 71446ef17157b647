"""`jobkeepd --check`: names all that is wrong with a database, and changes nothing."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from jobkeep_protocol.messages import RecordExecution
from jobkeep_protocol.states import CheckpointState
from jobkeepd.store.connection import index_path, wal_path
from jobkeepd.store.examine import examine
from jobkeepd.store.schema import SCHEMA_VERSION
from tests.daemon_process import DaemonProcess
from tests.faults.databases import contents, copy_files, fill, flip, writing
from tests.support import PATIENCE, scaled
from tests.wire import Wire

OLDER = Path(__file__).parents[1] / "daemon" / "schema_5.sql"


@pytest.fixture
def database(filled_once: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return copy_files(filled_once, tmp_path / "copy")


def examined(database: Path) -> list[str]:
    """What `--check` says; holds it to changing nothing."""
    said: list[str] = []
    before = contents(database)
    is_well = examine(database, said.append)
    assert contents(database) == before
    assert is_well == (len(said) == 1)
    assert all("\n" not in line for line in said)
    return said


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-m", "jobkeepd", "--check", *arguments],
        capture_output=True,
        text=True,
        timeout=scaled(PATIENCE),
        check=False,
    )


def execute(database: Path, script: str) -> None:
    """Change a database behind the daemon's back, past all that holds its tables together."""
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(
            f"PRAGMA journal_mode = DELETE; PRAGMA writable_schema = ON; {script}"
        )


# -- what is found ------------------------------------------------------------------------------


def test_database_in_order_has_no_problem(database: Path) -> None:
    assert examined(database) == [f"{database}: no problem, jobs 3, sheets 5, execution_history 3"]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (
            "UPDATE jobs SET status = 'asleep' WHERE id = 'job'",
            "jobs 'job': status is 'asleep'; expected one of",
        ),
        ("UPDATE jobs SET total_sheets = 0 WHERE id = 'job'", "jobs 'job': total_sheets is 0"),
        ("UPDATE jobs SET extra = '{' WHERE id = 'job'", "jobs 'job': Input data was truncated"),
        (
            "UPDATE jobs SET created_at = 'then' WHERE id = 'job'",
            "jobs 'job': Invalid isoformat string: 'then'",
        ),
        (
            "UPDATE jobs SET name = CAST(x'ff' AS TEXT) WHERE id = 'job'",
            "jobs 'job': a text is not UTF-8",
        ),
        ("UPDATE jobs SET revision = 'x'", "jobs 'job': revision holds a value of another type"),
        (
            "UPDATE jobs SET updated_at = '2200-01-01T00:00:00.000000+00:00' WHERE id = 'job'",
            "is before updated_at",
        ),
        (
            "UPDATE sheets SET sheet_num = 0 WHERE sheet_num = 3",
            "sheets 'job', 0: sheet_num is 0",
        ),
        (
            "UPDATE sheets SET status = 'gone' WHERE sheet_num = 3",
            "sheets 'job', 3: status is 'gone'",
        ),
        (
            "UPDATE sheets SET confidence_score = 7 WHERE sheet_num = 3",
            "sheets 'job', 3: confidence_score is 7.0",
        ),
        (
            "UPDATE execution_history SET output = CAST(x'80' AS TEXT) WHERE id = 2",
            "execution_history 2: a text is not UTF-8",
        ),
        (
            "UPDATE execution_history SET executed_at = 'then' WHERE id = 2",
            "execution_history 2: Invalid isoformat string: 'then'",
        ),
        (
            "UPDATE jobs SET sheets_completed = 3 WHERE id = 'job'",
            "jobs 'job': sheets_completed is 3, and 1 were counted; stop the daemon and set it to "
            "1 with sqlite3",
        ),
        (
            "UPDATE jobs SET sheets_through = 4 WHERE id = 'job'",
            "jobs 'job': sheets_through is 4, and 3 were counted",
        ),
        (
            "UPDATE jobs SET executions = 9 WHERE id = 'job'",
            "jobs 'job': executions is 9, and 3 were counted",
        ),
        (
            "UPDATE jobs SET executions_successful = 0 WHERE id = 'job'",
            "jobs 'job': executions_successful is 0, and 1 were counted",
        ),
        (
            "UPDATE jobs SET executions_timed = 1 WHERE id = 'job'",
            "jobs 'job': executions_timed is 1, and 3 were counted",
        ),
        (
            "UPDATE jobs SET executions_seconds = 1 WHERE id = 'job'",
            "jobs 'job': executions_seconds is 1.0, and 4.5 were counted",
        ),
        (
            "UPDATE jobs SET executions_exited = 9 WHERE id = 'job'",
            "jobs 'job': executions_exited is 9, and 2 were counted",
        ),
        (
            "UPDATE jobs SET sheets_failed = 7 WHERE id = 'a/😀'",
            "jobs 'a/😀': sheets_failed is 7, and 0 were counted",
        ),
        (
            "UPDATE jobs SET input_tokens = 7 WHERE id = 'a/😀'",
            "jobs 'a/😀': input_tokens is 7, and 0 were counted",
        ),
        (
            "UPDATE jobs SET estimated_cost = 0.5 WHERE id = 'a/😀'",
            "jobs 'a/😀': estimated_cost is 0.5, and 0.0 were counted",
        ),
        (
            "INSERT INTO rule_counts VALUES ('job', 'a rule', 1, 2)",
            "rule_counts 'job', 'a rule': is 1 passed, 2 failed; 0 passed, 0 failed was counted",
        ),
        (
            "INSERT INTO outcome_counts VALUES ('job', 'good', 1, 1, 0, 1)",
            "outcome_counts 'job', 'good': is 1 sheets, 1 completed, 0 failed, 1 without retry; "
            "nothing was counted",
        ),
        (
            "UPDATE execution_history SET ordinal = 5 WHERE id = 3",
            "execution_history 3: ordinal is 5; expected 2",
        ),
        (
            "UPDATE execution_history SET ordinal = 0 WHERE id = 2",
            "execution_history 2: ordinal is 0; expected 1 or more",
        ),
        (
            "UPDATE execution_history SET ordinal = 'one' WHERE id = 2",
            "execution_history 2: ordinal holds a value of another type",
        ),
        (
            "UPDATE jobs SET executions_seconds = x'00' WHERE id = 'job'",
            "jobs 'job': executions_seconds is b'\\x00', and 4.5 were counted",
        ),
        (
            "UPDATE jobs SET created_at = x'00' WHERE id = 'job'",
            "jobs 'job': fromisoformat: argument must be str",
        ),
        (
            "UPDATE job_counts SET jobs = 7 WHERE status = 'failed'",
            "job_counts 'failed': jobs is 7, and 1 were counted",
        ),
        (
            "INSERT INTO pattern_jobs VALUES ('job', 'p', 1, 0, 0, 0, 0, 1, 'then', 'then')",
            "pattern_jobs 'job', 'p': sheets is 1, and 0 were counted",
        ),
        (
            "UPDATE sheets SET learned_patterns = '[\"p\"]', confidence_score = 0.5; "
            "UPDATE pattern_jobs SET confidence_total = 0 WHERE job_id = 'job'",
            "pattern_jobs 'job', 'p': confidence_total is 0.0, and 1.5 were counted",
        ),
        (
            "UPDATE sheets SET learned_patterns = '[\"p\"]'; UPDATE patterns SET completed = 9",
            "patterns 'p': completed is 9, and 2 were counted",
        ),
        (
            "UPDATE sheet_counts SET sheets = 7 WHERE status = 'failed'",
            "sheet_counts 'failed': sheets is 7, and 1 were counted",
        ),
        (
            "DROP INDEX idx_jobs_sequence; UPDATE jobs SET sequence = 1 << 60",
            "jobs 'a/😀': 3 jobs have the sequence 1152921504606846976",
        ),
        ("DELETE FROM counters", "counters 'sequence': is missing"),
        (
            "UPDATE sheets SET status = 'waiting' WHERE status = 'in_progress'",
            "claims 'claimed', 1: the sheet is waiting, and claims are on sheets in progress",
        ),
        (
            "PRAGMA foreign_keys = OFF; DELETE FROM jobs WHERE id = 'a/😀'",
            "sheets rowid 4: belongs to a row of jobs that is not there",
        ),
        (
            "UPDATE applied_requests SET reply = x'c1'",
            "applied_requests 30313233343536373839616263646566, 0: the reply cannot be read",
        ),
        (
            "UPDATE applied_requests SET request_id = request_id + 64",
            "has a reply to",
        ),
        (
            "UPDATE sqlite_schema SET sql = replace(sql, 'failure_indexed ', 'failUre_indexed ')",
            "trigger failure_indexed: is not jobkeep's",
        ),
        (
            "UPDATE sqlite_schema SET sql = CAST(sql AS BLOB), name = CAST(name AS BLOB) "
            "WHERE name <> 'schema_version'; "
            "UPDATE sheet_counts SET sheets = 7 WHERE status = 'failed'",
            "sheet_counts 'failed': sheets is 7, and 1 were counted",
        ),
        ("DROP TRIGGER failure_indexed", "search: its tables and triggers are not as declared"),
        (
            "DELETE FROM search_executions_docsize WHERE id = 2",
            "execution_history 2: is not in the index; start jobkeepd with --search off, and then",
        ),
        (
            "INSERT INTO search_failures_docsize VALUES (999, x'00')",
            "failures 999: is in the index and not there",
        ),
        (
            "UPDATE search_executions_docsize SET sz = x'0909' WHERE id = 2",
            "execution_history 2: has other words than in the index",
        ),
        (
            "DELETE FROM search_executions_data WHERE id > 10",
            "database: cannot be read to its end: ",
        ),
        ("DROP INDEX idx_jobs_status", "index idx_jobs_status: is missing"),
        ("DROP TRIGGER job_moved", "trigger job_moved: is missing"),
        (
            "DROP INDEX idx_claims_pid; CREATE INDEX idx_claims_pid ON claims(claimed_at)",
            "index idx_claims_pid: is not as declared; stop the daemon and make it with sqlite3 in "
            "its place: CREATE INDEX idx_claims_pid ON claims(pid)",
        ),
        (
            "CREATE TRIGGER mine AFTER DELETE ON jobs BEGIN SELECT 1; END",
            "trigger mine: is not jobkeep's",
        ),
        ("ALTER TABLE jobs ADD COLUMN mine TEXT", "table jobs: is not as declared"),
        (
            "DELETE FROM sqlite_schema WHERE name = 'idx_workers_pid'",
            "database: ",
        ),
        (
            "INSERT INTO schema_version VALUES (1000, 'then')",
            f"has schema version 1000, and this jobkeepd knows up to {SCHEMA_VERSION}",
        ),
    ],
)
def test_each_thing_that_is_wrong_is_named(database: Path, script: str, expected: str) -> None:
    execute(database, script)

    *problems, last = examined(database)

    assert any(expected in problem for problem in problems), problems
    assert last.startswith(f"{database}: {len(problems)} problem")
    assert all("; " in problem for problem in problems), "says what to do"


def test_index_that_misses_a_row_is_named_with_what_repairs_it(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_jobs_1'"
        ).fetchone()
    flip(database, database.read_bytes().index(b"claimed", (page - 1) * 4096) * 8)

    problems = examined(database)

    assert any("missing from index sqlite_autoindex_jobs_1" in one for one in problems)
    assert any("REINDEX" in one for one in problems)
    execute(database, "REINDEX")
    assert len(examined(database)) == 1


def test_page_that_is_damaged_stops_no_search_that_can_go_on(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'execution_history'"
        ).fetchone()
    execute(database, "UPDATE job_counts SET jobs = 7 WHERE status = 'failed'")
    flip(database, (page - 1) * 4096 * 8)

    problems = examined(database)

    assert any(one.startswith("database: ") and ".recover" in one for one in problems)
    assert any("job_counts 'failed'" in one for one in problems)


def test_older_file_is_checked_as_far_as_its_version_is_known(tmp_path: Path) -> None:
    database = tmp_path / "state.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(OLDER.read_text())

    (last,) = examined(database)

    assert "no problem" in last
    assert f"version 5, and jobkeepd brings it to {SCHEMA_VERSION}" in last


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda path: path.unlink(), "there is no such file"),
        (lambda path: path.write_bytes(b"no database\n" * 999), "cannot be read as an SQLite"),
        (lambda path: wal_path(path).write_bytes(b""), "the newest writes to"),
    ],
)
def test_what_no_daemon_would_open_is_a_problem(
    tmp_path: Path, spoil: Callable[[Path], object], expected: str
) -> None:
    with writing(tmp_path / "state.db") as opened:
        fill(opened)
        database = opened.as_killed(tmp_path / "killed")
    spoil(database)

    problem, last = examined(database)

    assert expected in problem
    assert "1 problem" in last


def test_log_of_a_killed_daemon_is_read_and_stays_as_it_was(tmp_path: Path) -> None:
    with writing(tmp_path / "state.db") as opened:
        fill(opened)
        opened.checkpoint()
        opened.record(5)
        database = opened.as_killed(tmp_path / "killed")
    index_path(database).unlink()

    (last,) = examined(database)

    assert "execution_history 8" in last


# -- the command --------------------------------------------------------------------------------


def test_command_ends_with_0_when_all_is_well_and_with_1_when_not(database: Path) -> None:
    before = contents(database)
    well = check("--db", str(database))
    assert contents(database) == before
    execute(database, "UPDATE jobs SET executions = 9 WHERE id = 'job'")

    ill = check("--db", str(database))

    assert (well.returncode, well.stderr) == (0, "")
    assert well.stdout == f"{database}: no problem, jobs 3, sheets 5, execution_history 3\n"
    assert (ill.returncode, ill.stderr) == (1, "")
    assert len(ill.stdout.splitlines()) == 2


def test_command_with_a_wrong_argument_ends_with_2() -> None:
    refused = check("--cache-bytes", "lots")
    assert refused.returncode == 2
    assert "--cache-bytes is 'lots'" in refused.stderr


def test_check_beside_a_daemon_sees_what_was_acknowledged_and_disturbs_nothing(
    daemon: DaemonProcess,
) -> None:
    with Wire(daemon.socket) as wire:
        wire.save(CheckpointState(job_id="job", total_sheets=3))
        wire.ask(RecordExecution("job", 1, 1))

        said: list[str] = []
        assert examine(daemon.database, said.append)
        assert said == [f"{daemon.database}: no problem, jobs 1, sheets 0, execution_history 1"]

        wire.ask(RecordExecution("job", 1, 2))
    daemon.stop()
    assert "another program" not in daemon.log
