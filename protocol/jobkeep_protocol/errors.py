"""Every error that jobkeep raises, and how one travels over the wire.

What lives here: the tree of exceptions, their stable codes, and the mapping between the two.
What may not: anything that can fail for its own reasons, and any I/O.

    JobkeepError
    ├── JobNotFound          job_not_found         (also a ValueError)
    ├── InvalidRequest       invalid_request       (also a ValueError)
    ├── RevisionConflict     revision_conflict
    ├── PermissionDenied     permission_denied     (also a PermissionError)
    ├── DaemonUnavailable    daemon_unavailable    (also a ConnectionError)
    ├── RequestTimeout       request_timeout       (also a TimeoutError)
    ├── LimitExceeded        limit_exceeded
    ├── StorageError         storage_error
    └── ProtocolError        protocol_error

A code is part of the protocol and never changes; a message is for people and may.
"""

from __future__ import annotations

from typing import Any, ClassVar


class JobkeepError(Exception):
    """Base of all errors that jobkeep raises.

    `code` is stable and fit for programs; `str(error)` says what happened and what to do next;
    `data` holds the facts of this one error (plain JSON types).
    """

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.data: dict[str, Any] = data or {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.data)


class JobNotFound(JobkeepError, ValueError):
    """The job does not exist. `data["job_id"]` names it."""

    code = "job_not_found"

    @classmethod
    def named(cls, job_id: str) -> JobNotFound:
        """The error for this job id, in the words that callers match on."""
        return cls(
            f"No state found for job {job_id!r}; `jobkeep jobs` lists those that are kept",
            {"job_id": job_id},
        )


class InvalidRequest(JobkeepError, ValueError):
    """A value is not allowed. The message names the field, the value and what is allowed."""

    code = "invalid_request"


class RevisionConflict(JobkeepError):
    """`save(if_revision=…)` found another revision; `data` has `kept` and `expected`."""

    code = "revision_conflict"


class PermissionDenied(JobkeepError, PermissionError):
    """This user may not do that; `data["role"]` names the role that is needed."""

    code = "permission_denied"


class DaemonUnavailable(JobkeepError, ConnectionError):
    """No daemon answers at the socket; the message names it and the command that starts one."""

    code = "daemon_unavailable"


class RequestTimeout(JobkeepError, TimeoutError):
    """No answer within the caller's timeout. A write may or may not have been applied."""

    code = "request_timeout"


class LimitExceeded(JobkeepError):
    """A limit of the daemon or of the protocol; `data` has `limit` and `maximum`."""

    code = "limit_exceeded"


class StorageError(JobkeepError):
    """The database could not do it. The message says whether anything can have been written."""

    code = "storage_error"


class ProtocolError(JobkeepError):
    """The peer sent what this protocol does not allow; the connection is of no further use."""

    code = "protocol_error"


ERRORS_BY_CODE: dict[str, type[JobkeepError]] = {
    error.code: error
    for error in (
        JobkeepError,
        JobNotFound,
        InvalidRequest,
        RevisionConflict,
        PermissionDenied,
        DaemonUnavailable,
        RequestTimeout,
        LimitExceeded,
        StorageError,
        ProtocolError,
    )
}


def error_from_wire(code: str, message: str, data: dict[str, Any]) -> JobkeepError:
    """The exception for an error reply; a code from a newer daemon gives a plain JobkeepError."""
    known = ERRORS_BY_CODE.get(code)
    if known is None:
        return JobkeepError(f"{message} (error code {code!r} of a newer daemon)", data)
    return known(message, data)
