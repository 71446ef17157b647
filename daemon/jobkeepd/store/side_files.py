"""Leaving no trace beside a database that was only looked at.

What lives here: the log and the index that SQLite makes beside a file to read it, as they were
before. What may not: reading.

To read a file that uses a log, SQLite makes an empty log and an index when there are none, and
writes an index anew that nobody uses. Neither changes what is kept; but a file that is refused has
to stay as it was, all of it, for whoever finds out what happened to it.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobkeepd.store.connection import index_path, wal_path

_SHARED_FIRST = 0x40000002
_SHARED_SIZE = 510
"""Where each connection to a file that uses a log has a lock, from its first read to its end
(https://www.sqlite.org/c3ref/c_lock_exclusive.html; `SHARED_FIRST` in SQLite's os.h)."""


@contextmanager
def side_files_as_they_were(database: Path) -> Iterator[None]:
    """If what is done in here fails, the log and the index are as they were before.

    Its connections have to be closed by then. Raises OSError.
    """
    files = SideFiles(database)
    try:
        yield
    except BaseException:
        files.restore()
        raise


class SideFiles:
    """What is beside a database now."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._wal = wal_path(database)
        self._had_wal = self._wal.exists()
        self._index = index_path(database)
        self._had = self._index.read_bytes() if self._index.exists() else None

    def restore(self) -> None:
        """Put them back, unless somebody has the database open: then they are in use.

        No connection of this process may be open. Raises OSError.
        """
        with self._database.open("r+b") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, _SHARED_SIZE, _SHARED_FIRST)
            except BlockingIOError:
                return
            if self._had is None:
                self._index.unlink(missing_ok=True)
            else:
                self._index.write_bytes(self._had)
            if not self._had_wal and self._wal.exists() and self._wal.stat().st_size == 0:
                self._wal.unlink()
