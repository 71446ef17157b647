BEGIN TRANSACTION;
CREATE TABLE applied_requests (
    client_id BLOB NOT NULL,
    slot INTEGER NOT NULL,
    request_id INTEGER NOT NULL,
    reply BLOB NOT NULL,
    applied_at TEXT NOT NULL,
    PRIMARY KEY (client_id, slot)
) WITHOUT ROWID;
INSERT INTO "applied_requests" VALUES(X'00112233445566778899AABBCCDDEEFF',0,64,X'920092A26F6BC0','2030-01-01T00:00:00.000000+00:00');
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
INSERT INTO "claims" VALUES('claimed',2,0,NULL,NULL,'2026-11-24T21:17:25.217174+00:00');
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO "counters" VALUES('sequence',5);
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
INSERT INTO "execution_history" VALUES(1,'a/😀',1,1,'p','output 1.1',1,0.25,'2026-11-24T21:17:25.217901+00:00');
INSERT INTO "execution_history" VALUES(2,'a/😀',1,2,'p','output 1.2',0,0.5,'2026-11-24T21:17:25.218449+00:00');
INSERT INTO "execution_history" VALUES(3,'a/😀',3,1,'p','output 3.1',1,0.25,'2026-11-24T21:17:25.219006+00:00');
INSERT INTO "execution_history" VALUES(4,'a/😀',1,3,'p','output 1.3',1,0.75,'2026-11-24T21:17:25.219415+00:00');
INSERT INTO "execution_history" VALUES(5,'claimed',1,1,NULL,NULL,0,NULL,'2026-11-24T21:17:25.219912+00:00');
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
INSERT INTO "jobs" VALUES('a/😀','with a gap',NULL,'pending',9,0,NULL,NULL,'{"k":[1,null]}',NULL,NULL,0,0,'2026-11-24T21:17:25.210817+00:00','2026-11-24T21:17:25.211243+00:00',NULL,NULL,NULL,1,'{"mine":{"deep":[1]}}',1,NULL,NULL,3,4,1,4,1.75);
INSERT INTO "jobs" VALUES('empty','',NULL,'pending',3,1,NULL,NULL,NULL,NULL,NULL,0,0,'2026-11-24T21:17:25.213084+00:00','2026-11-24T21:17:25.221941+00:00',NULL,NULL,NULL,2,'{}',6,NULL,NULL,1,0,0,0,0.0);
INSERT INTO "jobs" VALUES('claimed','',NULL,'running',4,0,2,NULL,NULL,NULL,NULL,0,0,'2026-11-24T21:17:25.215759+00:00','2026-11-24T21:17:25.217058+00:00','2026-11-24T21:17:25.216964+00:00',NULL,NULL,2,'{}',5,NULL,NULL,1,1,1,0,0.0);
INSERT INTO "jobs" VALUES('done','',NULL,'completed',1,1,NULL,NULL,NULL,NULL,NULL,0,0,'2026-11-24T21:17:25.222478+00:00','2026-11-24T21:17:25.223266+00:00',NULL,'2026-11-24T21:17:25.223218+00:00',NULL,2,'{}',8,NULL,NULL,1,0,0,0,0.0);
CREATE TABLE schema_version (
    version INTEGER PRIMARY KEY,
    applied_at TEXT NOT NULL
);
INSERT INTO "schema_version" VALUES(5,'2026-11-24T21:17:25.204061+00:00');
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
INSERT INTO "sheets" VALUES('a/😀',1,'completed',1,NULL,NULL,NULL,NULL,'[{"rule":"x"}]',0,'[]','[]',NULL,NULL,NULL,NULL,'[]',0,0,NULL,NULL,'2026-11-24T21:17:25.210765+00:00',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"s":1}');
INSERT INTO "sheets" VALUES('a/😀',2,'failed',2,NULL,'no',NULL,NULL,'[{"rule":"x"}]',0,'[]','[]',NULL,NULL,NULL,NULL,'[]',0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"s":2}');
INSERT INTO "sheets" VALUES('a/😀',3,'completed',3,NULL,NULL,NULL,NULL,'[{"rule":"x"}]',0,'[]','[]',NULL,NULL,NULL,NULL,'[]',0,0,NULL,NULL,'2026-11-24T21:17:25.210802+00:00',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"s":3}');
INSERT INTO "sheets" VALUES('a/😀',5,'completed',5,NULL,NULL,NULL,NULL,'[{"rule":"x"}]',0,'[]','[]',NULL,NULL,NULL,NULL,'[]',0,0,NULL,NULL,'2026-11-24T21:17:25.210814+00:00',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"s":5}');
INSERT INTO "sheets" VALUES('claimed',1,'completed',0,NULL,NULL,NULL,NULL,NULL,0,'[]','[]',NULL,NULL,NULL,NULL,'[]',0,0,NULL,NULL,'2026-11-24T21:17:25.215756+00:00',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}');
INSERT INTO "sheets" VALUES('claimed',2,'in_progress',1,NULL,NULL,NULL,NULL,NULL,0,'[]','[]',NULL,NULL,NULL,NULL,'[]',0,0,NULL,'2026-11-24T21:17:25.216964+00:00',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}');
INSERT INTO "sheets" VALUES('empty',1,'completed',0,0,NULL,NULL,1,NULL,0,'[]','[]',NULL,NULL,NULL,NULL,'[]',0,0,NULL,NULL,'2026-11-24T21:17:25.221869+00:00',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}');
INSERT INTO "sheets" VALUES('done',1,'completed',0,0,NULL,NULL,1,NULL,0,'[]','[]',NULL,NULL,NULL,NULL,'[]',0,0,NULL,NULL,'2026-11-24T21:17:25.223218+00:00',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}');
CREATE TABLE workers (
    job_id TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
    pid INTEGER NOT NULL,
    process_start INTEGER,
    boot_id TEXT,
    PRIMARY KEY (job_id, pid)
) WITHOUT ROWID;
INSERT INTO "workers" VALUES('claimed',0,NULL,NULL);
CREATE INDEX idx_jobs_status ON jobs(status, sequence);
CREATE INDEX idx_jobs_updated ON jobs(updated_at);
CREATE UNIQUE INDEX idx_jobs_sequence ON jobs(sequence);
CREATE INDEX idx_jobs_running_pid ON jobs(pid) WHERE status = 'running' AND pid IS NOT NULL;
CREATE INDEX idx_sheets_status ON sheets(job_id, status, sheet_num);
CREATE INDEX idx_sheets_failed ON sheets(job_id, attempt_count, sheet_num)
    WHERE status = 'failed';
