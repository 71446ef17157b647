"""Whether the index of the texts holds what the texts say."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from jobkeepd.store.search_tables import INDEXES


def assert_index_is_right(database: Path) -> None:
    """FTS5 compares each index with its texts; that writes, so it is done in a copy. Texts that are
    not filled in yet are taken out of the copy first."""
    with (
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection,
        closing(sqlite3.connect(":memory:")) as copy,
    ):
        connection.backup(copy)
        for index in INDEXES:
            (left,) = copy.execute(
                "SELECT value FROM counters WHERE name = ?", (index.name,)
            ).fetchone()
            copy.execute(f"DELETE FROM {index.content} WHERE id <= ?", (left,))  # noqa: S608 # our own name
            check = f"INSERT INTO {index.name} ({index.name}, rank) VALUES ('integrity-check', 1)"  # noqa: S608 # the same
            copy.execute(check)
