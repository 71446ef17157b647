"""`jobkeep export` and `jobkeep import`: jobs go from one database to another, whole."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jobkeep import CheckpointState, Client, JobStatus, SheetState, SheetStatus
from jobkeep_protocol.messages import ClaimNextSheet, RecordExecution
from jobkeepd.store.examine import examine
from tests.cli.commands import JobkeepCommand
from tests.daemon.old_files import make_old_file
from tests.daemon_process import DaemonProcess
from tests.wire import Wire

SCHEMA_5 = Path(__file__).parents[1] / "daemon" / "schema_5.sql"


@pytest.fixture
def other(tmp_path: Path) -> Iterator[DaemonProcess]:
    """Another daemon with a database of its own, which is empty."""
    directory = tmp_path / "other"
    directory.mkdir()
    daemon = DaemonProcess(directory)
    daemon.start()
    yield daemon
    daemon.kill()


@pytest.fixture
def there(other: DaemonProcess, tmp_path: Path) -> Iterator[JobkeepCommand]:
    """The command, for that one."""
    command = JobkeepCommand(other.socket, tmp_path)
    yield command
    command.clean_up()


@pytest.fixture
def filled(client: Client[CheckpointState]) -> list[str]:
    """Two jobs with all that can be of a job: failures with and without a record, empty lists,
    and what jobkeep does not know."""
    first = CheckpointState(
        job_id="a/é 😀", job_name="first", total_sheets=3, extra={"own": [None]}
    )
    client.save(first)
    first.mark_sheet_started(1)
    client.save(first)
    client.record_execution(first.job_id, 1, 1, "make", "no\n" * 1_000, 2, 0.5)
    first.mark_sheet_failed(1, "it broke", error_category="crash", exit_code=2)
    client.save(first)
    first.mark_sheet_started(1)
    client.save(first)
    client.record_execution(first.job_id, 1, 2, "make", "yes", 0, 1.25)
    first.mark_sheet_completed(1)
    first.mark_sheet_started(2)
    client.save(first)
    first.mark_sheet_failed(2, "never recorded", error_category="timeout")
    first.sheets[2].passed_validations = []
    first.sheets[2].learned_patterns = ["slow"]
    first.sheets[3] = SheetState(sheet_num=3, status=SheetStatus.FAILED, error_message="no time")
    client.save(first)
    first.mark_job_paused()
    client.save(first)
    second = CheckpointState(job_id="second", total_sheets=1)
    second.mark_sheet_started(1)
    second.mark_sheet_completed(1)
    client.save(second)
    client.record_execution("second", 1, 1, "p", "o" * 100_000, 0, None)
    return [first.job_id, "second"]


def lines_of(command: JobkeepCommand) -> list[Any]:
    """All that a daemon keeps of its jobs, without an order among them."""
    found = [json.loads(line) for line in command("export", "-").out.splitlines()]
    return sorted(found, key=lambda line: json.dumps(line, sort_keys=True))


def rows(database: Path, statement: str) -> list[tuple[Any, ...]]:
    """What a file holds, as anybody can read it."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(statement).fetchall()


# -- there and back -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["jobs.db", "jobs.jsonl"])
def test_what_is_exported_and_imported_is_what_was_there(
    jobkeep: JobkeepCommand,
    there: JobkeepCommand,
    other: DaemonProcess,
    daemon: DaemonProcess,
    filled: list[str],
    tmp_path: Path,
    name: str,
) -> None:
    exported = jobkeep("export", str(tmp_path / name))
    imported = there("import", str(tmp_path / name), "--json")

    assert (exported.status, imported.status) == (0, 0)
    outcomes = [(one["job_id"], one["outcome"], one["executions"]) for one in imported.document]
    assert outcomes == [(filled[0], "imported", 2), (filled[1], "imported", 1)]
    assert lines_of(there) == lines_of(jobkeep)
    failures = (
        "SELECT job_id, sheet_num, attempt_num, exit_code, error_category, error_message, "
        "failed_at FROM failures ORDER BY 1, 2, 3"
    )
    assert rows(other.database, failures) == rows(daemon.database, failures)
    patterns = "SELECT pattern, sheets, failed FROM patterns"
    assert rows(other.database, patterns) == [("slow", 1, 1)]
    other.stop()
    said: list[str] = []
    assert examine(other.database, said.append), said


