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
- `jobs.executions…` count the job's history, so that statistics need not.
- `jobs.sheets_completed` counts the completed sheets from 1 to `total_sheets`; every sheet from 1
  to `jobs.sheets_through` has a row, and the one after it has none.
- `execution_history.ordinal` numbers the attempts of each sheet from 1 in the order of their ids.
  Attempts may only be removed oldest first: then the newest and the oldest of a sheet tell how many
  there are.
- `claims` has the process that works on a sheet; `workers` those that have claimed a sheet of a job
  and live, so that a job without a pid of its own has processes too. Pid 0 stands for one that the
  daemon cannot see.
- `applied_requests` has the last reply in each slot of each client (see `messages`), so that a
  write is applied once even when the daemon dies between the commit and the reply.
- `counters` holds the highest sequence among deleted jobs.
- `job_counts` has the number of jobs of each status.

Counts of sheets and of jobs are kept by triggers, whichever statement changes a row.

An index costs every write a page of the log, so there is one only where a search would otherwise
grow with what is kept. `idx_sheets_open` has only the sheets that can be next: to start or complete
one that is not there moves nothing in it. Requests that have expired are found by a scan, once an
hour.
"""

SCHEMA_VERSION = 6
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
    executions_seconds REAL NOT NULL DEFAULT 0
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
    ordinal INTEGER NOT NULL DEFAULT 0
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

INDEXES_AND_TRIGGERS = """
CREATE INDEX idx_jobs_status ON jobs(status, sequence);
CREATE UNIQUE INDEX idx_jobs_sequence ON jobs(sequence);
CREATE INDEX idx_jobs_running_pid ON jobs(pid) WHERE status = 'running' AND pid IS NOT NULL;
CREATE INDEX idx_sheets_open ON sheets(job_id, status, sheet_num)
    WHERE status IN ('pending', 'ready', 'failed');
CREATE INDEX idx_sheets_failed ON sheets(job_id, attempt_count, sheet_num)
    WHERE status = 'failed';
CREATE INDEX idx_history_job ON execution_history(job_id, id);
CREATE INDEX idx_history_job_sheet ON execution_history(job_id, sheet_num, id, ordinal);
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
"""What can be made again from the tables alone: a migration drops it first and makes it last."""
