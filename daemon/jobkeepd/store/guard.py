"""What is looked at before a database is opened, so that a bad file is refused and not changed.

What lives here: what a database, its log and its index must be, and the words for what is wrong.
What may not: the formats (those are `log` and `marks`), the schema (`migrations`), repair.

Everything here raises StorageError to refuse, says what to do, and leaves all files as they were,
to the byte. The lock has to be held, and SQLite must not have the file open in this process:
closing a file that was read drops the process's locks on it
(https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_).
"""

from __future__ import annotations

import logging
import os
from itertools import chain
from pathlib import Path

from jobkeep_protocol.errors import StorageError
from jobkeepd.files import refuse_unless_plain, size_of
from jobkeepd.store.connection import index_path, journal_path, open_for_looking, wal_path
from jobkeepd.store.invariants import sequence_is_kept, tables_as_declared
from jobkeepd.store.lock import noted_mark
from jobkeepd.store.log import FIRST_PAGE_BYTES, FirstPage, Log, read_index, read_log
from jobkeepd.store.migrations import check, schema_version
from jobkeepd.store.schema import SCHEMA_VERSION
from jobkeepd.store.side_files import side_files_as_they_were

log = logging.getLogger(__name__)

CHECKED_BYTES = 64 * 1024 * 1024
"""Files up to this size are checked whole at each start. That takes 0.2 seconds when the file was
in use until now, and 0.4 seconds when it comes from a slow disk; it grows with the file, and a
daemon that was killed has to be back within a second."""

_FORMAT_VERSIONS = {1, 2}
_READ_AHEAD_BYTES = 1024 * 1024
_NEW_BYTES = 4096
"""The first page of a file that SQLite has just made."""

_CELL_COUNT = slice(FIRST_PAGE_BYTES + 3, FIRST_PAGE_BYTES + 5)
"""Where the first page says how many tables, indexes and triggers there are."""


def admit(database: Path) -> None:
    """Return if the database can be opened for writing; an empty or missing one can.

    Raises StorageError, naming what is wrong and what to do; nothing was changed then.
    """
    try:
        check_files(database)
        check_header(database)
        check_log(database)
        if not _is_new(database):
            _check_contents(database)
    except OSError as error:
        raise StorageError(
            f"{error.filename or database} cannot be read: {error.strerror}; may this user read "
            "and write it?"
        ) from error


def check_files(database: Path) -> None:
    """Refuse what is not a file of this user's own."""
    for path in (database, wal_path(database), index_path(database)):
        refuse_unless_plain(path, os.geteuid())


def check_header(database: Path) -> None:
    """Refuse what SQLite would open and then not write, or not read. Raises OSError too."""
    first_page = _first_page(database)
    if first_page is not None and not set(first_page.versions) <= _FORMAT_VERSIONS:
        raise StorageError(_damaged(database, f"its format has version {max(first_page.versions)}"))


def check_log(database: Path) -> None:
    """Refuse a file whose log is missing, is another's, or has lost commits. Raises OSError too."""
    path = wal_path(database)
    found = read_log(path)
    first_page = _first_page(database)
    if first_page is None:
        if size_of(path) and not size_of(database):
            raise StorageError(_without_database(database))
        return
    if found is None:
        if first_page.mark.tag and first_page.number == noted_mark(database):
            raise StorageError(_without_log(database))
        return
    if not _belong_together(first_page, found):
        raise StorageError(_another_log(database))
    lost = _what_is_lost(database, found)
    if lost is None:
        return
    written_by = (found.first_pages or [first_page])[0].mark
    if written_by.tag and not written_by.is_relaxed:
        raise StorageError(_damaged_log(database, lost))
    log.warning(
        "the log %s ends before %s; with --durability normal a power cut does that. The writes in "
        "it are gone",
        path,
        lost,
    )


# -- the log ------------------------------------------------------------------------------------


def _belong_together(file: FirstPage, found: Log) -> bool:
    """Whether a log goes on from the state that the file is in, or from one before it.

    Up to its end a log may be applied again: a file that has a part of it already is in order.
    """
    if not found.first_pages:
        return True  # nothing was committed, or by a jobkeepd that had no marks yet
    first = found.first_pages[0]
    return any(
        file.schema_cookie <= page.schema_cookie
        and (file.number == page.number or (page is first and page.mark.previous == file.mark.tag))
        for page in found.first_pages
    )


