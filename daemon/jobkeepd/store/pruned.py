"""What was pruned, counted, so that statistics stay true.

What lives here: the tables of these counts, and counting attempts, failures and jobs right before
they are removed. What may not: choosing what goes and removing it (that is `pruning`), and reading
the counts (that is `reports`).

- `pruned_executions` has the attempts by job and by the hour in which they were made, as the
  beginning of the text of its time: `2026-11-25T08`.
- `pruned_failures` has the failures by job, by such an hour and by what is alike in them. A job
  that is gone counts in `jobs` of the first hour of each kind only.
- `pruned_jobs` has whole jobs, by status and the hour of their last update, and `pruned_hours` what
  had ended in which hour in them: sheets and jobs. `pruned_rules` and `pruned_outcomes` are their
  rows of `rule_counts` and `outcome_counts`.

When a whole job goes, its attempts and failures are from then on those of the job '', which no job
is called. A job that is deleted takes its counts along: to delete is to forget.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from jobkeepd.store.rows import SHEET_ENDED_AT

PRUNED_TABLES = """
CREATE TABLE pruned_executions (
    job_id TEXT NOT NULL,
    hour TEXT NOT NULL,
    executions INTEGER NOT NULL,
    successful INTEGER NOT NULL,
    exited INTEGER NOT NULL,
    timed INTEGER NOT NULL,
    seconds REAL NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (job_id, hour)
) WITHOUT ROWID;

CREATE TABLE pruned_failures (
    id INTEGER PRIMARY KEY,
    job_id TEXT NOT NULL,
    hour TEXT NOT NULL,
    error_category TEXT,
    error_code TEXT,
    exit_code INTEGER,
    exit_signal INTEGER,
    failures INTEGER NOT NULL,
    jobs INTEGER NOT NULL,
    first_failed_at TEXT NOT NULL,
    last_failed_at TEXT NOT NULL
);

CREATE TABLE pruned_jobs (
    status TEXT NOT NULL,
    hour TEXT NOT NULL,
    jobs INTEGER NOT NULL,
    sheets INTEGER NOT NULL,
    sheets_completed INTEGER NOT NULL,
    sheets_failed INTEGER NOT NULL,
    sheets_skipped INTEGER NOT NULL,
    retries INTEGER NOT NULL,
    input_tokens REAL NOT NULL,
    output_tokens REAL NOT NULL,
    estimated_cost REAL NOT NULL,
    first_created_at TEXT NOT NULL,
    last_updated_at TEXT NOT NULL,
    PRIMARY KEY (status, hour)
) WITHOUT ROWID;