def test_only_the_jobs_that_are_named_are_exported(
    jobkeep: JobkeepCommand, there: JobkeepCommand, filled: list[str], tmp_path: Path
) -> None:
    copy = tmp_path / "one.db"

    jobkeep("export", str(copy), "--job", "second")
    in_lines = jobkeep("export", "-", "--job", filled[0]).out.splitlines()

    assert rows(copy, "SELECT id FROM jobs") == [("second",)]
    assert rows(copy, "SELECT count(*) FROM execution_history") == [(1,)]
    assert rows(copy, "SELECT count(*) FROM applied_requests") == [(0,)]
    assert [*json.loads(in_lines[0])] == ["job"]
    assert len(in_lines) == 1 + 2 + 2
    assert there("import", str(copy)).status == 0


@pytest.mark.usefixtures("filled")
def test_export_of_some_jobs_has_no_counts_of_jobs_that_were_pruned(
    jobkeep: JobkeepCommand, client: Client[CheckpointState], tmp_path: Path
) -> None:
    gone = CheckpointState(job_id="gone", total_sheets=1)
    gone.mark_sheet_started(1)
    gone.mark_sheet_completed(1)
    gone.sheets[1].learned_patterns = ["of a pruned job"]
    client.save(gone)
    client.record_execution("gone", 1, 1, exit_code=1)
    assert jobkeep("prune", "--older-than", "0", "--status", "completed", "--yes").status == 0
    client.save(CheckpointState(job_id="third", total_sheets=1))
    copy = tmp_path / "third.db"

    jobkeep("export", str(copy), "--job", "third")

    assert rows(copy, "SELECT count(*) FROM pruned_jobs") == [(0,)]
    assert rows(copy, "SELECT count(*) FROM pruned_executions") == [(0,)]
    assert rows(copy, "SELECT pattern FROM patterns") == []
    said: list[str] = []
    assert examine(copy, said.append), said


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("name", ["jobs.db", "jobs.jsonl"])
def test_only_the_jobs_that_are_named_are_imported(
    jobkeep: JobkeepCommand, there: JobkeepCommand, tmp_path: Path, name: str
) -> None:
    jobkeep("export", str(tmp_path / name))

    finished = there("import", str(tmp_path / name), "--job", "second", "--job", "no such job")

    assert finished.status == 4
    assert "skipped job no such job: it is not in the file" in finished.err
    assert [job["id"] for job in there("jobs", "--json").document] == ["second"]


def test_database_of_an_earlier_version_is_imported_and_not_changed(
    jobkeep: JobkeepCommand, client: Client[CheckpointState], tmp_path: Path
) -> None:
    older = tmp_path / "older.db"
    with closing(sqlite3.connect(older)) as connection:
        connection.executescript(SCHEMA_5.read_text(encoding="utf-8"))
    before = older.read_bytes()

    finished = jobkeep("import", str(older))

    assert finished.status == 0
    assert client.get_execution_history_count("a/😀") == len(
        rows(older, "SELECT 1 FROM execution_history WHERE job_id = 'a/😀'")
    )
    assert older.read_bytes() == before
    assert [path.name for path in tmp_path.glob("older*")] == ["older.db"]


def test_whoever_ran_a_job_does_not_run_it_where_it_is_imported(
    jobkeep: JobkeepCommand, there: JobkeepCommand, daemon: DaemonProcess, other: DaemonProcess
) -> None:
    with Wire(daemon.socket) as wire:
        wire.save(CheckpointState(job_id="job", total_sheets=3))
        assert wire.ask(ClaimNextSheet("job")) == 1
        lines = jobkeep("export", "-").out

    there("import", "-", stdin=lines.encode())

    with Client(other.socket) as client:
        job = client.load("job")
        assert job is not None
        assert (job.status, job.sheets[1].status) == (JobStatus.PAUSED, SheetStatus.PENDING)
        assert "imported" in str(job.error_message)
        assert client.claim_next_sheet("job") == 1