def _what_is_lost(database: Path, found: Log) -> str | None:
    """What was committed to a log and cannot be read; None when that is all there.

    A daemon that is killed leaves one commit half written at the most: the one before was whole
    when it began.
    """
    index = read_index(index_path(database))
    if index is not None and index.salts == found.salts:
        lost = index.pages - found.pages
        return f"{lost} of the {index.pages} pages that were committed" if lost > 0 else None
    return f"{found.commits_lost} commits that follow" if found.commits_lost > 1 else None


def _without_database(database: Path) -> str:
    return (
        f"the database {database} is empty or missing, and its log {wal_path(database)} is there: "
        "SQLite would throw the log away. Put the database back beside its log, or move "
        f"{wal_path(database)} and {index_path(database)} away to begin with a new one "
        "(nothing was changed)"
    )


def _without_log(database: Path) -> str:
    path = wal_path(database)
    state = "damaged at its beginning" if size_of(path) else "empty or missing"
    return (
        f"the newest writes to {database} are in its log, which a daemon left that was killed, and "
        f"{path} is {state}. Put the log back beside the file, or restore a backup. If it is lost "
        "for good, keep a copy of the file and go on without those writes: "
        f"`sqlite3 {database} 'PRAGMA user_version = 0'` (nothing was changed)"
    )


def _another_log(database: Path) -> str:
    return (
        f"the log {wal_path(database)} belongs to another state of {database} and would spoil it. "
        f"If the file was restored from a backup, move {wal_path(database)} and "
        f"{index_path(database)} away; if not, put back the file that the log belongs to "
        "(nothing was changed)"
    )


def _damaged_log(database: Path, lost: str) -> str:
    return (
        f"the log {wal_path(database)} is damaged: SQLite cannot read {lost}, and would drop them "
        "without a word. They hold writes that were acknowledged: restore a backup, or keep a copy "
        f"of {database} and {wal_path(database)} and go on without them: `sqlite3 {database} "
        "'PRAGMA wal_checkpoint(TRUNCATE); PRAGMA user_version = 0'` (nothing was changed)"
    )


# -- the file -----------------------------------------------------------------------------------


def _is_new(database: Path) -> bool:
    """Whether there is nothing in the file yet: it is missing or empty, or it was being made, has
    its first page and no table, and SQLite takes that back."""
    if not size_of(database):
        return True
    if not size_of(journal_path(database)):
        return False
    with database.open("rb") as file:
        page = file.read(_NEW_BYTES + 1)
    return len(page) <= _NEW_BYTES and page[_CELL_COUNT] == b"\0\0"


def _check_contents(database: Path) -> None:
    """Refuse what is no database of ours, and what is damaged."""
    is_checked = size_of(database) <= CHECKED_BYTES
    if is_checked:
        _read_ahead(database)
    else:
        log.info(
            "%s has %d MB: too large to be checked at each start; `jobkeepd --check` does it, also "
            "while the daemon runs",
            database,
            size_of(database) // 1_000_000,
        )
    with side_files_as_they_were(database), open_for_looking(database) as looking:
        check(looking)
        if is_checked:
            (found,) = looking.execute("PRAGMA integrity_check(1)").fetchone()
            if found != "ok":
                raise StorageError(_damaged(database, found))
        if schema_version(looking) == SCHEMA_VERSION:
            for problem in chain(tables_as_declared(looking), sequence_is_kept(looking)):
                raise StorageError(_damaged(database, f"{problem.where} {problem.what}"))


def _damaged(database: Path, problem: str) -> str:
    return (
        f"the database {database} is damaged: {' '.join(problem.split())}; `jobkeepd --check` "
        "tells all that is wrong. Restore a backup, or save what can be read with "
        f"`sqlite3 {database} .recover` (the file was not changed)"
    )


def _read_ahead(database: Path) -> None:
    """Read the file once from end to end: several times faster, on a disk, than in the order in
    which a check goes through its pages."""
    with database.open("rb", buffering=0) as file:
        buffer = bytearray(_READ_AHEAD_BYTES)
        while file.readinto(buffer):
            pass


def _first_page(database: Path) -> FirstPage | None:
    try:
        with database.open("rb") as file:
            return FirstPage.parse(file.read(FIRST_PAGE_BYTES))
    except FileNotFoundError:
        return None
