"""The tables, as they are at this version.

What lives here: the SQL that makes an empty file ours, and the version it has then. What may not:
changing an older file (that is `migrations`), and any other SQL.

`jobs`, `sheets` and `execution_history` are for people to query: the columns have the names of the
state's fields (in `jobs`, `job_id` and `job_name` are `id` and `name`), times are ISO 8601 text in
UTC, booleans 0 or 1, lists and dicts JSON text. The rest is the daemon's own book-keeping:

- `jobs.sequence` grows with every change of any job: the order of "last updated", whatever the
  clock does. It is the microsecond of `updated_at`, or the first number after that which is larger
  than all before; so what was updated since a moment has at least the sequence of that moment.
- `jobs.process_start` and `jobs.boot_id` tell the job's `pid` from a later process with that
  number; NULL when the daemon cannot see the process.
- `jobs.executions…` count the job's history, so that statistics need not; `executions_exited` are
  those with an exit code.
- `jobs.sheets_completed` counts the completed sheets from 1 to `total_sheets`; every sheet from 1
  to `jobs.sheets_through` has a row, and the one after it has none.
- `jobs.sheets_failed` and `sheets_skipped` count those sheets from 1 to `total_sheets`;
  `jobs.input_tokens`, `output_tokens` and `estimated_cost` are the sums of all sheets.
- `rule_counts` has how often each rule is in the `passed_validations` and the `failed_validations`
  of a job's sheets; `outcome_counts` the sheets of a job by `outcome_category`, the empty text for
  those without one that have `success_without_retry`. Rows may be left with nothing but zeros.
- `execution_history.ordinal` numbers the attempts of each sheet from 1 in the order of their ids.
  Attempts may only be removed oldest first: then the newest and the oldest of a sheet tell how many
  there are.
- `claims` has the process that works on a sheet; `workers` those that have claimed a sheet of a job
  and live, so that a job without a pid of its own has processes too. Pid 0 stands for one that the
  daemon cannot see.
- `failures` has a row for each attempt that failed: told by its sheet, which became failed, by the
  record of the attempt, whose exit code is not 0, or by both, in any order. What is said of the
  failure later, while the sheet is as that attempt left it, is taken over. It is what errors are
  counted and learned from, and outlives the sheet's next attempt.
- `patterns`, `pattern_jobs` and `sheet_counts` have what can be learned from sheets; they are made
  in `patterns`.
- `execution_extra` has, as JSON, what the file of an earlier tool held of an attempt beyond the
  columns there are; nothing else writes to it.
- `execution_history.bytes` is how long prompt and output are in UTF-8: computed from them, and kept
  in two indexes, so that what may be pruned is found without reading a text.
- `pruned_…` have what was pruned, counted; they are made in `pruned`.
- `applied_requests` has the last reply in each slot of each client (see `messages`), so that a
  write is applied once even when the daemon dies between the commit and the reply.
- `counters` holds the highest sequence among deleted jobs, and up to which id the texts are not in
  the index for the search yet.
- `job_counts` has the number of jobs of each status.
- `search_executions` and `search_failures` are there while the search is on (`search_tables`).

Counts of sheets and of jobs are kept by triggers, whichever statement changes a row. Those for
reports look at nothing but what a statement changes, and do nothing where it changes none of it.

An index costs every write a page of the log, so there is one only where a search would otherwise
grow with what is kept. `idx_sheets_open` has only the sheets that can be next: to start or complete
one that is not there moves nothing in it. Prompts and outputs come before the columns that reports
are about, so no report reads a row of the history: `idx_history_job_sheet` and `idx_history_time`
have those columns, and the latter grows at one end. Requests that have expired are found by a
scan, once an hour.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from jobkeepd.store.patterns import PATTERN_INDEXES_AND_TRIGGERS, PATTERN_TABLES
from jobkeepd.store.pruned import PRUNED_INDEXES_AND_TRIGGERS, PRUNED_TABLES

SCHEMA_VERSION = 7
"""Versions 1 to 4 are those of earlier tools with this schema."""

TABLES = """
CREATE TABLE schema_version (
    version INTEGER PRIMARY KEY,
    applied_at TEXT NOT NULL
);

CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT,
    status TEXT NOT NULL DEFAULT 'pending',
    total_sheets INTEGER NOT NULL,
    last_completed_sheet INTEGER NOT NULL DEFAULT 0,
    current_sheet INTEGER,
    config_hash TEXT,
    config_snapshot TEXT,
    pid INTEGER,
    error_message TEXT,
    total_retry_count INTEGER NOT NULL DEFAULT 0,
    rate_limit_waits INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    started_at TEXT,
    completed_at TEXT,
    config_path TEXT,
    revision INTEGER NOT NULL DEFAULT 0,
    extra TEXT NOT NULL DEFAULT '{}',
    sequence INTEGER NOT NULL DEFAULT 0,
    process_start INTEGER,
    boot_id TEXT,
    sheets_completed INTEGER NOT NULL DEFAULT 0,
    sheets_through INTEGER NOT NULL DEFAULT 0,
    executions INTEGER NOT NULL DEFAULT 0,
    executions_successful INTEGER NOT NULL DEFAULT 0,
    executions_timed INTEGER NOT NULL DEFAULT 0,
    executions_seconds REAL NOT NULL DEFAULT 0,
    executions_exited INTEGER NOT NULL DEFAULT 0,
    sheets_failed INTEGER NOT NULL DEFAULT 0,
    sheets_skipped INTEGER NOT NULL DEFAULT 0,
    input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    estimated_cost REAL NOT NULL DEFAULT 0
);

CREATE TABLE sheets (
    job_id TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
    sheet_num INTEGER NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending',
    attempt_count INTEGER NOT NULL DEFAULT 0,
    exit_code INTEGER,
    error_message TEXT,
    error_category TEXT,
    validation_passed INTEGER,
    validation_details TEXT,
    completion_attempts INTEGER NOT NULL DEFAULT 0,
    passed_validations TEXT,
    failed_validations TEXT,
    last_pass_percentage REAL,
    execution_mode TEXT,
    outcome_data TEXT,
    confidence_score REAL,
    learned_patterns TEXT,
    similar_outcomes_count INTEGER NOT NULL DEFAULT 0,
    success_without_retry INTEGER NOT NULL DEFAULT 0,
    outcome_category TEXT,
    started_at TEXT,
    completed_at TEXT,
    execution_duration_seconds REAL,
    exit_signal INTEGER,
    exit_reason TEXT,
    error_code TEXT,
    model TEXT,
    input_tokens INTEGER,
    output_tokens INTEGER,
    estimated_cost REAL,
    extra TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (job_id, sheet_num)
);

