"""Every operation, declared once.

What lives here: one frozen Struct an operation, with its fields, its reply type and who may do it;
the replies; and the codec between these and the bodies of frames. Dispatch in the daemon, both
clients and authorisation follow from the declaration: a class that derives from `Read[Reply]`,
`Write[Reply]`, `Admin[Reply]` or `Control[Reply]`. What may not: sockets, frames, SQL.

A body is a msgpack array (design: the wire):

    up      [request_id, [operation, field, …]]
    down    [request_id, ["ok", reply]]   or   [request_id, ["error", code, message, data]]

The operation is the class name in snake_case. New fields go at the end and have defaults, so that
an older peer can still read the message.

Request ids are the client's, and for writes they are also the key under which the daemon applies a
request once. An id is `sequence * SLOTS + slot`. A client has at most one request outstanding in
each slot and only ever sends growing ids in it, so the daemon needs to keep no more than the last
reply of each slot to answer a request that is sent again (the scheme of NFSv4.1 sessions, RFC 8881
section 2.10.6). The client is known by the random `client_id` of its hello, over any number of
connections.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache, partial
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar, Union, get_args

import msgspec
from msgspec import Meta, Struct

from jobkeep_protocol.backend import ExecutionRecord, JobStatistics, JobSummary
from jobkeep_protocol.errors import (
    InvalidRequest,
    JobkeepError,
    LimitExceeded,
    ProtocolError,
    error_from_wire,
)
from jobkeep_protocol.explain import UNENCODABLE, explain_request, explain_unencodable, in_one_line
from jobkeep_protocol.states import (
    CheckpointFields,
    CheckpointState,
    JobStatus,
    SheetFields,
    SheetState,
    SheetStatus,
)
from jobkeep_protocol.values import (
    MAX_INTEGER,
    MIN_INTEGER,
    as_utc,
    check_integer,
    check_integers,
    check_job_id,
    check_number,
    is_integer,
    refused,
)
from jobkeep_protocol.weight import check_weight

PROTOCOL_VERSION = 1
OLDEST_PROTOCOL_VERSION = 1

SLOTS = 64
"""Requests one client may have outstanding; see the module's docstring."""

HELLO_ID = 0
"""The request id of a hello, which is the first frame each way."""

MAX_TEXT_BYTES = 16 * 1024 * 1024
"""The largest prompt or output of one record."""

ReplyT = TypeVar("ReplyT")
Role = Literal["read", "write", "admin"]


