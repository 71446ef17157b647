"""Bringing a file to this version of the schema, or refusing it untouched.

What lives here: what happens to an empty file, one of this version, and one of another. What may
not: the tables themselves (that is `schema`).

A step changes tables and what is in them, and stays as it is when the schema goes on. Indexes and
triggers are dropped before the first step and made after the last, as `schema` has them.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from jobkeep_protocol.errors import StorageError
from jobkeep_protocol.states import utc_now
from jobkeepd import failpoints
from jobkeepd.store.connection import create_private
from jobkeepd.store.copies import write_copy
from jobkeepd.store.rows import to_text
from jobkeepd.store.schema import INDEXES_AND_TRIGGERS, SCHEMA_VERSION, TABLES

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

_STEPS = {6: _TO_6}
"""What makes the tables of each version from those of the version before."""

_OLDEST = min(_STEPS) - 1


def schema_version(connection: sqlite3.Connection) -> int:
    """The version of the file: 0 for an empty one.

    Raises StorageError for a file that is not ours.
    """
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if not tables:
        return 0
    if "schema_version" not in tables:
        raise StorageError(
            f"the file {_path(connection)} is an SQLite database without a table "
            "`schema_version`, so it is not jobkeep's; give another path with --db (the file "
            "was not changed)"
        )
    (version,) = connection.execute("SELECT max(version) FROM schema_version").fetchone()
    if not isinstance(version, int) or version < 1:
        raise StorageError(
            f"the table `schema_version` of {_path(connection)} has {version!r} for its "
            "version, so the file is damaged; restore a backup (the file was not changed)"
        )
    return version


def check(connection: sqlite3.Connection) -> None:
    """Refuse a file that this version cannot open. Changes nothing.

    Raises StorageError, naming both versions.
    """
    version = schema_version(connection)
    if version > SCHEMA_VERSION:
        raise StorageError(
            f"the file {_path(connection)} has schema version {version}, and this jobkeepd "
            f"knows up to {SCHEMA_VERSION}; install a newer jobkeep (the file was not changed)"
        )
    if 0 < version < _OLDEST:
        raise StorageError(
            f"the file {_path(connection)} has schema version {version}, from an earlier "
            f"tool, and this jobkeepd opens versions from {_OLDEST} on; give another path with "
            "--db (the file was not changed)"
        )


def migrate(connection: sqlite3.Connection) -> None:
    """Make an empty file ours, bring an older one to this version; leave one of this version as it
    is.

    An older file is copied first, to `<file>.v<its version>`. The rest is one transaction, so one
    that was interrupted begins again. Raises StorageError when it fails; the file is then as it
    was, unless the disk failed in the commit, which may then be there, whole.
    """
    try:
        version = schema_version(connection)
    except sqlite3.Error as error:
        raise StorageError(
            f"the file {_path(connection)} cannot be read as an SQLite database: {error}"
        ) from error
    if version == SCHEMA_VERSION:
        return
    try:
        if version == 0:
            _apply(connection, [TABLES])
        else:
            copy = _copy(connection, version)
            steps = [_STEPS[one] for one in range(version + 1, SCHEMA_VERSION + 1)]
            _apply(connection, [_drop_indexes_and_triggers(connection), *steps])
            log.info(
                "the schema went from version %d to %d; a copy of the file as it was is %s",
                version,
                SCHEMA_VERSION,
                copy,
            )
    except (sqlite3.Error, OSError) as error:
        raise StorageError(
            f"the file {_path(connection)} has schema version {version}, and bringing it to "
            f"{SCHEMA_VERSION} failed: {error}; it has the one or the other whole, and the next "
            "start goes on from there. "
            "Is there room on the disk for a copy of it, and for as much again?"
        ) from error


def _apply(connection: sqlite3.Connection, scripts: list[str]) -> None:
    """Run these scripts and write down that the file has this version, all or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _statements("".join([*scripts, INDEXES_AND_TRIGGERS])):
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


def _statements(script: str) -> Iterator[str]:
    """One statement of a script after the other; a trigger is one, with those within it."""
    statement = ""
    *parts, _ = script.split(";")
    for part in parts:
        statement += f"{part};"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _drop_indexes_and_triggers(connection: sqlite3.Connection) -> str:
    """Those that are declared; SQLite's own, of primary keys, have no text."""
    found = connection.execute(
        "SELECT type, name FROM sqlite_master WHERE type IN ('index', 'trigger') AND sql NOTNULL"
    )
    return "".join(f"DROP {kind} {name};" for kind, name in found)


def _copy(connection: sqlite3.Connection, version: int) -> Path:
    """Copy the file as it is now, on disk when this returns; replaces the copy of a migration that
    was interrupted."""
    copy = Path(f"{_path(connection)}.v{version}")
    copy.unlink(missing_ok=True)
    create_private(copy)
    failpoints.reached("in migration copy")
    write_copy(connection, copy)
    failpoints.reached("after migration copy")
    return copy


def _path(connection: sqlite3.Connection) -> str:
    """The file of a connection (https://www.sqlite.org/pragma.html#pragma_database_list)."""
    _, _, path = connection.execute("PRAGMA database_list").fetchone()
    return str(path)
