"""One process a database: the lock file beside it.

What lives here: taking, naming and giving back the lock. What may not: opening the database.

The lock is an flock(2) on `<database>.lock`, so the kernel gives it back when the process dies,
however it dies. The file stays: removing it would let two processes lock two files of one name.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from jobkeep_protocol.errors import StorageError

_PAUSE_SECONDS = 0.05


class DatabaseInUse(StorageError):
    """Another process has the database. `data["pid"]` is its pid where that is known."""


class DatabaseLock:
    """The exclusive right to open a database. Taken on construction.

    `patience` is how many seconds to wait for it: a process that was killed may take a moment to
    end, in a sync of the disk for instance, and has its locks until then. Raises DatabaseInUse,
    naming the process that has it, and StorageError when there can be no lock file.
    """

    def __init__(self, database: Path, patience: float = 0.0) -> None:
        self.path = database.with_name(database.name + ".lock")
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(
                f"the lock file {self.path} cannot be opened: {error.strerror}; may uid "
                f"{os.geteuid()} write to it and its directory? Give another path with --db if not"
            ) from error
        deadline = time.monotonic() + patience
        while not self._try():
            if time.monotonic() >= deadline:
                holder = os.pread(self._file, 32, 0).decode(errors="replace").strip()
                self.release()
                raise DatabaseInUse(
                    f"the database {database} is in use by process {holder or '(unknown)'}; "
                    "connect to its socket instead of opening the file, or stop it first",
                    {"pid": int(holder) if holder.isdigit() else None, "database": str(database)},
                )
            time.sleep(_PAUSE_SECONDS)
        self._sign()

    def _try(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            self.release()
            raise StorageError(
                f"the lock file {self.path} cannot be locked: {error.strerror}; put the database "
                "on a local file system"
            ) from error
        return True

    def _sign(self) -> None:
        """Say who has the lock."""
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            self.release()
            raise StorageError(
                f"the lock file {self.path} cannot be written: {error.strerror}; is there room on "
                "the disk, and is it in order?"
            ) from error

    def release(self) -> None:
        """Give the lock back. Idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
