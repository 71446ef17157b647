"""Telling the file of an earlier tool from jobkeep's own and from any other.

What lives here: looking at which tables and columns there are. What may not: what is in them.
"""

from __future__ import annotations

import sqlite3


def is_made_by_an_earlier_tool(connection: sqlite3.Connection) -> bool:
    """Whether the tables are those of such a tool, whatever the version that the file says it has:
    one that was interrupted while it made them had not written it down."""
    return (
        {"id", "status", "total_sheets"} <= columns_of(connection, "jobs")
        and {"job_id", "sheet_num", "status"} <= columns_of(connection, "sheets")
        and "sequence" not in columns_of(connection, "jobs")
    )


def columns_of(connection: sqlite3.Connection, table: str) -> set[str]:
    """The names of a table's columns, in lower case; none when there is no such table."""
    found = connection.execute("SELECT lower(name) FROM pragma_table_info(?)", (table,))
    return {name for (name,) in found}
