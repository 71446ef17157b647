"""A file that can be made shorter, a few pages at a time.

What lives here: making an older file one. What may not: making it shorter (that is `pruning`).

To move its last pages to where room is free, SQLite has to know of each page who points at it, and
keeps that from the first page of a file on (`connection`), or after a VACUUM.
"""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

from jobkeep_protocol.errors import StorageError
from jobkeepd.files import has_room
from jobkeepd.store.connection import INCREMENTAL, wal_path
from jobkeepd.store.failures import is_failed_write, is_final

log = logging.getLogger(__name__)


def make_shrinkable(database: Path, connection: sqlite3.Connection) -> None:
    """Write the pages of an older file anew; leave one that can be made shorter as it is.

    It is one transaction, which changes no table and leaves the mark as it is, so to the log it is
    like any other: one that is interrupted has not begun. It takes as much room as the file has in
    the log, and as much in the directory of temporary files; where there is none, the file stays as
    it is, its free room is used again, and the next start tries again. Raises StorageError.
    """
    (kind,) = connection.execute("PRAGMA auto_vacuum").fetchone()
    if kind == INCREMENTAL:
        return
    try:
        connection.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
        connection.execute("VACUUM")
    except (sqlite3.Error, OSError) as error:
        wants_room = is_failed_write(error) and not has_room(database, wal_path(database))
        if is_final(error) and not wants_room:
            raise StorageError(
                f"{database} cannot be written anew, so that it can be made shorter when it is "
                f"pruned: {error}; it is as it was. Is the disk in order?"
            ) from error
        log.warning(
            "%s cannot be written anew, so it gets no shorter when it is pruned: %s; make room on "
            "the disk for as much again, and start the daemon again",
            database,
            error,
        )
    else:
        log.info("%s was written anew: it gets shorter when it is pruned", database)