# -- again --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["jobs.db", "jobs.jsonl"])
def test_import_that_was_broken_off_goes_on_where_it_was(
    jobkeep: JobkeepCommand,
    there: JobkeepCommand,
    other: DaemonProcess,
    filled: list[str],
    tmp_path: Path,
    name: str,
) -> None:
    jobkeep("export", str(tmp_path / name))
    lines = jobkeep("export", "-", "--job", filled[0]).out.splitlines(keepends=True)
    there("import", "-", stdin="".join(lines[:2]).encode())
    with Client(other.socket) as client:
        assert client.get_execution_history_count(filled[0]) == 1

    finished = there("import", str(tmp_path / name), "--json")

    assert [one["executions"] for one in finished.document] == [1, 1]
    assert lines_of(there) == lines_of(jobkeep)


@pytest.mark.usefixtures("filled")
def test_job_that_is_kept_is_skipped_or_replaced(
    jobkeep: JobkeepCommand, client: Client[CheckpointState], tmp_path: Path
) -> None:
    jobkeep("export", str(tmp_path / "jobs.db"))
    client.save_sheet("second", SheetState(sheet_num=1, status=SheetStatus.FAILED))
    client.record_execution("second", 1, 2)

    skipped = jobkeep("import", str(tmp_path / "jobs.db"), "--job", "second")
    kept = client.load("second")
    replaced = jobkeep("import", str(tmp_path / "jobs.db"), "--job", "second", "--replace")

    assert (skipped.status, replaced.status) == (1, 0)
    assert "skipped job second: there is a job of this id already" in skipped.err
    assert kept is not None
    assert kept.sheets[1].status is SheetStatus.FAILED
    state = client.load("second")
    assert state is not None
    assert state.sheets[1].status is SheetStatus.COMPLETED
    assert client.get_execution_history_count("second") == 1


def test_job_that_runs_is_not_replaced(
    jobkeep: JobkeepCommand, client: Client[CheckpointState], tmp_path: Path
) -> None:
    client.save(CheckpointState(job_id="job", total_sheets=1))
    jobkeep("export", str(tmp_path / "jobs.jsonl"))
    assert client.claim_next_sheet("job") == 1

    finished = jobkeep("import", str(tmp_path / "jobs.jsonl"), "--replace")

    assert finished.status == 1
    assert "the job of this id is running" in finished.err


# -- what cannot be imported --------------------------------------------------------------------


def test_export_of_a_job_has_no_word_of_another(
    jobkeep: JobkeepCommand, client: Client[CheckpointState], filled: list[str], tmp_path: Path
) -> None:
    client.save(CheckpointState(job_id="secret", total_sheets=1))
    client.record_execution("secret", 1, 1, "hunter2", "hunter2")

    jobkeep("export", str(tmp_path / "jobs.db"), "--job", filled[0])

    assert b"hunter2" not in (tmp_path / "jobs.db").read_bytes()


@pytest.mark.parametrize("name", ["jobs.db", "jobs.jsonl"])
def test_history_of_sheets_that_a_job_has_no_more_is_imported(
    jobkeep: JobkeepCommand, client: Client[CheckpointState], tmp_path: Path, name: str
) -> None:
    state = CheckpointState(job_id="narrowed", total_sheets=8)
    client.save(state)
    for number in (1, 8):
        client.record_execution("narrowed", number, 1, exit_code=1)
    state.total_sheets = 5
    client.save(state)
    jobkeep("export", str(tmp_path / name))

    finished = jobkeep("import", str(tmp_path / name), "--replace")

    assert finished.status == 0
    assert "imported job narrowed with 2 attempts" in finished.err
    assert client.get_execution_history_count("narrowed") == 2


@pytest.mark.parametrize("name", ["jobs.db", "jobs.jsonl"])
def test_import_once_more_adds_nothing_to_a_job_that_somebody_works_on(
    jobkeep: JobkeepCommand,
    there: JobkeepCommand,
    other: DaemonProcess,
    filled: list[str],
    tmp_path: Path,
    name: str,
) -> None:
    jobkeep("export", str(tmp_path / name))
    there("import", str(tmp_path / name))
    with Wire(other.socket) as wire:
        wire.ask(RecordExecution(filled[0], 1, 3))

    again = there("import", str(tmp_path / name))

    assert again.status == 0
    assert len(there("history", filled[0], "--json").document) == 3


