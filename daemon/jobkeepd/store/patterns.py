"""Learned patterns, counted over all sheets as they change.

What lives here: the tables that keep these counts with the triggers that move them, and what
becomes of a job's counts when it is pruned. What may not: asking for them (that is `learning`), and
any other table (those are in `schema`).

- `pattern_jobs` has what is known of a pattern in one job, counted from the sheets that carry it. A
  pattern that comes twice in the list of one sheet counts once, and one with a NUL in it is known
  by what is before that, which is all that SQLite's `json_each` gives.
- `patterns` has the sums of that for each pattern, whichever statement changes `pattern_jobs`.
- `sheet_counts` has how many sheets are completed and how many failed, so that those with a
  pattern can be compared with those without.

A sheet is *seen* with its patterns when it is stored and carries them for the first time or with
another status, time or confidence: at its `completed_at`, else its `started_at`, else the last
update of its job. `patterns` has the least and the greatest of these times so far, those of sheets
that have changed since included; `pattern_jobs` the one that was told first and the one told last,
so that its index by the former never moves.

A deleted job's part is taken away at once, before its sheets go one by one. A pruned job's stays:
in `pattern_jobs` in rows with an empty `job_id`, which stand for all of them, and in
`sheet_counts.pruned`.

A sheet without patterns, or one that is stored as it was, costs no more than a look at it. The
index of `patterns` is moved only when the number of sheets is: SQLite writes the indexes of all
columns that a statement names.
"""

from __future__ import annotations

import sqlite3

PATTERN_TABLES = """
CREATE TABLE patterns (
    pattern TEXT PRIMARY KEY,
    sheets INTEGER NOT NULL,
    completed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    confidences INTEGER NOT NULL,
    confidence_total REAL NOT NULL,
    jobs INTEGER NOT NULL,
    first_seen_at TEXT NOT NULL,
    last_seen_at TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE pattern_jobs (
    job_id TEXT NOT NULL,
    pattern TEXT NOT NULL,
    sheets INTEGER NOT NULL,
    completed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    confidences INTEGER NOT NULL,
    confidence_total REAL NOT NULL,
    jobs INTEGER NOT NULL DEFAULT 1,
    first_seen_at TEXT NOT NULL,
    last_seen_at TEXT NOT NULL,
    PRIMARY KEY (job_id, pattern)
) WITHOUT ROWID;

CREATE TABLE sheet_counts (
    status TEXT PRIMARY KEY,
    sheets INTEGER NOT NULL,
    pruned INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
INSERT INTO sheet_counts (status, sheets) VALUES ('completed', 0), ('failed', 0);
"""

_ADD = """
    INSERT INTO pattern_jobs (
        job_id, pattern, sheets, completed, failed, confidences, confidence_total,
        first_seen_at, last_seen_at)
    SELECT DISTINCT new.job_id, value, 1, new.status = 'completed', new.status = 'failed',
        new.confidence_score NOTNULL, coalesce(new.confidence_score, 0), seen_at, seen_at
    FROM json_each(new.learned_patterns), (
        SELECT coalesce(new.completed_at, new.started_at, updated_at) AS seen_at
        FROM jobs WHERE id = new.job_id)
    WHERE json_each.type = 'text'
    ON CONFLICT DO UPDATE SET
        sheets = sheets + 1,
        completed = completed + excluded.completed,
        failed = failed + excluded.failed,
        confidences = confidences + excluded.confidences,
        confidence_total = confidence_total + excluded.confidence_total,
        last_seen_at = excluded.last_seen_at;
"""
_OF_OLD_SHEET = """job_id = old.job_id AND pattern IN (
        SELECT value FROM json_each(CASE WHEN json_valid(old.learned_patterns)
            THEN old.learned_patterns END))"""
"""A list that another program has broken carries nothing, and can be replaced."""

_SUBTRACT = f"""
    UPDATE pattern_jobs SET
        sheets = sheets - 1,
        completed = completed - (old.status = 'completed'),
        failed = failed - (old.status = 'failed'),
        confidences = confidences - (old.confidence_score NOTNULL),
        confidence_total = confidence_total - coalesce(old.confidence_score, 0)
    WHERE {_OF_OLD_SHEET};
"""
_REMOVE_EMPTY = f"""
    DELETE FROM pattern_jobs WHERE {_OF_OLD_SHEET} AND sheets = 0;
"""