CREATE TRIGGER sheet_inserted AFTER INSERT ON sheets WHEN new.status = 'completed' BEGIN
    UPDATE jobs SET sheets_completed = sheets_completed + 1
    WHERE id = new.job_id AND new.sheet_num <= total_sheets;
END;
CREATE TRIGGER sheet_updated AFTER UPDATE OF status ON sheets
WHEN (new.status = 'completed') <> (old.status = 'completed') BEGIN
    UPDATE jobs SET sheets_completed =
        sheets_completed + (new.status = 'completed') - (old.status = 'completed')
    WHERE id = new.job_id AND new.sheet_num <= total_sheets;
END;
CREATE TRIGGER sheet_deleted AFTER DELETE ON sheets WHEN old.status = 'completed' BEGIN
    UPDATE jobs SET sheets_completed = sheets_completed - 1
    WHERE id = old.job_id AND old.sheet_num <= total_sheets;
END;
CREATE TRIGGER total_changed AFTER UPDATE OF total_sheets ON jobs
WHEN new.total_sheets <> old.total_sheets BEGIN
    UPDATE jobs SET sheets_completed = (
        SELECT count(*) FROM sheets
        WHERE job_id = new.id AND status = 'completed' AND sheet_num <= new.total_sheets)
    WHERE id = new.id;
END;
CREATE INDEX idx_history_job ON execution_history(job_id, id);
CREATE INDEX idx_history_job_sheet ON execution_history(job_id, sheet_num, id);
CREATE INDEX idx_claims_pid ON claims(pid);
CREATE INDEX idx_workers_pid ON workers(pid);
CREATE INDEX idx_applied_requests_at ON applied_requests(applied_at);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('execution_history',6);
COMMIT;
