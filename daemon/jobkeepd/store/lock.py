"""One process a database: the lock file beside it.

What lives here: taking, naming and giving back the lock. What may not: opening the database.

The lock is an flock(2) on `<database>.lock`, so the kernel gives it back when the process dies,
however it dies. The file stays: removing it would let two processes lock two files of one name.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from jobkeep_protocol.errors import StorageError


class DatabaseInUse(StorageError):
    """Another process has the database. `data["pid"]` is its pid where that is known."""


class DatabaseLock:
    """The exclusive right to open a database. Taken on construction.

    Raises DatabaseInUse, naming the process that has it.
    """

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + ".lock")
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._file, 32, 0).decode(errors="replace").strip()
            os.close(self._file)
            raise DatabaseInUse(
                f"the database {database} is in use by process {holder or '(unknown)'}; connect to "
                "its socket instead of opening the file, or stop it first",
                {"pid": int(holder) if holder.isdigit() else None, "database": str(database)},
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock back. Idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