PATTERN_INDEXES_AND_TRIGGERS = f"""
CREATE INDEX idx_patterns_sheets ON patterns(sheets DESC, pattern);
CREATE INDEX idx_pattern_jobs_newest ON pattern_jobs(pattern, first_seen_at);

CREATE TRIGGER sheet_counted AFTER INSERT ON sheets
WHEN new.status IN ('completed', 'failed') BEGIN
    UPDATE sheet_counts SET sheets = sheets + 1 WHERE status = new.status;
END;
CREATE TRIGGER sheet_counted_anew AFTER UPDATE OF status ON sheets
WHEN new.status <> old.status
    AND (new.status IN ('completed', 'failed') OR old.status IN ('completed', 'failed')) BEGIN
    UPDATE sheet_counts SET sheets = sheets + (status = new.status) - (status = old.status)
    WHERE status IN (new.status, old.status);
END;
CREATE TRIGGER sheet_uncounted AFTER DELETE ON sheets
WHEN old.status IN ('completed', 'failed') BEGIN
    UPDATE sheet_counts SET sheets = sheets - 1 WHERE status = old.status;
END;

CREATE TRIGGER patterns_learned AFTER INSERT ON sheets
WHEN new.learned_patterns <> '[]' BEGIN {_ADD} END;
CREATE TRIGGER patterns_seen_again AFTER UPDATE ON sheets
WHEN new.learned_patterns = old.learned_patterns AND new.learned_patterns <> '[]'
    AND (new.status <> old.status OR new.completed_at IS NOT old.completed_at
        OR new.started_at IS NOT old.started_at
        OR new.confidence_score IS NOT old.confidence_score) BEGIN
    UPDATE pattern_jobs SET
        completed = completed + (new.status = 'completed') - (old.status = 'completed'),
        failed = failed + (new.status = 'failed') - (old.status = 'failed'),
        confidences =
            confidences + (new.confidence_score NOTNULL) - (old.confidence_score NOTNULL),
        confidence_total = confidence_total
            + coalesce(new.confidence_score, 0) - coalesce(old.confidence_score, 0),
        last_seen_at = coalesce(new.completed_at, new.started_at, (
            SELECT updated_at FROM jobs WHERE id = new.job_id))
    WHERE {_OF_OLD_SHEET};
END;
CREATE TRIGGER patterns_changed AFTER UPDATE ON sheets
WHEN new.learned_patterns IS NOT old.learned_patterns
    AND (coalesce(new.learned_patterns, '[]') <> '[]'
        OR coalesce(old.learned_patterns, '[]') <> '[]')
BEGIN {_SUBTRACT} {_ADD} {_REMOVE_EMPTY} END;
CREATE TRIGGER patterns_forgotten AFTER DELETE ON sheets
WHEN old.learned_patterns <> '[]'
    AND EXISTS (SELECT 1 FROM pattern_jobs WHERE job_id = old.job_id)
BEGIN {_SUBTRACT} {_REMOVE_EMPTY} END;
CREATE TRIGGER job_forgotten BEFORE DELETE ON jobs BEGIN
    DELETE FROM pattern_jobs WHERE job_id = old.id;
END;

CREATE TRIGGER pattern_job_inserted AFTER INSERT ON pattern_jobs BEGIN
    INSERT INTO patterns VALUES (
        new.pattern, new.sheets, new.completed, new.failed, new.confidences,
        new.confidence_total, new.jobs, new.first_seen_at, new.last_seen_at)
    ON CONFLICT DO UPDATE SET
        sheets = sheets + excluded.sheets,
        completed = completed + excluded.completed,
        failed = failed + excluded.failed,
        confidences = confidences + excluded.confidences,
        confidence_total = confidence_total + excluded.confidence_total,
        jobs = jobs + excluded.jobs,
        first_seen_at = min(first_seen_at, excluded.first_seen_at),
        last_seen_at = max(last_seen_at, excluded.last_seen_at);
END;
CREATE TRIGGER pattern_job_grown AFTER UPDATE OF sheets ON pattern_jobs BEGIN
    UPDATE patterns SET sheets = sheets + new.sheets - old.sheets WHERE pattern = new.pattern;
END;
CREATE TRIGGER pattern_job_updated AFTER UPDATE ON pattern_jobs BEGIN
    UPDATE patterns SET
        completed = completed + new.completed - old.completed,
        failed = failed + new.failed - old.failed,
        confidences = confidences + new.confidences - old.confidences,
        confidence_total = confidence_total + new.confidence_total - old.confidence_total,
        jobs = jobs + new.jobs - old.jobs,
        first_seen_at = min(first_seen_at, new.last_seen_at),
        last_seen_at = max(last_seen_at, new.last_seen_at)
    WHERE pattern = new.pattern;
END;
CREATE TRIGGER pattern_job_deleted AFTER DELETE ON pattern_jobs BEGIN
    UPDATE patterns SET
        sheets = sheets - old.sheets,
        completed = completed - old.completed,
        failed = failed - old.failed,
        confidences = confidences - old.confidences,
        confidence_total = confidence_total - old.confidence_total,
        jobs = jobs - old.jobs
    WHERE pattern = old.pattern;
    DELETE FROM patterns WHERE pattern = old.pattern AND jobs = 0;
END;
"""

_KEEP_PATTERNS = """
INSERT INTO pattern_jobs
SELECT '', pattern, sheets, completed, failed, confidences, confidence_total, jobs,
    first_seen_at, last_seen_at
FROM pattern_jobs WHERE job_id = ?
ON CONFLICT DO UPDATE SET
    sheets = sheets + excluded.sheets,
    completed = completed + excluded.completed,
    failed = failed + excluded.failed,
    confidences = confidences + excluded.confidences,
    confidence_total = confidence_total + excluded.confidence_total,
    jobs = jobs + excluded.jobs,
    last_seen_at = excluded.last_seen_at
"""
_KEEP_COUNTS = """
UPDATE sheet_counts SET pruned = pruned + (
    SELECT count(*) FROM sheets WHERE job_id = ? AND sheets.status = sheet_counts.status)
"""


def keep_what_was_learned(connection: sqlite3.Connection, job_id: str) -> None:
    """What the sheets of a job have taught stays when the job is removed next, in the same
    transaction: to prune a job is not to unlearn it."""
    connection.execute(_KEEP_PATTERNS, (job_id,))
    connection.execute("DELETE FROM pattern_jobs WHERE job_id = ?", (job_id,))
    connection.execute(_KEEP_COUNTS, (job_id,))
