"""How the database file is opened, and the settings every connection needs.

What lives here: the pragmas with their reasons. What may not: queries.

- `journal_mode=WAL`: readers do not wait for the writer (https://www.sqlite.org/wal.html).
- `synchronous=FULL`: in WAL mode the log is synced at every commit, so a commit survives a power
  cut; with NORMAL it survives the end of the process only
  (https://www.sqlite.org/pragma.html#pragma_synchronous).
- `foreign_keys=ON`: deleting a job takes its sheets, claims and history along.
- `wal_autocheckpoint=0`: checkpoints are made by the writer when it has time, and by nobody else.
- `auto_vacuum=INCREMENTAL`: free pages can be given back to the file system, a few at a time. Only
  an empty file can be told so (https://www.sqlite.org/pragma.html#pragma_auto_vacuum).
- `journal_size_limit`: after a checkpoint the log is cut to this size instead of staying at its
  largest.

Readers open with `mode=ro`. SQLite from 3.7.0 to 3.51.2 can corrupt the database when two
connections write or checkpoint a WAL at the same moment (https://www.sqlite.org/wal.html#walresetbug),
so exactly one connection may do either.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from jobkeep_protocol.errors import StorageError
from jobkeepd.durable import sync_directory, write_again

Durability = Literal["full", "normal"]

INCREMENTAL = 2
"""As `PRAGMA auto_vacuum` has it."""


def create_private(database: Path) -> None:
    """Make an empty file that only this user may read, unless there is one.

    SQLite would make it by the umask; its -wal and -shm get the permissions of the file.
    """
    try:
        os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StorageError(
            f"the database {database} cannot be opened: {error.strerror}; may this user read and "
            "write it and its directory?"
        ) from error


@contextmanager
def open_for_looking(database: Path) -> Iterator[sqlite3.Connection]:
    """A connection that changes nothing, to see what a file is before it is touched.

    Raises StorageError for a file that is no database, or has a transaction to be undone first.
    """
    try:
        with closing(sqlite3.connect(reading_uri(database), uri=True)) as connection:
            yield connection
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the second: a message that quotes damage
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_READONLY_ROLLBACK:
            raise StorageError(
                f"another program was interrupted while it wrote to {database}, and what undoes "
                f"that is in {journal_path(database)}: let that program open the file again, or "
                f"run `sqlite3 {database} .schema`, and then try again (nothing was changed)"
            ) from error
        raise StorageError(
            f"the file {database} cannot be read as an SQLite database: {error} (it was not "
            "changed); restore it from a backup, or give another path with --db"
        ) from error


def open_for_writing(
    database: Path, durability: Durability, wal_keep_bytes: int
) -> sqlite3.Connection:
    """The one connection that writes. It may be used from one thread at a time, any thread.

    Raises StorageError for a file that is no database, or cannot be opened.
    """
    try:
        connection = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise StorageError(f"the database {database} cannot be opened: {error}") from error
    try:
        connection.execute("PRAGMA busy_timeout = 5000")
        (vacuum,) = connection.execute("PRAGMA auto_vacuum").fetchone()
        if vacuum != INCREMENTAL:  # to say it again writes to the file, before its log is on disk
            connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StorageError(
                f"the database {database} cannot use a write-ahead log (it stays in mode "
                f"{mode!r}); put it on a local file system that has shared memory"
            )
        connection.execute(f"PRAGMA synchronous = {durability}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"PRAGMA journal_size_limit = {wal_keep_bytes}")
    except sqlite3.Error as error:
        connection.close()
        raise StorageError(
            f"the database {database} cannot be used: {error}; is it an SQLite file, and may this "
            "user read and write it and its directory?"
        ) from error
    except StorageError:
        connection.close()
        raise
    return connection


def make_durable(connection: sqlite3.Connection, database: Path) -> None:
    """Put on disk what is found in the log, before anything is answered from it.

    A daemon that was killed between writing to the log and syncing it, or whose sync failed, leaves
    commits there that nobody was told of and no sync covers. They are in effect from now on: a
    request that is sent again is answered by them, without a write, so without a sync.

    A checkpoint would not do: it can be held up by another program that reads, and when a sync has
    failed before, it copies into the database what a power cut then takes from the log alone.
    Raises StorageError when it cannot be done.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")  # nobody else writes to the log meanwhile
        write_again(wal_path(database))
        sync_directory(database.parent)
        connection.execute("ROLLBACK")
    except (sqlite3.Error, OSError) as error:
        raise StorageError(
            f"what the log of {database} holds cannot be put on disk: {error}; nothing is answered "
            "before it is. Is the disk in order, and does no other program write to the file? Then "
            "start the daemon again"
        ) from error


def reading_uri(database: Path) -> str:
    """The URI that opens the file read-only (https://www.sqlite.org/uri.html)."""
    return f"file:{quote(str(database))}?mode=ro"


def path_of(connection: sqlite3.Connection) -> str:
    """The file of a connection (https://www.sqlite.org/pragma.html#pragma_database_list)."""
    _, _, path = connection.execute("PRAGMA database_list").fetchone()
    return str(path)


def wal_path(database: Path) -> Path:
    """The write-ahead log of a database."""
    return database.with_name(database.name + "-wal")


def index_path(database: Path) -> Path:
    """The index of the log, which the processes that have the database open share."""
    return database.with_name(database.name + "-shm")


def journal_path(database: Path) -> Path:
    """What undoes a transaction that has no log: one in which SQLite makes a file, or one of
    another program."""
    return database.with_name(database.name + "-journal")