def test_lines_before_one_that_is_none_are_imported(
    jobkeep: JobkeepCommand, there: JobkeepCommand, filled: list[str], tmp_path: Path
) -> None:
    lines = tmp_path / "jobs.jsonl"
    jobkeep("export", str(lines), "--job", filled[0])
    job, first, second, *_ = lines.read_text().splitlines()
    lines.write_text("\n".join([job, first, second, '{"execution": {"sheet']))

    finished = there("import", str(lines))

    assert finished.status == 2
    assert "jobs.jsonl, line 4: is not one of" in finished.err
    assert [one["attempt_num"] for one in there("history", filled[0], "--json").document] == [2, 1]


def test_import_of_an_earlier_file_without_times_goes_on_where_it_was(
    jobkeep: JobkeepCommand, tmp_path: Path
) -> None:
    path = tmp_path / "old.db"
    make_old_file(path, 1, [{"id": "timeless", "total_sheets": 2}], is_loose=True)

    first = jobkeep("import", str(path))
    again = jobkeep("import", str(path))

    assert (first.status, again.status) == (0, 0)
    assert again.err.startswith("jobkeep: imported job timeless with 0 attempts")


def _newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE schema_version (version INTEGER, applied_at TEXT);"
            "INSERT INTO schema_version VALUES (1000, 'then');"
        )


def _foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE other (value)")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_newer, "schema version 1000, and this jobkeepd knows up to"),
        (_foreign, "is not jobkeep's"),
        (lambda path: path.write_bytes(b"SQLite format 3\0" + b"x" * 5_000), "cannot be read"),
        (lambda path: path.write_text("not JSON\n"), "bad, line 1: is not one of `jobkeep export`"),
        (lambda path: path.write_text('{"execution": null}\n'), "bad, line 1: has to have one of"),
        (
            lambda path: path.write_text(
                '{"failure": {"sheet_num": 1, "attempt_num": 1, '
                '"failed_at": "2026-01-01T00:00:00Z"}}'
            ),
            "bad, line 1: belongs to no job",
        ),
    ],
)
def test_file_that_is_no_export_is_refused_and_nothing_is_left(
    jobkeep: JobkeepCommand, daemon: DaemonProcess, tmp_path: Path, make: Any, words: str
) -> None:
    path = tmp_path / "bad"
    make(path)

    finished = jobkeep("import", str(path))

    assert finished.status in {1, 2}
    assert words in finished.err
    assert len(finished.err.splitlines()) == 1
    assert "Traceback" not in daemon.log
    assert jobkeep("jobs", "--json").document == []
    assert list(daemon.database.parent.glob("*.copy-*")) == []


def test_export_replaces_no_file(jobkeep: JobkeepCommand, tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text("mine")

    assert jobkeep("export", str(path)).status == 1
    assert path.read_text() == "mine"


def test_export_of_a_job_that_is_not_there_writes_no_file(
    jobkeep: JobkeepCommand, tmp_path: Path
) -> None:
    for name in ("jobs.db", "jobs.jsonl"):
        finished = jobkeep("export", str(tmp_path / name), "--job", "nobody")
        assert finished.status == 4
        assert "nobody" in finished.err
    assert list(tmp_path.glob("jobs*")) == []


def test_others_write_while_a_large_job_is_imported(
    jobkeep: JobkeepCommand, client: Client[CheckpointState], daemon: DaemonProcess, tmp_path: Path
) -> None:
    client.save(CheckpointState(job_id="large", total_sheets=1))
    with Wire(daemon.socket) as wire:
        for attempt in range(40):
            wire.ask(RecordExecution("large", 1, attempt, output="x" * 300_000))
    jobkeep("export", str(tmp_path / "large.db"))
    client.delete("large")
    client.save(CheckpointState(job_id="mine", total_sheets=1))

    importing = jobkeep.start("import", str(tmp_path / "large.db"))
    while importing.poll() is None:
        client.record_execution("mine", 1, 1)
    assert jobkeep.end_of(importing).status == 0

    statement = "SELECT job_id FROM execution_history ORDER BY id"
    order = [job for (job,) in rows(daemon.database, statement)]
    first, last = order.index("large"), len(order) - 1 - order[::-1].index("large")
    assert order.count("large") == 40
    assert "mine" in order[first:last]