def operation_name(class_name: str) -> str:
    """`QueryJobs` -> `query_jobs`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", class_name).lower()


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise refused(name, value, "text")
    if len(value) * 4 > MAX_TEXT_BYTES and len(value.encode(errors="replace")) > MAX_TEXT_BYTES:
        raise LimitExceeded(
            f"{name} has more than {MAX_TEXT_BYTES} bytes of UTF-8; keep its head and its tail",
            {"limit": name, "maximum": MAX_TEXT_BYTES},
        )


def _check_sheet_nums(name: str, values: list[int]) -> None:
    for index, value in enumerate(values):
        if not (is_integer(value) and 1 <= value <= MAX_INTEGER):
            check_integer(f"{name}[{index}]", value, 1)  # its name takes longer than all the rest


def _check_sheets_are_beside(name: str, state: CheckpointState) -> None:
    if state.sheets:
        raise refused(
            f"{name}.sheets",
            state.sheets,
            "no sheets here: they go into `sheets`, beside the state",
        )


LEAST = {
    "sheet_num": 1,
    "max_attempts": 1,
    "attempt_num": 0,
    "limit": 0,
    "if_revision": 0,
    "before_id": MIN_INTEGER,
    "after": MIN_INTEGER,
    "after_sheet": MIN_INTEGER,
    "offset": 0,
    "exit_code": MIN_INTEGER,
}
"""The integers, in any request, and the least that each may be."""

CHECKS: dict[str, Callable[[str, Any], object]] = {
    "job_id": lambda _name, value: check_job_id(value),
    "state": _check_sheets_are_beside,
    "removed": _check_sheet_nums,
    "duration_seconds": partial(check_number, low=0),
    "since": as_utc,
    "prompt": _check_text,
    "output": _check_text,
}
"""What any other field of this name may hold. None is for the type of the field to judge."""


class Request(Struct, Generic[ReplyT], frozen=True, array_like=True, tag=operation_name):
    """Base of all requests; `ReplyT` is what the answer holds.

    Raises InvalidRequest or LimitExceeded for a value that is not allowed.
    """

    role: ClassVar[Role]
    """Who may send this: a reader, a writer or an administrator."""

    def __post_init__(self) -> None:
        integers, checks = _checks_of(type(self))
        check_integers(self, integers, may_be_none=True)
        for name, check in checks:
            value = getattr(self, name)
            if value is not None:
                check(name, value)


@cache
def _checks_of(
    operation: type[Request[Any]],
) -> tuple[dict[str, int], list[tuple[str, Callable[[str, Any], object]]]]:
    fields = operation.__struct_fields__
    integers = {name: LEAST[name] for name in fields if name in LEAST}
    return integers, [(name, CHECKS[name]) for name in fields if name in CHECKS]


class Read(Request[ReplyT], frozen=True):
    """An operation that changes nothing and may be sent again freely."""

    role: ClassVar[Role] = "read"


class Write(Request[ReplyT], frozen=True):
    """An operation that changes the database, applied once for each request id."""

    role: ClassVar[Role] = "write"


class Admin(Write[ReplyT], frozen=True):
    """A write that takes away what others may rely on."""

    role: ClassVar[Role] = "admin"


class Control(Read[ReplyT], frozen=True):
    """An operation on the daemon as a whole, which changes no job and may be sent again freely."""

    role: ClassVar[Role] = "admin"


# -- the connection -------------------------------------------------------------------------------


class Welcome(Struct, frozen=True, array_like=True):
    """The daemon's answer to a hello: who it is and what it accepts."""

    protocol: int
    name: str
    version: str
    oldest_protocol: int
    max_frame_bytes: int
    max_in_flight: int


class Hello(Read[Welcome], frozen=True):
    """The first message of a connection. `client_id` is 16 random bytes, or empty for a client
    that never sends a request twice."""

    protocol: int
    name: str
    version: str
    client_id: Annotated[bytes, Meta(max_length=16)] = b""
    max_frame_bytes: int = 0


class DaemonStatus(Struct, frozen=True):
    """What `jobkeep status` shows. Sizes in bytes."""

    pid: int
    version: str
    uptime_seconds: float
    socket: str
    database: str
    database_bytes: int
    wal_bytes: int
    durability: str
    schema_version: int
    clients: int
    jobs: dict[str, int]
    """How many jobs there are of each status; statuses without jobs are left out."""
    writes: int
    commits: int


class Status(Read[DaemonStatus], frozen=True):
    """How the daemon is."""


# -- copies ---------------------------------------------------------------------------------------


class StartBackup(Control[str], frozen=True):
    """Begin a copy of the database as it is now; gives the id it is read with."""


class BackupPiece(Struct, frozen=True, array_like=True):
    """The next bytes of a copy. None of them, with `more` true: the copy is still being made."""

    data: bytes
    more: bool


class ReadBackup(Control[BackupPiece], frozen=True):
    """Some bytes of a copy from `offset` on. A copy that nobody reads for a minute is given up."""

    backup_id: str
    offset: int = 0


# -- jobs -----------------------------------------------------------------------------------------


class Loaded(Struct, frozen=True, array_like=True):
    """One page of a job's state: the job without its sheets, some sheets, whether more follow.

    `state` is null in all pages but the first. `sequence` is what a Save that is based on this
    state gives as its `base`; pages belong together when it is the same. What is read here was
    checked when it was saved, and is not checked again.
    """

    state: CheckpointFields | None
    sheets: Sequence[SheetFields]
    sequence: int
    more: bool = False


class Load(Read[Loaded | None], frozen=True):
    """The state of a job; null for an unknown one.

    With `after_sheet` null the first page; else a further one, with the sheets after that number.
    A zombie is set to paused, on disk, before the answer.
    """

    job_id: str
    after_sheet: int | None = None


