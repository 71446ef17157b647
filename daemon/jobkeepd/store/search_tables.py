"""The index of the texts, for the full-text search: its tables, and keeping them in step.

What lives here: the tables and triggers that are there while the search is on, making and dropping
them, and filling in what is older than they are. What may not: asking them (that is `search`).

Both tables are FTS5 tables of external content
(https://www.sqlite.org/fts5.html#external_content_tables): they hold where each word is, and no
second copy of the texts. Triggers keep them in step, in the transaction of the change itself,
whoever makes it.

Where the search is turned on for a file that has texts already, the tables are made empty. For
each, `counters` then has, under the name of the table, the highest id that is not in the index yet;
what is above it is in it. The daemon fills in the rest in batches, the newest first, until the
number is 0. The triggers leave a row below it alone: what is not in the index must not be taken out
of it.

A word is a run of letters and digits of any script, without regard to case and accents; all else
parts words, so `src/store/reads.py` is four words beside each other, and `error_code` two.
"""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from jobkeep_protocol.errors import StorageError
from jobkeepd.store.connection import path_of
from jobkeepd.store.schema import statements

log = logging.getLogger(__name__)

_NAME = re.compile(r"CREATE (?:VIRTUAL TABLE|TRIGGER) (\w+)")

TOKENIZER = "unicode61 remove_diacritics 2"

SEARCH_TABLES = f"""
CREATE VIRTUAL TABLE search_executions USING fts5(
    prompt, output, content='execution_history', content_rowid='id', tokenize='{TOKENIZER}'
);
CREATE VIRTUAL TABLE search_failures USING fts5(
    error_message, content='failures', content_rowid='id', tokenize='{TOKENIZER}'
);
"""

SEARCH_TRIGGERS = """
CREATE TRIGGER execution_indexed AFTER INSERT ON execution_history
WHEN new.id > (SELECT value FROM counters WHERE name = 'search_executions') BEGIN
    INSERT INTO search_executions (rowid, prompt, output)
    VALUES (new.id, new.prompt, new.output);
END;
CREATE TRIGGER execution_unindexed AFTER DELETE ON execution_history
WHEN old.id > (SELECT value FROM counters WHERE name = 'search_executions') BEGIN
    INSERT INTO search_executions (search_executions, rowid, prompt, output)
    VALUES ('delete', old.id, old.prompt, old.output);
END;
CREATE TRIGGER execution_indexed_anew AFTER UPDATE OF prompt, output ON execution_history
WHEN old.id > (SELECT value FROM counters WHERE name = 'search_executions')
    AND (new.prompt IS NOT old.prompt OR new.output IS NOT old.output) BEGIN
    INSERT INTO search_executions (search_executions, rowid, prompt, output)
    VALUES ('delete', old.id, old.prompt, old.output);
    INSERT INTO search_executions (rowid, prompt, output)
    VALUES (new.id, new.prompt, new.output);
END;
CREATE TRIGGER failure_indexed AFTER INSERT ON failures
WHEN new.id > (SELECT value FROM counters WHERE name = 'search_failures') BEGIN
    INSERT INTO search_failures (rowid, error_message) VALUES (new.id, new.error_message);
END;
CREATE TRIGGER failure_unindexed AFTER DELETE ON failures
WHEN old.id > (SELECT value FROM counters WHERE name = 'search_failures') BEGIN
    INSERT INTO search_failures (search_failures, rowid, error_message)
    VALUES ('delete', old.id, old.error_message);
END;
CREATE TRIGGER failure_indexed_anew AFTER UPDATE OF error_message ON failures
WHEN old.id > (SELECT value FROM counters WHERE name = 'search_failures')
    AND new.error_message IS NOT old.error_message BEGIN
    INSERT INTO search_failures (search_failures, rowid, error_message)
    VALUES ('delete', old.id, old.error_message);
    INSERT INTO search_failures (rowid, error_message) VALUES (new.id, new.error_message);
END;
"""


class Index(NamedTuple):
    """A table of the search, the table whose texts are in it, and the columns they are in."""

    name: str
    content: str
    columns: tuple[str, ...]


INDEXES = (
    Index("search_failures", "failures", ("error_message",)),
    Index("search_executions", "execution_history", ("prompt", "output")),
)
"""In the order in which they are filled in: the small one first."""

_TRIGGERS = frozenset(
    f"{what}_{done}"
    for what in ("execution", "failure")
    for done in ("indexed", "unindexed", "indexed_anew")
)

BATCH_BYTES = 256 * 1024
"""As much text is indexed in about a hundredth of a second."""

BATCH_ROWS = 500


def is_of_search(name: str) -> bool:
    """Whether this is the name of a table of the search, one beneath it, or a trigger."""
    return name in _TRIGGERS or any(
        name == index.name or name.startswith(f"{index.name}_") for index in INDEXES
    )


def is_entry_of(kind: str, name: str, text: str) -> bool:
    """Whether an entry of the schema with this text can be dropped by its name; one that is damaged
    would stay."""
    made = re.match(rf"CREATE (?:VIRTUAL )?{kind.upper()} '?{re.escape(name)}\b", text)
    return made is not None


