"""The mark: how a database file tells which log belongs beside it.

What lives here: the mark, and the checkpoint, which sets it. What may not: reading a log as bytes
(that is `log`), and what is refused (that is `guard`).

SQLite applies any log that lies beside a file, whichever file it was written for, and takes one
that is missing or unreadable for one that is empty (https://www.sqlite.org/howtocorrupt.html). A
restored file beside the log of the one before would be spoilt, and with a log that was removed
acknowledged writes would be gone, both without a word.

So each state of the file that a log can go on from has a mark, a random number in the field of its
header that is the application's (`PRAGMA user_version`). It is set twice around each checkpoint,
each time in a transaction of its own:

- before, as the last page that the checkpoint moves: no copy from an earlier moment has this mark;
- after, as the first page of the log that begins anew. It names the mark before it, so the log
  tells which state it goes on from, and whatever comes of the file when SQLite moves this log into
  it has another mark than the file without it.

When both are on disk, the first is noted in the lock file: a file that still has it needs its log.
A crash between any two of these steps leaves files that are in order.
"""

from __future__ import annotations

import secrets
import sqlite3
from pathlib import Path
from typing import NamedTuple

from jobkeepd.store.lock import note_mark

_TAGS = 1 << 15
_SYNCHRONOUS_FULL = 2
_WANTS_OF_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE}
"""The second too, where a file may not be as large (RLIMIT_FSIZE)."""


class Mark(NamedTuple):
    """One mark. `tag` is a random number, 0 in a file that never had a mark, and `previous` that of
    the mark before. `is_relaxed`: set by a connection that does not sync the log at each commit, so
    that a power cut may take its end."""

    tag: int
    previous: int
    is_relaxed: bool

    @classmethod
    def of(cls, number: int) -> Mark:
        """The mark in a `user_version`."""
        return cls(number >> 16 & _TAGS - 1, number >> 1 & _TAGS - 1, bool(number & 1))

    @property
    def number(self) -> int:
        """The mark as a `user_version`."""
        return self.tag << 16 | self.previous << 1 | self.is_relaxed

    def next(self, *, is_relaxed: bool) -> Mark:
        """A mark that comes after this one."""
        tag = 1 + secrets.randbelow(_TAGS - 1)
        return (
            Mark(tag, self.tag, is_relaxed) if tag != self.tag else self.next(is_relaxed=is_relaxed)
        )


def checkpoint(database: Path, connection: sqlite3.Connection) -> int:
    """Move the log into the file and begin it anew; gives the pages that were in it.

    It never waits for a reader (PASSIVE): while one needs the log, what can be moved is moved, and
    the log goes on. Raises sqlite3.Error, and OSError; the files are in order all the same.
    """
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    (level,) = connection.execute("PRAGMA synchronous").fetchone()
    mark, is_relaxed = Mark.of(number), level < _SYNCHRONOUS_FULL
    want_of_room: sqlite3.Error | None = None
    try:
        mark = _set(connection, mark.next(is_relaxed=is_relaxed))
    except sqlite3.Error as error:
        if error.sqlite_errorcode not in _WANTS_OF_ROOM:
            raise
        want_of_room = error  # the log takes no other page: moving it may help
    _, pages, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    _set(connection, mark.next(is_relaxed=is_relaxed))
    if moved == pages:
        note_mark(database, mark.number)
    if want_of_room is not None:
        raise want_of_room
    return int(pages)


def _set(connection: sqlite3.Connection, mark: Mark) -> Mark:
    connection.execute(f"PRAGMA user_version = {mark.number}")
    return mark
