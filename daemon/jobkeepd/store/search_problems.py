"""What must hold in the index of the texts.

What lives here: searches as those of `invariants`, which also find nothing where search is off.
What may not: other tables, and repair: jobkeepd drops an index with --search off, and makes a new
one with --search on.

FTS5 can compare an index with its texts, but only where it may write. So the texts are taken apart
again, into a table that is thrown away, and it is compared how many words each has; and how many
words the index has in all.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from jobkeepd.store.invariants import Problem, Search
from jobkeepd.store.search_tables import (
    INDEXES,
    TOKENIZER,
    Index,
    is_as_declared,
    objects_of_search,
    unfilled,
)

_MAKE_ANEW = "start jobkeepd with --search off, and then with --search on, to make it anew"
_ROWS_AT_ONCE = 500


def search_is_as_declared(connection: sqlite3.Connection) -> Iterator[Problem]:
    """All of its tables and triggers are there, or none."""
    found = objects_of_search(connection)
    if found and not is_as_declared(connection, found):
        yield Problem(
            "search", "its tables and triggers are not as declared", "jobkeepd makes it anew"
        )


def search_is_in_step(connection: sqlite3.Connection) -> Iterator[Problem]:
    """The index has the rows that it is to have, each with as many words as its texts."""
    found = objects_of_search(connection)
    if not found or not is_as_declared(connection, found):
        return
    for index in INDEXES:
        left = unfilled(connection, index)
        for statement, what in (
            (_MISSING, "is not in the index"),
            (_TOO_MUCH, "is in the index and not there"),
        ):
            rows = connection.execute(statement.format(index=index), (left,))
            for (row_id,) in rows:
                yield Problem(f"{index.content} {row_id}", what, _MAKE_ANEW)
        yield from _words_differ(connection, index, left)


SEARCHES: tuple[Search, ...] = (search_is_as_declared, search_is_in_step)


def _words_differ(connection: sqlite3.Connection, index: Index, left: int) -> Iterator[Problem]:
    columns = ", ".join(index.columns)
    connection.execute(
        f"CREATE VIRTUAL TABLE temp.again USING fts5({columns}, content='', tokenize='{TOKENIZER}')"
    )
    words, last = 0, left
    while True:
        connection.execute(
            f"INSERT INTO temp.again (rowid, {columns}) SELECT id, {columns} "
            f"FROM {index.content} WHERE id > ? ORDER BY id LIMIT {_ROWS_AT_ONCE}",
            (last,),
        )
        sizes = connection.execute(
            f"SELECT again.id, again.sz, kept.sz FROM temp.again_docsize AS again "
            f"JOIN main.{index.name}_docsize AS kept USING (id) ORDER BY id"
        ).fetchall()
        for row_id, counted, kept in sizes:
            words += sum(_integers(kept))
            if counted != kept:
                yield Problem(
                    f"{index.content} {row_id}", "has other words than in the index", _MAKE_ANEW
                )
        (last,) = connection.execute("SELECT max(id) FROM temp.again_docsize").fetchone()
        if last is None:
            break
        connection.execute("INSERT INTO temp.again (again) VALUES ('delete-all')")
    connection.execute("DROP TABLE temp.again")
    connection.execute(f"CREATE VIRTUAL TABLE temp.words USING fts5vocab(main, {index.name}, row)")
    (indexed,) = connection.execute("SELECT coalesce(sum(cnt), 0) FROM temp.words").fetchone()
    connection.execute("DROP TABLE temp.words")
    if indexed != words:
        yield Problem(
            index.name, f"has {indexed} words, and {words} were counted in it", _MAKE_ANEW
        )


def _integers(blob: bytes) -> Iterator[int]:
    """The integers of SQLite's variable length (https://www.sqlite.org/fileformat.html#varint) in a
    blob. Those of nine bytes, which no text is long enough for, are not told apart."""
    value = 0
    for one in blob:
        value = value << 7 | one & 0x7F
        if one < 0x80:
            yield value
            value = 0


_MISSING = (
    "SELECT id FROM {index.content} WHERE id > ? AND id NOT IN "
    "(SELECT id FROM {index.name}_docsize)"
)
_TOO_MUCH = (
    "SELECT id FROM {index.name}_docsize WHERE id <= ? OR id NOT IN "
    "(SELECT id FROM {index.content})"
)
