"""Bringing a file to this version of the schema, or refusing it untouched.

What lives here: what happens to an empty file, one of this version, and one of another. What may
not: the tables themselves (that is `schema`).

A step changes tables and what is in them, and stays as it is when the schema goes on. Indexes and
triggers are dropped before the first step and made after the last, as `schema` has them. The file
of an earlier tool, with a version before jobkeep's first, is made one of that first version by
`earlier`, in the same transaction.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

from jobkeep_protocol.errors import StorageError
from jobkeep_protocol.states import utc_now
from jobkeepd import failpoints
from jobkeepd.store.connection import path_of
from jobkeepd.store.copies import copy_before_migration
from jobkeepd.store.earlier.recognition import is_made_by_an_earlier_tool
from jobkeepd.store.earlier.transfer import Transfer
from jobkeepd.store.rows import to_text
from jobkeepd.store.schema import INDEXES_AND_TRIGGERS, SCHEMA_VERSION, TABLES, statements
from jobkeepd.store.search_tables import is_of_search

log = logging.getLogger(__name__)

_TO_6 = """
ALTER TABLE jobs ADD COLUMN sheets_through INTEGER NOT NULL DEFAULT 0;
UPDATE jobs SET sheets_through = (
    SELECT coalesce(max(sheet_num), 0) FROM (
        SELECT sheet_num, row_number() OVER (ORDER BY sheet_num) AS place
        FROM sheets WHERE job_id = jobs.id)
    WHERE sheet_num = place);

UPDATE jobs SET sequence = found.sequence FROM (
    SELECT id, place + max(moment - place) OVER (ORDER BY place) AS sequence FROM (
        SELECT id, row_number() OVER (ORDER BY sequence) AS place,
            strftime('%s', updated_at) * 1000000 + substr(updated_at, 21, 6) AS moment
        FROM jobs)
) AS found WHERE found.id = jobs.id;