def set_search(connection: sqlite3.Connection, *, is_on: bool) -> bool:
    """Make the tables of the search, or drop them; leave them as they are where that is right.

    What is there and not as declared is made anew. All or nothing. Gives whether there are texts to
    be filled in. Raises StorageError.
    """
    try:
        found = objects_of_search(connection)
        is_right = is_as_declared(connection, found) if is_on else not found
        if not is_right:
            _replace(connection, found, is_on=is_on)
        return any(unfilled(connection, index) for index in INDEXES)
    except sqlite3.Error as error:
        raise StorageError(
            f"the tables of the search in {path_of(connection)} cannot be "
            f"{'made' if is_on else 'dropped'}: {error}; "
            "nothing was changed; is there room on the disk? `jobkeepd --check` tells of damage"
        ) from error


def objects_of_search(connection: sqlite3.Connection) -> dict[str, str]:
    """The tables and triggers of the search that the file has, with their text."""
    found = connection.execute(
        "SELECT CAST(name AS TEXT), coalesce(CAST(sql AS TEXT), '') FROM sqlite_master "
        "WHERE type <> 'index'"
    )
    return {name: " ".join(sql.split()) for name, sql in found if is_of_search(name)}


def is_as_declared(connection: sqlite3.Connection, found: dict[str, str]) -> bool:
    """Whether these are the tables and triggers of the search, each with its text, and it is known
    what is in the index."""
    kept = {name for (name,) in connection.execute("SELECT name FROM counters")}
    return kept.issuperset(index.name for index in INDEXES) and all(
        found.get(name) == text for name, text in _declared().items()
    )


def fill(connection: sqlite3.Connection) -> bool:
    """Index one batch of what is older than the tables; gives whether more is left."""
    for index in INDEXES:
        left = unfilled(connection, index)
        if left:
            _fill(connection, index, left)
            return True
    return False


def unfilled(connection: sqlite3.Connection, index: Index) -> int:
    """The highest id that is not in the index yet; 0 when all are, or when there is no index."""
    found = connection.execute("SELECT value FROM counters WHERE name = ?", (index.name,))
    return int((found.fetchone() or (0,))[0])


def _fill(connection: sqlite3.Connection, index: Index, left: int) -> None:
    """Index the newest rows up to `left`. Within a batch in the order of their ids, for a smaller
    one than the last would make FTS5 write out what it has gathered."""
    lengths = " + ".join(f"coalesce(length({column}), 0)" for column in index.columns)
    lowest, size = 0, 0
    rows = connection.execute(
        f"SELECT id, {lengths} FROM {index.content} WHERE id <= ? ORDER BY id DESC LIMIT ?",
        (left, BATCH_ROWS),
    )
    for row_id, length in rows:
        lowest, size = row_id, size + length
        if size >= BATCH_BYTES:
            break
    rows.close()
    columns = ", ".join(index.columns)
    connection.execute(
        f"INSERT INTO {index.name} (rowid, {columns}) SELECT id, {columns} "
        f"FROM {index.content} WHERE id BETWEEN ? AND ? ORDER BY id",
        (lowest, left),
    )
    connection.execute(
        "UPDATE counters SET value = ? WHERE name = ?", (max(lowest - 1, 0), index.name)
    )


def _replace(connection: sqlite3.Connection, found: dict[str, str], *, is_on: bool) -> None:
    """Drop what there is, and make what is to be there."""
    _refuse_without_fts5(connection, found)
    connection.execute("BEGIN IMMEDIATE")
    try:
        _drop(connection, found)
        if is_on:
            _make(connection)
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    if found and is_on:
        log.warning("the index for the search was not as declared, and is made anew")
    elif found:
        log.info("search is off: the index of the texts was dropped, and --search on makes it anew")


def _make(connection: sqlite3.Connection) -> None:
    for statement in statements(SEARCH_TABLES + SEARCH_TRIGGERS):
        connection.execute(statement)
    for index in INDEXES:
        connection.execute(
            f"INSERT OR REPLACE INTO counters SELECT ?, coalesce(max(id), 0) FROM {index.content}",
            (index.name,),
        )


def _drop(connection: sqlite3.Connection, found: Iterable[str]) -> None:
    """What is there of the search; the tables beneath go with their own, if that is there."""
    for name in sorted(_TRIGGERS.intersection(found)):
        connection.execute(f"DROP TRIGGER {name}")
    for index in INDEXES:
        connection.execute(f"DROP TABLE IF EXISTS {index.name}")
        connection.execute("DELETE FROM counters WHERE name = ?", (index.name,))
    for name in objects_of_search(connection):  # beneath one that was lost
        connection.execute(f"DROP TABLE {name}")


def _refuse_without_fts5(connection: sqlite3.Connection, found: dict[str, str]) -> None:
    if has_fts5(connection):
        return
    version = sqlite3.sqlite_version
    if found:
        raise StorageError(
            f"the SQLite {version} of this Python has no FTS5, and the file has an index for the "
            "search, which can be neither kept in step nor dropped without; start jobkeepd once "
            "with a Python that has it, with --search off (nothing was changed)"
        )
    raise StorageError(
        f"the SQLite {version} of this Python has no FTS5, which the search needs; start jobkeepd "
        "with --search off, or with a Python that has it (nothing was changed)"
    )


def has_fts5(connection: sqlite3.Connection) -> bool:
    """Whether this SQLite can search."""
    found = connection.execute("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'")
    return found.fetchone() is not None


def _declared() -> dict[str, str]:
    """The text of each table and trigger, by its name, as `sqlite_master` has it."""
    scripts = statements(SEARCH_TABLES + SEARCH_TRIGGERS)
    texts = [" ".join(one.rstrip(";").split()) for one in scripts]
    return {_NAME.match(text)[1]: text for text in texts}  # type: ignore[index] # each matches
