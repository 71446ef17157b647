"""The tables as they were at version 5, into which the rows of earlier tools are copied.

What lives here: their text, which stays as it is when the schema goes on. What may not: any other
statement.
"""

TABLES_5 = """
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

CREATE TABLE execution_history (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
    sheet_num INTEGER NOT NULL,
    attempt_num INTEGER NOT NULL,
    prompt TEXT,
    output TEXT,
    exit_code INTEGER,
    duration_seconds REAL,
    executed_at TEXT NOT NULL
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

CREATE TABLE execution_extra (
    execution_id INTEGER PRIMARY KEY REFERENCES execution_history(id) ON DELETE CASCADE,
    extra TEXT NOT NULL
);
"""
"""`execution_extra` came later; it is where attempts have what there is no column for."""

WAITING_TABLES = """
CREATE TEMP TABLE waiting_rows (job_id TEXT, from_table TEXT, row TEXT);
CREATE INDEX temp.idx_waiting_rows ON waiting_rows(job_id);
CREATE TEMP TABLE waiting_attempts (row BLOB);
CREATE TEMP TABLE missing_jobs (
    job_id TEXT, sheets INTEGER, completed INTEGER, first TEXT, last TEXT);
"""
"""What has no place yet."""