CREATE TABLE job_counts (
    status TEXT PRIMARY KEY,
    jobs INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO job_counts SELECT status, count(*) FROM jobs GROUP BY status;

ALTER TABLE execution_history ADD COLUMN ordinal INTEGER NOT NULL DEFAULT 0;
UPDATE execution_history SET ordinal = found.ordinal FROM (
    SELECT id, row_number() OVER (PARTITION BY job_id, sheet_num ORDER BY id) AS ordinal
    FROM execution_history
) AS found WHERE found.id = execution_history.id;
"""

_TO_7 = """
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
INSERT INTO failures (job_id, sheet_num, attempt_num, execution_id, exit_code, failed_at)
SELECT job_id, sheet_num, attempt_num, id, exit_code, executed_at
FROM execution_history WHERE exit_code <> 0 ORDER BY id;
UPDATE failures SET
    exit_code = coalesce(sheet.exit_code, failures.exit_code),
    exit_signal = sheet.exit_signal,
    exit_reason = sheet.exit_reason,
    error_category = sheet.error_category,
    error_code = sheet.error_code,
    error_message = sheet.error_message
FROM sheets AS sheet
WHERE sheet.status = 'failed' AND failures.id = (
        SELECT max(id) FROM failures AS newest
        WHERE newest.job_id = sheet.job_id AND newest.sheet_num = sheet.sheet_num)
    AND failures.attempt_num = sheet.attempt_count;
INSERT INTO failures (
    job_id, sheet_num, attempt_num, exit_code, exit_signal, exit_reason, error_category,
    error_code, error_message, failed_at)
SELECT job_id, sheet_num, attempt_count, exit_code, exit_signal, exit_reason, error_category,
    error_code, sheets.error_message, coalesce(sheets.completed_at, updated_at)
FROM sheets JOIN jobs ON jobs.id = job_id
WHERE sheets.status = 'failed' AND NOT EXISTS (
    SELECT 1 FROM failures WHERE failures.job_id = sheets.job_id
        AND failures.sheet_num = sheets.sheet_num AND attempt_num = attempt_count);
"""

_FIGURES_TO_7 = """
ALTER TABLE jobs ADD COLUMN executions_exited INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN sheets_failed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN sheets_skipped INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN input_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN output_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN estimated_cost REAL NOT NULL DEFAULT 0;
UPDATE jobs SET executions_exited = exited FROM (
    SELECT job_id, count(exit_code) AS exited FROM execution_history GROUP BY +job_id
) AS found WHERE job_id = id;
UPDATE jobs SET
    sheets_failed = found.failed,
    sheets_skipped = found.skipped,
    input_tokens =
        CAST(max(-9223372036854775807, min(9223372036854775807, found.input)) AS INTEGER),
    output_tokens =
        CAST(max(-9223372036854775807, min(9223372036854775807, found.output)) AS INTEGER),
    estimated_cost =
        max(-1.7976931348623157e308, min(1.7976931348623157e308, coalesce(found.cost, 0)))
FROM (
    SELECT job_id, sum(sheets.status = 'failed' AND sheet_num <= total_sheets) AS failed,
        sum(sheets.status = 'skipped' AND sheet_num <= total_sheets) AS skipped,
        total(sheets.input_tokens) AS input, total(sheets.output_tokens) AS output,
        total(sheets.estimated_cost) AS cost
    FROM sheets JOIN jobs ON jobs.id = job_id GROUP BY job_id
) AS found WHERE job_id = id;

CREATE TABLE rule_counts (
    job_id TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
    rule TEXT NOT NULL,
    passed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    PRIMARY KEY (job_id, rule)
) WITHOUT ROWID;
INSERT INTO rule_counts SELECT job_id, value, sum(has_passed), sum(1 - has_passed) FROM (
    SELECT job_id, value, 1 AS has_passed FROM sheets, json_each(
        CASE WHEN json_valid(passed_validations) THEN passed_validations END)
    UNION ALL SELECT job_id, value, 0 FROM sheets, json_each(
        CASE WHEN json_valid(failed_validations) THEN failed_validations END))
WHERE value NOTNULL GROUP BY job_id, value;

CREATE TABLE outcome_counts (
    job_id TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
    outcome_category TEXT NOT NULL,
    sheets INTEGER NOT NULL,
    completed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    without_retry INTEGER NOT NULL,
    PRIMARY KEY (job_id, outcome_category)
) WITHOUT ROWID;
INSERT INTO outcome_counts
SELECT job_id, coalesce(outcome_category, '') AS category, count(*), sum(status = 'completed'),
    sum(status = 'failed'), sum(success_without_retry)
FROM sheets WHERE outcome_category <> '' OR success_without_retry GROUP BY job_id, category;
"""


_TO_7_LEARNING = """
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
INSERT INTO pattern_jobs (
    job_id, pattern, sheets, completed, failed, confidences, confidence_total,
    first_seen_at, last_seen_at)
SELECT job_id, pattern, count(*), sum(status = 'completed'), sum(status = 'failed'),
    count(confidence_score), total(confidence_score), min(seen_at), max(seen_at)
FROM (
    SELECT DISTINCT job_id, sheet_num, value AS pattern, sheets.status, confidence_score,
        coalesce(sheets.completed_at, sheets.started_at, updated_at) AS seen_at
    FROM sheets JOIN jobs ON jobs.id = job_id, json_each(
        CASE WHEN json_valid(learned_patterns) THEN learned_patterns END)
    WHERE learned_patterns <> '[]' AND json_each.type = 'text')
GROUP BY job_id, pattern;

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
INSERT INTO patterns
SELECT pattern, sum(sheets), sum(completed), sum(failed), sum(confidences),
    total(confidence_total), count(*), min(first_seen_at), max(last_seen_at)
FROM pattern_jobs GROUP BY pattern;

CREATE TABLE sheet_counts (
    status TEXT PRIMARY KEY,
    sheets INTEGER NOT NULL,
    pruned INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
INSERT INTO sheet_counts (status, sheets)
SELECT value, (SELECT count(*) FROM sheets WHERE status = value)
FROM json_each('["completed", "failed"]');
"""


_EXECUTION_EXTRA = """
CREATE TABLE IF NOT EXISTS execution_extra (
    execution_id INTEGER PRIMARY KEY REFERENCES execution_history(id) ON DELETE CASCADE,
    extra TEXT NOT NULL
);
"""
"""It is there already in the file of an earlier tool, as far as it has come then."""

_RETENTION_TO_7 = """
ALTER TABLE execution_history ADD COLUMN bytes INTEGER GENERATED ALWAYS AS (
    coalesce(length(CAST(prompt AS BLOB)), 0) + coalesce(length(CAST(output AS BLOB)), 0)
) VIRTUAL;

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

_STEPS: dict[int, tuple[str, ...]] = {
    6: (_TO_6,),
    7: (_TO_7, _FIGURES_TO_7, _TO_7_LEARNING, _EXECUTION_EXTRA, _RETENTION_TO_7),
}
"""What makes the tables of each version from those of the version before."""

_OURS = min(_STEPS) - 1
"""The first version that jobkeep made."""


def schema_version(connection: sqlite3.Connection) -> int:
    """The version of the file: 0 for an empty one.

    Raises StorageError for a file that is not ours.
    """
    tables = {name.lower() for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if not tables:
        return 0
    found = _versions(connection) if "schema_version" in tables else []
    known = [version for version in map(_as_version, found) if version is not None]
    if known:
        return max(known)
    if is_made_by_an_earlier_tool(connection):
        return 1  # the first, or one that was interrupted before it had written that down
    if "schema_version" not in tables:
        raise StorageError(
            f"the file {path_of(connection)} is an SQLite database without a table "
            "`schema_version`, so it is not jobkeep's; give another path with --db (the file "
            "was not changed)"
        )
    raise StorageError(
        f"the table `schema_version` of {path_of(connection)} has {found[-1] if found else None!r} "
        "for its version, so the file is damaged; restore a backup (the file was not changed)"
    )


def check(connection: sqlite3.Connection) -> None:
    """Refuse a file that this version cannot open. Changes nothing.

    Raises StorageError, naming both versions.
    """
    version = schema_version(connection)
    if version > SCHEMA_VERSION:
        raise StorageError(
            f"the file {path_of(connection)} has schema version {version}, and this jobkeepd "
            f"knows up to {SCHEMA_VERSION}; install a newer jobkeep (the file was not changed)"
        )


def migrate(connection: sqlite3.Connection) -> None:
    """Make an empty file ours, bring an older one to this version; leave one of this version as it
    is.

    An older file is copied first, to `<file>.v<its version>-<time>`. The rest is one transaction,
    so one that was interrupted begins again. Raises StorageError when it fails; the file is then as
    it was, unless the disk failed in the commit, which may then be there, whole.
    """
    try:
        version = schema_version(connection)
    except sqlite3.Error as error:
        raise StorageError(
            f"the file {path_of(connection)} cannot be read as an SQLite database: {error}"
        ) from error
    if version == SCHEMA_VERSION:
        return
    try:
        if version == 0:
            _apply(connection, [TABLES])
        else:
            copy = copy_before_migration(connection, Path(path_of(connection)), version)
            bring_to_this_version(connection)
            log.info(
                "the schema went from version %d to %d; a copy of the file as it was is %s",
                version,
                SCHEMA_VERSION,
                copy,
            )
    except (sqlite3.Error, OSError) as error:
        raise StorageError(
            f"the file {path_of(connection)} has schema version {version}, and bringing it to "
            f"{SCHEMA_VERSION} failed: {error}; it has the one or the other whole, and the next "
            "start goes on from there. "
            "Is there room on the disk for a copy of it, and for as much again?"
        ) from error


def bring_to_this_version(connection: sqlite3.Connection, now: datetime | None = None) -> None:
    """The same for a file with tables that is older, without a copy. `now` stands for times that
    nothing in the file tells. Raises sqlite3.Error, and OSError."""
    version = schema_version(connection)
    if version >= _OURS and not is_made_by_an_earlier_tool(connection):
        _apply(connection, [_drop_indexes_and_triggers(connection), *_steps_from(version)])
        return
    names = _names_of_ours()
    transfer = Transfer(
        connection,
        version,
        lambda name: name in names or is_of_search(name),
        partial(failpoints.reached, "after migration statement"),
        now or utc_now(),
    )
    with _without_references(connection):
        _apply(connection, _steps_from(_OURS), transfer.run)
    transfer.tell()


def _steps_from(version: int) -> list[str]:
    """What brings tables of this version to ours."""
    return [block for one in range(version + 1, SCHEMA_VERSION + 1) for block in _STEPS[one]]


def _names_of_ours() -> set[str]:
    """The tables and indexes that a file has after the last step."""
    with closing(sqlite3.connect(":memory:")) as declaring:
        declaring.executescript(TABLES + INDEXES_AND_TRIGGERS)
        return {name for (name,) in declaring.execute("SELECT name FROM sqlite_master")}


@contextmanager
def _without_references(connection: sqlite3.Connection) -> Iterator[None]:
    """Tables can be renamed, dropped and filled in any order, and nothing that names them is
    changed by it (https://www.sqlite.org/lang_altertable.html#otheralter)."""
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("PRAGMA legacy_alter_table = ON")
    try:
        yield
    finally:
        connection.execute("PRAGMA legacy_alter_table = OFF")
        connection.execute("PRAGMA foreign_keys = ON")


def _apply(
    connection: sqlite3.Connection,
    scripts: list[str],
    before: Callable[[], None] | None = None,
) -> None:
    """Do what is to be done `before`, run these scripts and write down that the file has this
    version, all or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        if before is not None:
            before()
        for statement in statements("".join([*scripts, INDEXES_AND_TRIGGERS])):
            connection.execute(statement)
            failpoints.reached("after migration statement")
        connection.execute(
            "INSERT INTO schema_version VALUES (?, ?)", (SCHEMA_VERSION, to_text(utc_now()))
        )
        failpoints.reached("after migration statement")
        connection.execute("COMMIT")
        failpoints.reached("after migration")
    except (sqlite3.Error, OSError):
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _drop_indexes_and_triggers(connection: sqlite3.Connection) -> str:
    """Those that are declared; SQLite's own, of primary keys, have no text."""
    found = connection.execute(
        "SELECT type, name FROM sqlite_master WHERE type IN ('index', 'trigger') AND sql NOTNULL"
    )
    return "".join(f"DROP {kind} {name};" for kind, name in found)


def _versions(connection: sqlite3.Connection) -> list[object]:
    try:
        return [one for (one,) in connection.execute("SELECT version FROM schema_version")]
    except sqlite3.OperationalError:
        return []  # another program's table of this name has other columns


def _as_version(value: object) -> int | None:
    """What a cell has for a version, also as text."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    return value if isinstance(value, int) and value >= 1 else None
