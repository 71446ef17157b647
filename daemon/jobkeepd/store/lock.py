"""One process a database: the lock file beside it.

What lives here: taking, naming and giving back the lock, and the one note that is kept in its file.
What may not: opening the database.

The lock is an flock(2) on `<database>.lock`, so the kernel gives it back when the process dies,
however it dies. The file stays: removing it would let two processes lock two files of one name. Its
first line is the pid of the process that has the lock or had it last. The second is the mark that
the database had when its log was begun (`marks`): a file that still has that mark needs the log.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from pathlib import Path

from jobkeep_protocol.errors import StorageError
from jobkeepd.files import refuse_unless_plain

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.05
_LINE_BYTES = 16


class DatabaseInUse(StorageError):
    """Another process has the database. `data["pid"]` is its pid where that is known."""


class DatabaseLock:
    """The exclusive right to open a database. Taken on construction.

    `patience` is how many seconds to wait for it: a process that was killed may take a moment to
    end, in a sync of the disk for instance, and has its locks until then. Raises DatabaseInUse,
    naming the process that has it, and StorageError when there can be no lock file.
    """

    def __init__(self, database: Path, patience: float = 0.0) -> None:
        self.path = lock_path(database)
        try:
            refuse_unless_plain(self.path, os.geteuid())
            self._file = os.open(
                self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise StorageError(
                f"the lock file {self.path} cannot be opened: {error.strerror}; may uid "
                f"{os.geteuid()} write to it and its directory? Give another path with --db if not"
            ) from error
        deadline = time.monotonic() + patience
        while not self._try():
            if time.monotonic() >= deadline:
                holder = _number(os.pread(self._file, _LINE_BYTES, 0))
                self.release()
                raise DatabaseInUse(
                    f"the database {database} is in use by process {holder or '(unknown)'}; "
                    "connect to its socket instead of opening the file, or stop it first",
                    {"pid": holder, "database": str(database)},
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
            os.pwrite(self._file, _line(os.getpid()), 0)
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


def lock_path(database: Path) -> Path:
    """The lock file of a database."""
    return database.with_name(database.name + ".lock")


def noted_mark(database: Path) -> int | None:
    """The mark that a database had when its log was begun, None when that is not known. Raises
    OSError."""
    try:
        with lock_path(database).open("rb") as file:
            return _number(file.read(2 * _LINE_BYTES)[_LINE_BYTES:])
    except FileNotFoundError:
        return None


def note_mark(database: Path, number: int) -> None:
    """Keep the mark that the database has now that its log begins. Raises OSError.

    It is not synced: a power cut may leave the note of before, which is not this file's any more
    and so says nothing.
    """
    try:
        file = os.open(lock_path(database), os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        log.warning(
            "the lock file %s has been removed: nothing keeps a second jobkeepd from the database; "
            "start this one again",
            lock_path(database),
        )
        return
    try:
        os.pwrite(file, _line(number), _LINE_BYTES)
    finally:
        os.close(file)


def _line(number: int) -> bytes:
    """A number in a line of a width of its own, so that each can be written alone."""
    return f"{number}\n".rjust(_LINE_BYTES).encode()


def _number(line: bytes) -> int | None:
    text = line.strip()
    return int(text) if text.isdigit() else None