CREATE TABLE pruned_hours (
    hour TEXT PRIMARY KEY,
    jobs_completed INTEGER NOT NULL,
    sheets_completed INTEGER NOT NULL,
    sheets_failed INTEGER NOT NULL,
    sheets_skipped INTEGER NOT NULL,
    input_tokens REAL NOT NULL,
    output_tokens REAL NOT NULL,
    estimated_cost REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE pruned_rules (
    rule TEXT PRIMARY KEY,
    passed INTEGER NOT NULL,
    failed INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE pruned_outcomes (
    outcome_category TEXT PRIMARY KEY,
    sheets INTEGER NOT NULL,
    completed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    without_retry INTEGER NOT NULL
) WITHOUT ROWID;
"""

PRUNED_INDEXES_AND_TRIGGERS = """
CREATE INDEX idx_pruned_failures ON pruned_failures(
    job_id, hour, error_category, error_code, exit_code, exit_signal);

CREATE TRIGGER job_deleted_after_pruning AFTER DELETE ON jobs BEGIN
    DELETE FROM pruned_executions WHERE job_id = old.id;
    DELETE FROM pruned_failures WHERE job_id = old.id;
END;
"""

HOUR_CHARACTERS = 13
"""`2026-11-25T08`: how much of the text of a time says in which hour it is."""

_LARGEST = "1.7976931348623157e308"


def forget_pruned_jobs(connection: sqlite3.Connection) -> None:
    """Leave no count of a job that is not there any more; for a copy of some jobs alone."""
    for table in ("pruned_jobs", "pruned_hours", "pruned_rules", "pruned_outcomes"):
        connection.execute(f"DELETE FROM {table}")
    for table in ("pruned_executions", "pruned_failures", "pattern_jobs"):
        connection.execute(f"DELETE FROM {table} WHERE job_id = ''")
    connection.execute("UPDATE sheet_counts SET pruned = 0")


def count_attempts(connection: sqlite3.Connection, job_id: str, sheet_num: int, last: int) -> None:
    """The attempts of a sheet up to this id go next."""
    connection.execute(_COUNT_ATTEMPTS, (job_id, sheet_num, last))


def count_failures(connection: sqlite3.Connection, job_id: str, ids: str) -> None:
    """These failures of a job go next; `ids` is a list in JSON."""
    for group in connection.execute(_SELECT_FAILURES, (ids,)).fetchall():
        _add_failures(connection, job_id, group)


def count_job(connection: sqlite3.Connection, job_id: str) -> None:
    """This job, whose attempts and failures are gone already, goes next."""
    for statement in _COUNT_JOB:
        connection.execute(statement, (job_id,))
    connection.execute("DELETE FROM pruned_executions WHERE job_id = ?", (job_id,))
    groups = connection.execute(_SELECT_ALL_FAILURES, (job_id,)).fetchall()
    connection.execute("DELETE FROM pruned_failures WHERE job_id = ?", (job_id,))
    for group in groups:
        _add_failures(connection, "", group)


def _add_failures(connection: sqlite3.Connection, job_id: str, group: Sequence[Any]) -> None:
    """Add failures that are alike; NULL is alike with NULL, which no unique index can say."""
    *alike, failures, jobs, first, last = group
    known = connection.execute(_ADD_FAILURES, (failures, jobs, first, last, job_id, *alike))
    if known.rowcount == 0:
        connection.execute(_INSERT_FAILURES, (job_id, *group))


_ADD_EXECUTIONS = f"""
ON CONFLICT DO UPDATE SET
    executions = executions + excluded.executions,
    successful = successful + excluded.successful,
    exited = exited + excluded.exited,
    timed = timed + excluded.timed,
    seconds = min(seconds + excluded.seconds, {_LARGEST}),
    bytes = bytes + excluded.bytes
"""
_COUNT_ATTEMPTS = f"""
INSERT INTO pruned_executions
SELECT job_id, substr(executed_at, 1, {HOUR_CHARACTERS}) AS moment, count(*), sum(exit_code IS 0),
    count(exit_code), count(duration_seconds), min(total(duration_seconds), {_LARGEST}), sum(bytes)
FROM execution_history INDEXED BY idx_history_job_sheet
WHERE job_id = ? AND sheet_num = ? AND id <= ? GROUP BY moment
{_ADD_EXECUTIONS}
"""
_KIND = "error_category, error_code, exit_code, exit_signal"
_ALIKE = f"hour, {_KIND}"
_SELECT_FAILURES = f"""
SELECT substr(failed_at, 1, {HOUR_CHARACTERS}) AS hour, {_KIND}, count(*), 1, min(failed_at),
    max(failed_at)
FROM failures WHERE id IN (SELECT value FROM json_each(?)) GROUP BY {_ALIKE}
"""
_SELECT_ALL_FAILURES = f"""
SELECT {_ALIKE}, failures, hour = min(hour) OVER (PARTITION BY {_KIND}),
    first_failed_at, last_failed_at
FROM pruned_failures WHERE job_id = ?
"""
_ADD_FAILURES = """
UPDATE pruned_failures SET
    failures = failures + ?1,
    jobs = CASE job_id WHEN '' THEN jobs + ?2 ELSE 1 END,
    first_failed_at = min(first_failed_at, ?3),
    last_failed_at = max(last_failed_at, ?4)
WHERE job_id = ?5 AND hour = ?6 AND error_category IS ?7 AND error_code IS ?8
    AND exit_code IS ?9 AND exit_signal IS ?10
"""
_INSERT_FAILURES = f"""
INSERT INTO pruned_failures (
    job_id, {_ALIKE}, failures, jobs, first_failed_at, last_failed_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_ADD_HOURS = f"""
ON CONFLICT DO UPDATE SET
    jobs_completed = jobs_completed + excluded.jobs_completed,
    sheets_completed = sheets_completed + excluded.sheets_completed,
    sheets_failed = sheets_failed + excluded.sheets_failed,
    sheets_skipped = sheets_skipped + excluded.sheets_skipped,
    input_tokens = input_tokens + excluded.input_tokens,
    output_tokens = output_tokens + excluded.output_tokens,
    estimated_cost = max(-{_LARGEST}, min(estimated_cost + excluded.estimated_cost, {_LARGEST}))
"""
_COUNTED = "sheet_num <= total_sheets AND sheets.status"
_COUNT_JOB = (
    f"""
    INSERT INTO pruned_executions
    SELECT '', hour, executions, successful, exited, timed, seconds, bytes
    FROM pruned_executions WHERE job_id = ? {_ADD_EXECUTIONS}
    """,
    f"""
    INSERT INTO pruned_jobs
    SELECT status, substr(updated_at, 1, {HOUR_CHARACTERS}), 1, total_sheets, sheets_completed,
        sheets_failed, sheets_skipped, total_retry_count, input_tokens, output_tokens,
        estimated_cost, created_at, updated_at
    FROM jobs WHERE id = ?
    ON CONFLICT DO UPDATE SET
        jobs = jobs + 1,
        sheets = sheets + excluded.sheets,
        sheets_completed = sheets_completed + excluded.sheets_completed,
        sheets_failed = sheets_failed + excluded.sheets_failed,
        sheets_skipped = sheets_skipped + excluded.sheets_skipped,
        retries = retries + excluded.retries,
        input_tokens = input_tokens + excluded.input_tokens,
        output_tokens = output_tokens + excluded.output_tokens,
        estimated_cost =
            max(-{_LARGEST}, min(estimated_cost + excluded.estimated_cost, {_LARGEST})),
        first_created_at = min(first_created_at, excluded.first_created_at),
        last_updated_at = max(last_updated_at, excluded.last_updated_at)
    """,
    f"""
    INSERT INTO pruned_hours
    SELECT substr({SHEET_ENDED_AT}, 1, {HOUR_CHARACTERS}) AS moment, 0,
        sum({_COUNTED} = 'completed'), sum({_COUNTED} = 'failed'), sum({_COUNTED} = 'skipped'),
        total(sheets.input_tokens), total(sheets.output_tokens),
        max(-{_LARGEST}, min(coalesce(total(sheets.estimated_cost), 0), {_LARGEST}))
    FROM jobs CROSS JOIN sheets ON sheets.job_id = jobs.id
    WHERE jobs.id = ? AND {SHEET_ENDED_AT} NOTNULL GROUP BY moment {_ADD_HOURS}
    """,
    f"""
    INSERT INTO pruned_hours
    SELECT substr(completed_at, 1, {HOUR_CHARACTERS}), 1, 0, 0, 0, 0, 0, 0
    FROM jobs WHERE id = ? AND status = 'completed' AND completed_at NOTNULL {_ADD_HOURS}
    """,
    """
    INSERT INTO pruned_rules SELECT rule, passed, failed FROM rule_counts WHERE job_id = ?
    ON CONFLICT DO UPDATE SET passed = passed + excluded.passed, failed = failed + excluded.failed
    """,
    """
    INSERT INTO pruned_outcomes
    SELECT outcome_category, sheets, completed, failed, without_retry
    FROM outcome_counts WHERE job_id = ?
    ON CONFLICT DO UPDATE SET
        sheets = sheets + excluded.sheets,
        completed = completed + excluded.completed,
        failed = failed + excluded.failed,
        without_retry = without_retry + excluded.without_retry
    """,
)
"""Each for a job by its id."""