CREATE TABLE job_counts (
    status TEXT PRIMARY KEY,
    jobs INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE execution_history (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
    sheet_num INTEGER NOT NULL,
    attempt_num INTEGER NOT NULL,
    prompt TEXT,
    output TEXT,
    exit_code INTEGER,
    duration_seconds REAL,
    executed_at TEXT NOT NULL,
    ordinal INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER GENERATED ALWAYS AS (
        coalesce(length(CAST(prompt AS BLOB)), 0) + coalesce(length(CAST(output AS BLOB)), 0)
    ) VIRTUAL
);

CREATE TABLE failures (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
    sheet_num INTEGER NOT NULL,
    attempt_num INTEGER NOT NULL,
    execution_id INTEGER,
    exit_code INTEGER,
    exit_signal INTEGER,
    exit_reason TEXT,
    error_category TEXT,
    error_code TEXT,
    error_message TEXT,
    failed_at TEXT NOT NULL
);

CREATE TABLE rule_counts (
    job_id TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
    rule TEXT NOT NULL,
    passed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    PRIMARY KEY (job_id, rule)
) WITHOUT ROWID;

CREATE TABLE outcome_counts (
    job_id TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
    outcome_category TEXT NOT NULL,
    sheets INTEGER NOT NULL,
    completed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    without_retry INTEGER NOT NULL,
    PRIMARY KEY (job_id, outcome_category)
) WITHOUT ROWID;
CREATE TABLE execution_extra (
    execution_id INTEGER PRIMARY KEY REFERENCES execution_history(id) ON DELETE CASCADE,
    extra TEXT NOT NULL
);

CREATE TABLE claims (
    job_id TEXT NOT NULL,
    sheet_num INTEGER NOT NULL,
    pid INTEGER,
    process_start INTEGER,
    boot_id TEXT,
    claimed_at TEXT NOT NULL,
    PRIMARY KEY (job_id, sheet_num),
    FOREIGN KEY (job_id, sheet_num) REFERENCES sheets(job_id, sheet_num) ON DELETE CASCADE
) WITHOUT ROWID;

CREATE TABLE workers (
    job_id TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
    pid INTEGER NOT NULL,
    process_start INTEGER,
    boot_id TEXT,
    PRIMARY KEY (job_id, pid)
) WITHOUT ROWID;

CREATE TABLE applied_requests (
    client_id BLOB NOT NULL,
    slot INTEGER NOT NULL,
    request_id INTEGER NOT NULL,
    reply BLOB NOT NULL,
    applied_at TEXT NOT NULL,
    PRIMARY KEY (client_id, slot)
) WITHOUT ROWID;

CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO counters VALUES ('sequence', 0);
"""
TABLES += PATTERN_TABLES + PRUNED_TABLES

_DESCRIBE_FAILURE = """\
    UPDATE failures SET
        exit_code = coalesce(new.exit_code, exit_code),
        exit_signal = new.exit_signal,
        exit_reason = new.exit_reason,
        error_category = new.error_category,
        error_code = new.error_code,
        error_message = new.error_message
    WHERE id = (
            SELECT max(id) FROM failures
            WHERE job_id = new.job_id AND sheet_num = new.sheet_num)
        AND attempt_num = new.attempt_count"""
_KEEP_FAILURE = f"""\
{_DESCRIBE_FAILURE} AND error_message IS NULL;
    INSERT INTO failures (
        job_id, sheet_num, attempt_num, exit_code, exit_signal, exit_reason, error_category,
        error_code, error_message, failed_at)
    SELECT new.job_id, new.sheet_num, new.attempt_count, new.exit_code, new.exit_signal,
        new.exit_reason, new.error_category, new.error_code, new.error_message,
        coalesce(new.completed_at, updated_at)
    FROM jobs WHERE id = new.job_id AND changes() = 0;"""

INDEXES_AND_TRIGGERS = f"""
CREATE INDEX idx_jobs_status ON jobs(status, sequence);
CREATE UNIQUE INDEX idx_jobs_sequence ON jobs(sequence);
CREATE INDEX idx_jobs_running_pid ON jobs(pid) WHERE status = 'running' AND pid IS NOT NULL;
CREATE INDEX idx_sheets_open ON sheets(job_id, status, sheet_num)
    WHERE status IN ('pending', 'ready', 'failed');
CREATE INDEX idx_sheets_failed ON sheets(job_id, attempt_count, sheet_num)
    WHERE status = 'failed';
CREATE INDEX idx_history_job ON execution_history(job_id, id);
CREATE INDEX idx_history_job_sheet ON execution_history(
    job_id, sheet_num, id, ordinal, executed_at, exit_code, duration_seconds, bytes);
CREATE INDEX idx_history_time ON execution_history(
    executed_at, job_id, sheet_num, exit_code, duration_seconds, bytes);
CREATE INDEX idx_failures_sheet ON failures(job_id, sheet_num, id);
CREATE INDEX idx_failures_execution ON failures(execution_id) WHERE execution_id NOTNULL;
CREATE INDEX idx_failures_time ON failures(
    failed_at, job_id, error_category, error_code, exit_code, exit_signal);
CREATE INDEX idx_failures_code ON failures(error_code) WHERE error_code NOTNULL;
CREATE INDEX idx_failures_category ON failures(error_category) WHERE error_category NOTNULL;
CREATE INDEX idx_failures_exit_code ON failures(exit_code) WHERE exit_code NOTNULL;
CREATE INDEX idx_claims_pid ON claims(pid);
CREATE INDEX idx_workers_pid ON workers(pid);

CREATE TRIGGER sheet_inserted AFTER INSERT ON sheets BEGIN
    UPDATE jobs SET
        sheets_completed =
            sheets_completed + (new.status = 'completed' AND new.sheet_num <= total_sheets),
        sheets_through = CASE new.sheet_num WHEN sheets_through + 1 THEN (
            SELECT sheet_num FROM sheets AS present
            WHERE job_id = new.job_id AND sheet_num >= new.sheet_num AND NOT EXISTS (
                SELECT 1 FROM sheets
                WHERE job_id = new.job_id AND sheet_num = present.sheet_num + 1)
            ORDER BY sheet_num LIMIT 1) ELSE sheets_through END
    WHERE id = new.job_id AND (new.sheet_num = sheets_through + 1 OR new.status = 'completed');
END;
CREATE TRIGGER sheet_updated AFTER UPDATE OF status ON sheets
WHEN (new.status = 'completed') <> (old.status = 'completed') BEGIN
    UPDATE jobs SET sheets_completed =
        sheets_completed + (new.status = 'completed') - (old.status = 'completed')
    WHERE id = new.job_id AND new.sheet_num <= total_sheets;
END;
CREATE TRIGGER sheet_deleted AFTER DELETE ON sheets BEGIN
    UPDATE jobs SET
        sheets_completed =
            sheets_completed - (old.status = 'completed' AND old.sheet_num <= total_sheets),
        sheets_through = min(sheets_through, old.sheet_num - 1)
    WHERE id = old.job_id AND (old.sheet_num <= sheets_through OR old.status = 'completed');
END;
CREATE TRIGGER sheet_failed_at_once AFTER INSERT ON sheets WHEN new.status = 'failed' BEGIN
{_KEEP_FAILURE}
END;
CREATE TRIGGER sheet_failed AFTER UPDATE OF status, attempt_count ON sheets
WHEN new.status = 'failed'
    AND (old.status <> 'failed' OR new.attempt_count <> old.attempt_count) BEGIN
{_KEEP_FAILURE}
END;
CREATE TRIGGER failure_described AFTER UPDATE OF
    exit_code, exit_signal, exit_reason, error_category, error_code, error_message ON sheets
WHEN new.status = 'failed' AND old.status = 'failed' AND new.attempt_count = old.attempt_count
    AND (new.exit_code IS NOT old.exit_code OR new.exit_signal IS NOT old.exit_signal
        OR new.exit_reason IS NOT old.exit_reason OR new.error_category IS NOT old.error_category
        OR new.error_code IS NOT old.error_code OR new.error_message IS NOT old.error_message) BEGIN
{_DESCRIBE_FAILURE};
END;
CREATE TRIGGER attempt_failed AFTER INSERT ON execution_history WHEN new.exit_code <> 0 BEGIN
    UPDATE failures SET execution_id = new.id, exit_code = coalesce(exit_code, new.exit_code)
    WHERE id = (
            SELECT max(id) FROM (
                SELECT id, attempt_num, execution_id FROM failures
                WHERE job_id = new.job_id AND sheet_num = new.sheet_num
                ORDER BY id DESC LIMIT 100)
            WHERE attempt_num = new.attempt_num AND execution_id IS NULL);
    INSERT INTO failures (job_id, sheet_num, attempt_num, execution_id, exit_code, failed_at)
    SELECT new.job_id, new.sheet_num, new.attempt_num, new.id, new.exit_code, new.executed_at
    WHERE changes() = 0;
END;
CREATE TRIGGER total_changed AFTER UPDATE OF total_sheets ON jobs
WHEN new.total_sheets <> old.total_sheets BEGIN
    UPDATE jobs SET sheets_completed = sheets_completed
        + CASE WHEN new.total_sheets > old.total_sheets THEN 1 ELSE -1 END * (
            SELECT count(*) FROM sheets
            WHERE job_id = new.id AND status = 'completed'
                AND sheet_num > min(old.total_sheets, new.total_sheets)
                AND sheet_num <= max(old.total_sheets, new.total_sheets))
    WHERE id = new.id;
END;
CREATE TRIGGER sheet_figures_inserted AFTER INSERT ON sheets
WHEN new.status IN ('failed', 'skipped') OR new.input_tokens NOTNULL
    OR new.output_tokens NOTNULL OR new.estimated_cost NOTNULL BEGIN
    UPDATE jobs SET
        sheets_failed =
            sheets_failed + (new.status = 'failed' AND new.sheet_num <= total_sheets),
        sheets_skipped =
            sheets_skipped + (new.status = 'skipped' AND new.sheet_num <= total_sheets),
        input_tokens = max(-9223372036854775807, min(9223372036854775807,
            input_tokens + coalesce(new.input_tokens, 0))),
        output_tokens = max(-9223372036854775807, min(9223372036854775807,
            output_tokens + coalesce(new.output_tokens, 0))),
        estimated_cost = max(-1.7976931348623157e308, min(1.7976931348623157e308,
            estimated_cost + coalesce(new.estimated_cost, 0.0)))
    WHERE id = new.job_id;
END;
CREATE TRIGGER sheet_figures_updated
AFTER UPDATE OF status, input_tokens, output_tokens, estimated_cost ON sheets
WHEN (new.status = 'failed') <> (old.status = 'failed')
    OR (new.status = 'skipped') <> (old.status = 'skipped')
    OR new.input_tokens IS NOT old.input_tokens OR new.output_tokens IS NOT old.output_tokens
    OR new.estimated_cost IS NOT old.estimated_cost BEGIN
    UPDATE jobs SET
        sheets_failed = sheets_failed + CASE WHEN new.sheet_num <= total_sheets
            THEN (new.status = 'failed') - (old.status = 'failed') ELSE 0 END,
        sheets_skipped = sheets_skipped + CASE WHEN new.sheet_num <= total_sheets
            THEN (new.status = 'skipped') - (old.status = 'skipped') ELSE 0 END,
        input_tokens = max(-9223372036854775807, min(9223372036854775807,
            input_tokens - coalesce(old.input_tokens, 0) + coalesce(new.input_tokens, 0))),
        output_tokens = max(-9223372036854775807, min(9223372036854775807,
            output_tokens - coalesce(old.output_tokens, 0) + coalesce(new.output_tokens, 0))),
        estimated_cost = max(-1.7976931348623157e308, min(1.7976931348623157e308,
            estimated_cost - coalesce(old.estimated_cost, 0.0)
            + coalesce(new.estimated_cost, 0.0)))
    WHERE id = new.job_id;
END;
CREATE TRIGGER sheet_figures_deleted AFTER DELETE ON sheets
WHEN old.status IN ('failed', 'skipped') OR old.input_tokens NOTNULL
    OR old.output_tokens NOTNULL OR old.estimated_cost NOTNULL BEGIN
    UPDATE jobs SET
        sheets_failed =
            sheets_failed - (old.status = 'failed' AND old.sheet_num <= total_sheets),
        sheets_skipped =
            sheets_skipped - (old.status = 'skipped' AND old.sheet_num <= total_sheets),
        input_tokens = max(-9223372036854775807, min(9223372036854775807,
            input_tokens - coalesce(old.input_tokens, 0))),
        output_tokens = max(-9223372036854775807, min(9223372036854775807,
            output_tokens - coalesce(old.output_tokens, 0))),
        estimated_cost = max(-1.7976931348623157e308, min(1.7976931348623157e308,
            estimated_cost - coalesce(old.estimated_cost, 0.0)))
    WHERE id = old.job_id;
END;
CREATE TRIGGER sheet_rules_inserted AFTER INSERT ON sheets
WHEN new.passed_validations <> '[]' OR new.failed_validations <> '[]' BEGIN
    INSERT INTO rule_counts
    SELECT new.job_id, value, sum(has_passed), sum(1 - has_passed) FROM (
        SELECT value, 1 AS has_passed FROM json_each(
            CASE WHEN json_valid(new.passed_validations) THEN new.passed_validations END)
        UNION ALL SELECT value, 0 FROM json_each(
            CASE WHEN json_valid(new.failed_validations) THEN new.failed_validations END))
    WHERE value NOTNULL GROUP BY value
    ON CONFLICT DO UPDATE SET
        passed = passed + excluded.passed, failed = failed + excluded.failed;
END;
CREATE TRIGGER sheet_rules_updated
AFTER UPDATE OF passed_validations, failed_validations ON sheets
WHEN new.passed_validations IS NOT old.passed_validations
    OR new.failed_validations IS NOT old.failed_validations BEGIN
    INSERT INTO rule_counts
    SELECT new.job_id, value, sum(passes), sum(fails) FROM (
        SELECT value, 1 AS passes, 0 AS fails FROM json_each(
            CASE WHEN json_valid(new.passed_validations) THEN new.passed_validations END)
        UNION ALL SELECT value, 0, 1 FROM json_each(
            CASE WHEN json_valid(new.failed_validations) THEN new.failed_validations END)
        UNION ALL SELECT value, -1, 0 FROM json_each(
            CASE WHEN json_valid(old.passed_validations) THEN old.passed_validations END)
        UNION ALL SELECT value, 0, -1 FROM json_each(
            CASE WHEN json_valid(old.failed_validations) THEN old.failed_validations END))
    WHERE value NOTNULL GROUP BY value HAVING sum(passes) <> 0 OR sum(fails) <> 0
    ON CONFLICT DO UPDATE SET
        passed = passed + excluded.passed, failed = failed + excluded.failed;
END;
CREATE TRIGGER sheet_rules_deleted AFTER DELETE ON sheets
WHEN old.passed_validations <> '[]' OR old.failed_validations <> '[]' BEGIN
    UPDATE rule_counts SET passed = passed - passes, failed = failed - fails FROM (
        SELECT value, sum(has_passed) AS passes, sum(1 - has_passed) AS fails FROM (
            SELECT value, 1 AS has_passed FROM json_each(
                CASE WHEN json_valid(old.passed_validations) THEN old.passed_validations END)
            UNION ALL SELECT value, 0 FROM json_each(
                CASE WHEN json_valid(old.failed_validations) THEN old.failed_validations END))
        GROUP BY value)
    WHERE job_id = old.job_id AND rule = value;
END;
CREATE TRIGGER sheet_outcome_inserted AFTER INSERT ON sheets
WHEN new.outcome_category <> '' OR new.success_without_retry BEGIN
    INSERT INTO outcome_counts VALUES (
        new.job_id, coalesce(new.outcome_category, ''), 1, new.status = 'completed',
        new.status = 'failed', new.success_without_retry)
    ON CONFLICT DO UPDATE SET
        sheets = sheets + 1,
        completed = completed + excluded.completed,
        failed = failed + excluded.failed,
        without_retry = without_retry + excluded.without_retry;
END;
CREATE TRIGGER sheet_outcome_updated
AFTER UPDATE OF status, outcome_category, success_without_retry ON sheets
WHEN (new.status IS NOT old.status OR new.outcome_category IS NOT old.outcome_category
        OR new.success_without_retry <> old.success_without_retry)
    AND (new.outcome_category <> '' OR new.success_without_retry
        OR old.outcome_category <> '' OR old.success_without_retry) BEGIN
    UPDATE outcome_counts SET
        sheets = sheets - 1,
        completed = completed - (old.status = 'completed'),
        failed = failed - (old.status = 'failed'),
        without_retry = without_retry - old.success_without_retry
    WHERE job_id = old.job_id AND outcome_category = coalesce(old.outcome_category, '')
        AND (old.outcome_category <> '' OR old.success_without_retry);
    INSERT INTO outcome_counts
    SELECT new.job_id, coalesce(new.outcome_category, ''), 1, new.status = 'completed',
        new.status = 'failed', new.success_without_retry
    WHERE new.outcome_category <> '' OR new.success_without_retry
    ON CONFLICT DO UPDATE SET
        sheets = sheets + 1,
        completed = completed + excluded.completed,
        failed = failed + excluded.failed,
        without_retry = without_retry + excluded.without_retry;
END;
CREATE TRIGGER sheet_outcome_deleted AFTER DELETE ON sheets
WHEN old.outcome_category <> '' OR old.success_without_retry BEGIN
    UPDATE outcome_counts SET
        sheets = sheets - 1,
        completed = completed - (old.status = 'completed'),
        failed = failed - (old.status = 'failed'),
        without_retry = without_retry - old.success_without_retry
    WHERE job_id = old.job_id AND outcome_category = coalesce(old.outcome_category, '');
END;
CREATE TRIGGER total_changed_figures AFTER UPDATE OF total_sheets ON jobs
WHEN new.total_sheets <> old.total_sheets BEGIN
    UPDATE jobs SET
        sheets_failed = sheets_failed + coalesce(change * failed, 0),
        sheets_skipped = sheets_skipped + coalesce(change * skipped, 0)
    FROM (
        SELECT CASE WHEN new.total_sheets > old.total_sheets THEN 1 ELSE -1 END AS change,
            sum(status = 'failed') AS failed, sum(status = 'skipped') AS skipped
        FROM sheets WHERE job_id = new.id
            AND sheet_num > min(old.total_sheets, new.total_sheets)
            AND sheet_num <= max(old.total_sheets, new.total_sheets))
    WHERE id = new.id;
END;
CREATE TRIGGER job_inserted AFTER INSERT ON jobs BEGIN
    INSERT INTO job_counts VALUES (new.status, 1) ON CONFLICT DO UPDATE SET jobs = jobs + 1;
END;
CREATE TRIGGER job_moved AFTER UPDATE OF status ON jobs WHEN new.status <> old.status BEGIN
    INSERT INTO job_counts VALUES (new.status, 1) ON CONFLICT DO UPDATE SET jobs = jobs + 1;
    UPDATE job_counts SET jobs = jobs - 1 WHERE status = old.status;
END;
CREATE TRIGGER job_deleted AFTER DELETE ON jobs BEGIN
    UPDATE job_counts SET jobs = jobs - 1 WHERE status = old.status;
END;
"""
INDEXES_AND_TRIGGERS += PATTERN_INDEXES_AND_TRIGGERS + PRUNED_INDEXES_AND_TRIGGERS
"""What can be made again from the tables alone: a migration drops it first and makes it last."""


def statements(script: str) -> Iterator[str]:
    """One statement of a script after the other; a trigger is one, with those within it."""
    statement = ""
    *parts, _ = script.split(";")
    for part in parts:
        statement += f"{part};"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
