"""A trial leaves the rows it should, counts what it did, and reports what failed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bench.systems import SYSTEMS, jobkeep, plain
from bench.trial import LEAST_JOBS, System, run_trial, summary
from bench.workload import ATTEMPTS, OUTPUT_CHARACTERS, Timings
from tests.bench import stores

WORKERS, SHEETS = 2, 3
JOBS = LEAST_JOBS
"""Two workers take two each."""
OPERATIONS = 1 + 3 * SHEETS
"""A load at the job's start, and three operations a sheet."""


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name, indirect=True)
def test_it_leaves_every_sheet_and_record(system: System, data: Path) -> None:
    trial = run_trial(system, WORKERS, SHEETS, data / "trial")
    assert (trial.errors, trial.first_errors) == (0, [])
    assert trial.operations == JOBS * OPERATIONS


@pytest.mark.parametrize("system", [jobkeep.SYSTEM, plain.SYSTEM], ids=lambda system: system.name)
def test_it_leaves_rows_in_the_file(system: System, data: Path) -> None:
    run_trial(system, WORKERS, SHEETS, data / "trial")
    database = data / "trial" / "state.db"
    assert _rows(database, "SELECT id, last_completed_sheet FROM jobs ORDER BY id") == [
        ("job-0-0", SHEETS),
        ("job-0-0-warm-up", 1),
        ("job-0-1", SHEETS),
        ("job-1-0", SHEETS),
        ("job-1-0-warm-up", 1),
        ("job-1-1", SHEETS),
    ]
    sheets = JOBS * SHEETS + WORKERS
    assert _rows(database, "SELECT status, count(*) FROM sheets GROUP BY 1") == [
        ("completed", sheets)
    ]
    assert _rows(database, "SELECT length(output), count(*) FROM execution_history GROUP BY 1") == [
        (OUTPUT_CHARACTERS, sheets)
    ]
    assert _rows(database, "PRAGMA journal_mode") == [("wal",)]


def test_an_operation_that_fails_is_tried_again_and_counted(tmp_path: Path) -> None:
    trial = run_trial(stores.system(stores.FailsOnce), WORKERS, SHEETS, tmp_path / "trial")
    assert trial.errors == WORKERS
    assert trial.first_errors == ["BrokenError: once"]
    assert trial.operations == JOBS * OPERATIONS


def test_operations_that_never_succeed_are_errors_and_no_operations(tmp_path: Path) -> None:
    trial = run_trial(stores.system(stores.RefusesSaves), LEAST_JOBS, SHEETS, tmp_path / "trial")
    assert trial.operations == JOBS * (1 + SHEETS)  # the load and the records
    refused = 2 * (SHEETS + 1) * ATTEMPTS  # one sheet of the warm-up
    assert trial.errors == JOBS * (refused + 1)
    assert "BrokenError: no save of job-0-0" in trial.first_errors


def test_what_was_acknowledged_and_is_not_there_is_an_error(tmp_path: Path) -> None:
    trial = run_trial(stores.system(stores.ForgetsSaves), WORKERS, SHEETS, tmp_path / "trial")
    assert trial.errors == JOBS
    assert trial.first_errors == [
        "job job-0-0 is not there",
        "job job-0-1 is not there",
        "job job-1-0 is not there",
    ]


def test_a_worker_that_does_not_come_back_is_an_error(tmp_path: Path) -> None:
    trial = run_trial(stores.system(stores.CannotConnect), 1, SHEETS, tmp_path / "trial")
    assert trial.operations == 0
    assert "1 workers did not come back" in trial.first_errors


def test_the_rate_is_over_the_whole_from_the_first_beginning_to_the_last_end() -> None:
    timings = [
        Timings(began=10.0, ended=12.0, processor=1.0, latencies=[0.1, 0.3]),
        Timings(
            began=11.0,
            ended=14.0,
            processor=2.0,
            latencies=[0.2, 0.4, 0.5, 0.6],
            errors=["E: no"],
        ),
    ]
    trial = summary("x", 2, timings, missing=[])
    assert trial.operations_per_second == 6 / 4
    assert (trial.p50, trial.p99, trial.max) == (0.3, 0.6, 0.6)
    assert trial.client == 3.0 / 6
    assert (trial.errors, trial.first_errors) == (1, ["E: no"])


def _rows(database: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(statement).fetchall()
