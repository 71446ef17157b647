"""Bringing a file to this version of the schema, or refusing it untouched.

What lives here: what happens to an empty file, one of this version, and one of another. What may
not: the tables themselves (that is `schema`).
"""

from __future__ import annotations

import sqlite3

from jobkeep_protocol.errors import StorageError
from jobkeep_protocol.states import utc_now
from jobkeepd.store.rows import to_text
from jobkeepd.store.schema import SCHEMA, SCHEMA_VERSION


def schema_version(connection: sqlite3.Connection) -> int:
    """The version of the file: 0 for an empty one.

    Raises StorageError for a file that is not ours.
    """
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if not tables:
        return 0
    if "schema_version" not in tables:
        raise StorageError(
            "the file is an SQLite database without a table `schema_version`, so it is not "
            "jobkeep's; give another path with --db (the file was not changed)"
        )
    (version,) = connection.execute("SELECT max(version) FROM schema_version").fetchone()
    return int(version or 0)


def check(connection: sqlite3.Connection) -> None:
    """Refuse a file that this version cannot open. Changes nothing.

    Raises StorageError, naming both versions.
    """
    version = schema_version(connection)
    if version > SCHEMA_VERSION:
        raise StorageError(
            f"the file has schema version {version}, and this jobkeepd knows up to "
            f"{SCHEMA_VERSION}; install a newer jobkeep (the file was not changed)"
        )
    if 0 < version < SCHEMA_VERSION:
        raise StorageError(
            f"the file has schema version {version}, from an earlier tool, and this jobkeepd opens "
            f"version {SCHEMA_VERSION} only; give another path with --db (the file was not changed)"
        )


def migrate(connection: sqlite3.Connection) -> None:
    """Make an empty file ours; leave one of this version as it is."""
    if schema_version(connection) == 0:
        _create(connection)


def _create(connection: sqlite3.Connection) -> None:
    applied_at = to_text(utc_now())
    connection.executescript(
        f"BEGIN IMMEDIATE; {SCHEMA};"
        f"INSERT INTO schema_version VALUES ({SCHEMA_VERSION}, '{applied_at}'); COMMIT;"
    )