class Saved(Struct, frozen=True, array_like=True):
    """What a save has set; `sequence` as in Loaded."""

    revision: int
    updated_at: datetime
    sequence: int


class Save(Write[Saved | None], frozen=True):
    """Make the kept job equal to a state, by sending the state or what changed in it.

    `state` comes without its sheets. With `base` null, `sheets` are all of them. Otherwise `base`
    is the sequence of the kept job that was last seen, `sheets` are those that differ from it and
    `removed` those it no longer has; the reply is null, and nothing has changed, when the kept
    job has moved on: then send the whole state. (A sequence is never used twice, a revision is:
    by a job that is deleted and made anew.)
    """

    state: CheckpointState
    sheets: list[SheetState]
    base: int | None = None
    removed: list[int] = []
    if_revision: int | None = None


class Delete(Admin[bool], frozen=True):
    """Remove a job with its sheets and its history; false when there was none."""

    job_id: str


class StatesPage(Struct, frozen=True, array_like=True):
    """Some jobs, and where the next page begins (null after the last)."""

    states: list[Loaded]
    next: int | None = None


class ListJobs(Read[StatesPage], frozen=True):
    """The states of all jobs, a page at a time, in the order in which they were made.

    A job keeps its place however often it changes, so each comes once and the list has an end.
    `after` is the `next` of the page before.
    """

    after: int = 0


class JobsPage(Struct, frozen=True, array_like=True):
    """Some summaries, and whether more jobs match."""

    jobs: list[JobSummary]
    more: bool = False


class QueryJobs(Read[JobsPage], frozen=True):
    """Summaries of the jobs that match, last updated first.

    `after_id`, with the `updated_at` that was seen, is the last job of the page before.
    """

    status: JobStatus | None = None
    since: datetime | None = None
    limit: int = 50
    after_id: str | None = None
    after_updated_at: str | None = None


class GetJobStatistics(Read[JobStatistics | None], frozen=True):
    """Counts and averages of a job; null for an unknown one."""

    job_id: str


# -- sheets ---------------------------------------------------------------------------------------


class GetNextSheet(Read[int | None], frozen=True):
    """The sheet to work on next; 1 for an unknown job."""

    job_id: str


class MarkSheetStatus(Write[None], frozen=True):
    """Set the status of one sheet, with the transition that belongs to it."""

    job_id: str
    sheet_num: int
    status: SheetStatus
    error_message: str | None = None


class SaveSheet(Write[int], frozen=True):
    """Insert or replace one sheet and leave the others alone; gives the job's new revision."""

    job_id: str
    sheet: SheetState


class ClaimNextSheet(Write[int | None], frozen=True):
    """Take the first sheet that can be worked on for the process of this connection."""

    job_id: str
    max_attempts: int = 1


# -- history --------------------------------------------------------------------------------------


class RecordExecution(Write[int | None], frozen=True):
    """Keep one attempt; gives the id of the record, null for an unknown job."""

    job_id: str
    sheet_num: int
    attempt_num: int
    prompt: str | None = None
    output: str | None = None
    exit_code: int | None = None
    duration_seconds: float | None = None


class HistoryPage(Struct, frozen=True, array_like=True):
    """Some records, newest first, and whether there are more of those asked for."""

    records: list[ExecutionRecord]
    more: bool = False


class GetExecutionHistory(Read[HistoryPage], frozen=True):
    """The attempts of a job, or of one sheet, newest first; `before_id` pages."""

    job_id: str
    sheet_num: int | None = None
    limit: int = 100
    before_id: int | None = None


class GetExecutionHistoryCount(Read[int], frozen=True):
    """How many attempts are kept of a job, or of one sheet."""

    job_id: str
    sheet_num: int | None = None


# -- the codec ------------------------------------------------------------------------------------


class Ok(Struct, Generic[ReplyT], frozen=True, array_like=True, tag="ok"):
    """A reply."""

    value: ReplyT


OK_BEGINS = msgspec.msgpack.encode(Ok(None))[:-1]
"""The bytes that every reply which is no error begins with, told without decoding the rest."""


class Failure(Struct, frozen=True, array_like=True, tag="error"):
    """An error reply."""

    code: str
    message: str
    data: dict[str, Any] = {}


