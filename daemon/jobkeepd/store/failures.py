"""What a failure of the database means: what the sender of a write is told, and who goes on.

What lives here: telling a refusal, a full disk, a damaged file and a failed disk apart, and the
words for each. What may not: transactions (that is `committer`).

Before the commit nothing of a transaction can be on disk, whatever happens. So the request that
caused the failure is refused alone and the daemon goes on, unless the failure says that the disk or
the file is not to be trusted any more. While the commit is made, a failure leaves it open what is
on disk, but for the few after which SQLite has rolled back or can
(https://www.sqlite.org/rescode.html):

| what | told | the daemon |
|---|---|---|
| the disk or a quota is full, another program has the lock | nothing was written | goes on |
| out of memory, or of descriptors | nothing was written | goes on |
| a value, or a row that is there, is refused | nothing was written | goes on |
| the file is damaged | nothing was written | ends |
| the disk failed, or anything else during the commit | the outcome is unknown | ends |

SQLite knows a full disk by ENOSPC alone. A write that a quota or a limit on the size of files
refuses is one that failed, to SQLite; whether there is room tells (`files.has_room`).

A failing disk always ends it: after a failed sync the kernel may have thrown away what it could not
write, and the next sync says that all is well (https://lwn.net/Articles/752063/). What is on disk
is only known again when the log has been read anew, at the next start.
"""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

from jobkeep_protocol.errors import JobkeepError, StorageError

log = logging.getLogger(__name__)

_LOCKED_OUT = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
"""Another program holds the lock for writing."""

_UNDONE_IN_COMMIT = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_CONSTRAINT, *_LOCKED_OUT}
"""A commit that ends so has left nothing."""

_REFUSED = {
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_RANGE,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_CANTOPEN,
    *_UNDONE_IN_COMMIT,
}
"""What a single statement may end with while the database is in order."""

_NO_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
"""The second is refused for want of room, or not at all."""

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_CHECK = "run `jobkeepd --check` to see what is damaged, and restore a backup"


class LockedOutError(Exception):
    """Another program holds the lock for writing; nothing was written."""


class MustUndoError(Exception):
    """A request was refused after it had changed something; `__cause__` says why."""


class FilesTakenAwayError(Exception):
    """What is under the names of the database and its log is not what was opened."""


class InCommitError(Exception):
    """The commit failed, for its `__cause__`, and may have been made all the same."""


class DatabaseFailed(StorageError):
    """Nothing can be written any more: the daemon has to end, and to be started again."""


def is_locked_out(error: BaseException | None) -> bool:
    """Whether another program's lock was in the way."""
    return _result_code(error) in _LOCKED_OUT


def is_undone_in_commit(error: Exception) -> bool:
    """Whether a commit that failed so has left nothing on disk."""
    return _result_code(error) in _UNDONE_IN_COMMIT


def is_final(error: BaseException) -> bool:
    """Whether nothing may be written after this failure."""
    if not isinstance(error, Exception):
        return True  # an interrupt: it may have come at any moment
    if isinstance(error, InCommitError | FilesTakenAwayError | OSError):
        return True
    code = _result_code(error)
    return code is not None and code not in _REFUSED


def is_failed_write(error: BaseException) -> bool:
    """Whether the disk did not take what was to be written. Nothing of the transaction can be there
    then: its last page is what makes it valid."""
    cause = error.__cause__ if isinstance(error, InCommitError) else error
    return getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_IOERR_WRITE


def is_want_of_room(error: BaseException) -> bool:
    """Whether a transaction was undone for want of room, once it is known not to be final."""
    return _result_code(error.__cause__ or error) in _NO_ROOM


def refusal(name: str, error: BaseException) -> JobkeepError:
    """What the sender of a write that was undone is told. `name` is that of its type."""
    wrapped = isinstance(error, MustUndoError | LockedOutError | InCommitError)
    cause = error.__cause__ if wrapped else error
    if isinstance(cause, JobkeepError):
        return cause
    code = _result_code(cause)
    if code in _LOCKED_OUT:
        return StorageError(
            "another program holds the lock for writing to the database; nothing was written. "
            "Only the daemon may write to it: stop that program, and try again",
            {"reason": "locked"},
        )
    if code in _NO_ROOM:
        return StorageError(
            "the disk is full; nothing was written. Reading goes on, and writing works again "
            "when there is room",
            {"reason": "disk_full"},
        )
    if code == sqlite3.SQLITE_NOMEM or isinstance(cause, MemoryError):
        return StorageError(
            f"there was not enough memory for {name}; nothing was written. Try again, or give "
            "jobkeepd more memory",
            {"reason": "memory"},
        )
    if code == sqlite3.SQLITE_CANTOPEN:
        return StorageError(
            f"a temporary file for {name} could not be opened; nothing was written. Has jobkeepd "
            "descriptors left (LimitNOFILE), and may it write to its directory for such files?",
            {"reason": "temporary_file"},
        )
    if isinstance(cause, sqlite3.Error):
        return StorageError(f"{name} was refused, and nothing was written: {cause}")
    log.error("a defect in %s; nothing was written", name, exc_info=cause)
    return JobkeepError(
        f"a defect of jobkeepd in {name} ({type(cause).__name__}: {cause}); nothing was written. "
        "The daemon's log has the details"
    )


def write_failed(database: Path, error: BaseException) -> DatabaseFailed:
    """What everybody is told whose write was under way when the database failed."""
    if _result_code(error) in _DAMAGED:
        return DatabaseFailed(
            f"the database {database} is damaged ({error}); nothing was written. The daemon stops: "
            f"{_CHECK}",
            {"reason": "damaged"},
        )
    cause = error.__cause__ if isinstance(error, InCommitError) else error
    return DatabaseFailed(
        f"writing to {database} failed ({cause or type(cause).__name__}); what was being written "
        "may or may not be there after a restart. The daemon stops; a client that sends its "
        "request again gets it applied once",
        {"outcome": "unknown"},
    )


def house_keeping_failed(database: Path, error: BaseException) -> DatabaseFailed:
    """What everybody is told when the database failed between two transactions."""
    if isinstance(error, FilesTakenAwayError):
        return DatabaseFailed(
            f"{error}: nothing more can be written. The daemon stops; put back what was taken "
            "away, or restore a backup, and start it again",
            {"outcome": "unknown"},
        )
    hint = f"; {_CHECK}" if _result_code(error) in _DAMAGED else ""
    return DatabaseFailed(
        f"house-keeping of {database}, which moves its log into it, failed ({error}); every write "
        f"that was acknowledged is still in the log. The daemon stops, to read it anew{hint}",
        {"outcome": "unknown"},
    )


def _result_code(error: BaseException | None) -> int | None:
    """The primary result code of SQLite; None for an error that did not come from SQLite, as when
    Python's module refuses a value."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
