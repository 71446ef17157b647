"""`jobkeepd --check`: all that is wrong with a database, found without changing it.

What lives here: opening a file to examine it, what SQLite checks itself, and the report. What may
not: the rules of jobkeep's own tables (those are `invariants`), and repair.

It may run beside a daemon, and then sees the database as it is when the check begins. Without one
it also looks at the log, as a daemon does that starts.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from jobkeep_protocol.errors import StorageError
from jobkeepd.files import refuse_unless_plain
from jobkeepd.store import search_problems
from jobkeepd.store.connection import open_for_looking
from jobkeepd.store.earlier.recognition import is_made_by_an_earlier_tool
from jobkeepd.store.guard import check_header, check_log
from jobkeepd.store.invariants import SEARCHES, Problem, Search, tables_as_declared
from jobkeepd.store.lock import lock_path
from jobkeepd.store.migrations import check, schema_version
from jobkeepd.store.schema import SCHEMA_VERSION
from jobkeepd.store.side_files import SideFiles

_COUNTED = ("jobs", "sheets", "execution_history")


def examine(database: Path, say: Callable[[str], object]) -> bool:
    """Say what is wrong, in a line for each problem as it is found, and at last how many there are;
    gives whether all is well.

    Writes to no file that is there, and leaves none that was not.
    """
    count = 0
    summary: list[str] = []
    for problem in _problems(database, summary):
        say(problem)
        count += 1
    found = {0: "no problem", 1: "1 problem"}.get(count, f"{count} problems")
    say(f"{database}: {', '.join([found, *summary])}")
    return count == 0


def _problems(database: Path, summary: list[str]) -> Iterator[str]:
    """What is wrong, one after the other; adds to `summary` what was looked at."""
    try:
        if not database.exists():
            yield f"{database}: there is no such file; give the path of the database with --db"
            return
        refuse_unless_plain(database, database.lstat().st_uid)
        check_header(database)
        with _no_daemon(database) as is_alone:
            if is_alone:
                check_log(database)
        files = SideFiles(database)
        try:
            with open_for_looking(database) as connection:
                yield from _problems_inside(database, connection, summary)
        finally:
            if is_alone:
                files.restore()
    except StorageError as error:
        yield str(error)
    except OSError as error:
        yield f"{error.filename or database}: {error.strerror}; run this as the file's owner"


def _problems_inside(
    database: Path, connection: sqlite3.Connection, summary: list[str]
) -> Iterator[str]:
    """What is wrong with what the file holds."""
    # Text that is not UTF-8 is found by the searches, and stops none of them.
    connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
    connection.execute("BEGIN")
    check(connection)
    version = schema_version(connection)
    searches: list[Search] = [partial(_structure, database)]
    if not is_made_by_an_earlier_tool(connection):
        searches.append(_foreign_keys)  # such a tool did not keep to them: see `earlier`
    if version == SCHEMA_VERSION:
        searches += [tables_as_declared, *SEARCHES, *search_problems.SEARCHES]
    for search in searches:
        try:
            yield from map(str, search(connection))
        except (sqlite3.Error, UnicodeError) as error:  # the second: a name that is not UTF-8
            yield str(
                Problem("database", f"cannot be read to its end: {error}", _recover(database))
            )
    summary += _summary(connection, version)


def _structure(database: Path, connection: sqlite3.Connection) -> Iterator[Problem]:
    """What SQLite finds in its pages and indexes."""
    for (line,) in connection.execute("PRAGMA integrity_check"):
        if line == "ok":
            return
        is_of_index = "index" in line
        advice = f"stop the daemon and run `sqlite3 {database} REINDEX`"
        yield Problem("database", line, advice if is_of_index else _recover(database))


def _foreign_keys(connection: sqlite3.Connection) -> Iterator[Problem]:
    """Rows that belong to something which is not there."""
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        place = table if row is None else f"{table} rowid {row}"
        yield Problem(
            place,
            f"belongs to a row of {parent} that is not there",
            "stop the daemon and delete it with sqlite3, or restore a backup",
        )


def _recover(database: Path) -> str:
    return f"restore a backup, or save what can be read with `sqlite3 {database} .recover`"


def _summary(connection: sqlite3.Connection, version: int) -> list[str]:
    """What was examined, for the last line."""
    if version == 0:
        return ["it is empty"]
    try:
        counts = [
            f"{table} {connection.execute(f'SELECT count(*) FROM {table}').fetchone()[0]:,}"
            for table in _COUNTED
        ]
    except sqlite3.Error as error:
        return [f"not all tables can be read ({error})"]
    if version != SCHEMA_VERSION:
        counts.append(
            f"only what SQLite checks was checked: the file has schema version {version}, and "
            f"jobkeepd brings it to {SCHEMA_VERSION} when it starts"
        )
    return counts


@contextmanager
def _no_daemon(database: Path) -> Iterator[bool]:
    """Whether no daemon has the database; if so, none can begin until this is left."""
    try:
        lock = lock_path(database).open("rb")
    except FileNotFoundError:
        yield True
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