def _operations(base: type[Request[Any]]) -> list[type[Request[Any]]]:
    families = (Request, Read, Write, Admin, Control)
    found = [] if base in families else [base]
    for derived in base.__subclasses__():
        found += _operations(derived)
    return found


OPERATIONS: dict[str, type[Request[Any]]] = {
    operation_name(operation.__name__): operation for operation in _operations(Request)
}
"""Every operation by its name on the wire."""


@cache
def reply_type(operation: type[Request[Any]]) -> Any:
    """The type that the answer to this operation holds."""
    (declared,) = get_args(operation.__orig_bases__[0])  # type: ignore[attr-defined] # set by typing for each class with a parametrised base
    return declared


_encoder = msgspec.msgpack.Encoder()
_RequestId = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
_envelope_decoder = msgspec.msgpack.Decoder(tuple[_RequestId, msgspec.Raw])
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are no msgpack, no UTF-8, or nested too deeply."""


@cache
def _request_decoder() -> msgspec.msgpack.Decoder[Any]:
    # Made on first use: clients decode no requests, and it takes as long as all of the Structs.
    return msgspec.msgpack.Decoder(
        Union[tuple(OPERATIONS.values())]  # noqa: UP007 # a union of a computed list has no other form
    )


_reply_decoders: dict[type[Request[Any]], msgspec.msgpack.Decoder[Any]] = {
    # Made here and not on first use: that may be by several threads at once, and msgspec lets one
    # of them decode by what another has made only half of, which ends the process.
    operation: msgspec.msgpack.Decoder(Ok[reply_type(operation)] | Failure)  # type: ignore[misc] # a type known only at run time
    for operation in OPERATIONS.values()
}


def _encode(body: Any) -> bytes:
    try:
        return _encoder.encode(body)
    except UNENCODABLE as error:
        raise explain_unencodable(error, body[1]) from error


def encode_request(request_id: int, request: Request[Any]) -> bytes:
    """The body for a request. Raises InvalidRequest for a value that cannot be encoded."""
    return _encode((request_id, request))


def encode_reply(request_id: int, reply: Any) -> bytes:
    """The body for a reply."""
    return _encode((request_id, Ok(reply)))


def encode_part(part: Any) -> msgspec.Raw:
    """A part of a reply, encoded ahead so that its size is known; put it where the part goes."""
    return msgspec.Raw(_encode(part))


def encode_error(request_id: int, error: JobkeepError) -> bytes:
    """The body for an error."""
    return _encode((request_id, Failure(error.code, str(error), error.data)))


def open_envelope(body: bytes) -> tuple[int, msgspec.Raw]:
    """The request id of a body, which fits in 63 bits, and what it holds, still encoded.

    Raises ProtocolError: without an id there is nobody to answer.
    """
    try:
        return _envelope_decoder.decode(body)
    except _UNDECODABLE as error:
        raise ProtocolError(f"a frame holds no [request_id, message]: {error}") from error


def decode_request(message: bytes | msgspec.Raw) -> Request[Any]:
    """The request of an envelope.

    Raises InvalidRequest with the operation, the field, the value and what is allowed, and
    LimitExceeded for what would take too much memory (see `weight`).
    """
    check_weight(memoryview(message))
    try:
        request: Request[Any] = _request_decoder().decode(message)
    except _UNDECODABLE as error:
        raise InvalidRequest(explain_request(error, message, OPERATIONS)) from error
    return request


def decode_reply(operation: type[Request[ReplyT]], message: bytes | msgspec.Raw) -> ReplyT:
    """What the daemon answered.

    Raises the error of an error reply, and ProtocolError for what is no reply to `operation`.
    """
    try:
        answer = _reply_decoders[operation].decode(message)
    except _UNDECODABLE as error:
        raise ProtocolError(
            f"the daemon's reply to {operation_name(operation.__name__)} cannot be read: "
            f"{in_one_line(error)}; is it another version?"
        ) from error
    if isinstance(answer, Failure):
        raise error_from_wire(answer.code, answer.message, answer.data)
    value: ReplyT = answer.value
    return value
