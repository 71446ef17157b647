"""Every operation, declared once.

What lives here: one frozen Struct an operation, with its fields, its reply type and who may do it;
and the replies. Dispatch in the daemon, both clients, both dialects, authorisation and what
`jobkeep introspect` tells follow from the declaration: a class that derives from a family of
`request`. What may not: sockets, frames, SQL, and how a message is encoded (that is `codec`).

Request ids are the client's, and for writes they are also the key under which the daemon applies a
request once. An id is `sequence * SLOTS + slot`. A client has at most one request outstanding in
each slot and only ever sends growing ids in it, so the daemon needs to keep no more than the last
reply of each slot to answer a request that is sent again (the scheme of NFSv4.1 sessions, RFC 8881
section 2.10.6). The client is known by the random `client_id` of its hello, over any number of
connections.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from jobkeep_protocol.backend import ExecutionRecord, JobStatistics, JobSummary
from jobkeep_protocol.request import Admin, Control, Read, Role, Stream, Write
from jobkeep_protocol.states import (
    CheckpointFields,
    CheckpointState,
    JobStatus,
    SheetFields,
    SheetState,
    SheetStatus,
)

PROTOCOL_VERSION = 1
OLDEST_PROTOCOL_VERSION = 1

SLOTS = 64
"""Requests one client may have outstanding; see the module's docstring."""

HELLO_ID = 0
"""The request id of a hello, which is the first frame each way."""


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


# -- looking inside -------------------------------------------------------------------------------


class OperationFigures(Struct, frozen=True):
    """How often an operation was asked for since the daemon started, and how long it took."""

    requests: int
    errors: int
    p50_seconds: float
    p95_seconds: float
    p99_seconds: float
    max_seconds: float


class Worry(Struct, frozen=True):
    """Something that is not as it should be, and what to do."""

    what: str
    advice: str


class DaemonStatus(Struct, frozen=True):
    """What `jobkeep status` shows. Sizes in bytes; counts since the daemon started."""

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
    last_checkpoint_at: datetime | None = None
    """When the log was last moved into the file; null before the first time."""
    queued_writes: int = 0
    queued_bytes: int = 0
    writes_per_second: float = 0.0
    """Over the last ten seconds, as the next one."""
    commits_per_second: float = 0.0
    requests: int = 0
    operations: dict[str, OperationFigures] = {}
    errors: dict[str, int] = {}
    """How often each code was answered."""
    limits_reached: dict[str, int] = {}
    """How often each limit was reached."""
    worries: list[Worry] = []


class Status(Read[DaemonStatus], frozen=True):
    """How the daemon is."""


Dialect = Literal["binary", "json"]


class ServedRequest(Struct, frozen=True, omit_defaults=True):
    """One request that was answered: who asked for what, and where its time went.

    `queue_seconds` is how long it waited for its turn, `commit_seconds` how long its transaction
    took (0 for a read), `reply_seconds` all else: looking up, encoding, handing to the socket.
    """

    sequence: int
    at: datetime
    """When it was received."""
    connection_id: int
    pid: int
    uid: int
    command: str
    dialect: Dialect
    operation: str
    bytes_in: int
    bytes_out: int
    duration_seconds: float
    queue_seconds: float
    commit_seconds: float
    reply_seconds: float
    job_id: str | None = None
    sheet_num: int | None = None
    error: str | None = None
    """The code of the error that it was answered with."""
    request: str | None = None
    """What was asked, as JSON, cut; only for those who asked for payloads, as the next one."""
    reply: str | None = None


class MonitorPage(Struct, frozen=True, array_like=True):
    """Requests that were answered, in that order; and how many are not kept that came between."""

    requests: list[ServedRequest]
    next: int
    missed: int = 0


class Monitor(Stream[MonitorPage], frozen=True):
    """Requests as they are answered, all or those that pass every filter.

    `methods` are operations; `client` is a pid, or the name of a command; `payloads` is how many
    characters of each request and reply to give, and more than 0 is for administrators.
    """

    methods: list[str] = field(default_factory=list)
    job_id: str | None = None
    client: str | None = None
    errors_only: bool = False
    slower_than_seconds: float = 0.0
    payloads: int = 0
    after: int | None = None
    wait_seconds: float = 30.0

    @property
    def role_needed(self) -> Role:
        return "admin" if self.payloads else self.role


class SlowLog(Read[list[ServedRequest]], frozen=True):
    """The slowest requests since the daemon started, the slowest first."""

    limit: int = 100


class ConnectedClient(Struct, frozen=True):
    """One connection. Times in seconds, sizes in bytes."""

    connection_id: int
    pid: int
    uid: int
    gid: int
    command: str
    role: Role
    dialect: Dialect | None
    """Null until it has said something."""
    name: str
    version: str
    connected_seconds: float
    idle_seconds: float
    requests: int
    in_flight: int
    bytes_in: int
    bytes_out: int
    last_operation: str | None
    claims: int
    """The sheets that its process holds."""
    unsent_bytes: int
    """Replies that it has not taken."""


class ListClients(Read[list[ConnectedClient]], frozen=True):
    """Every connection, the oldest first."""


class KillClient(Control[bool], frozen=True):
    """End a connection without answering what is under way on it; false when there is none of this
    id. What was begun is done all the same."""

    connection_id: int


# -- what happens ---------------------------------------------------------------------------------


EventKind = Literal["job", "sheet", "execution", "zombie", "deleted", "missed"]


class Event(Struct, frozen=True, omit_defaults=True, gc=False):
    """Something that was committed; `sequence` grows by 1 from each to the next.

    - `job`: a job was saved, or its status changed;
    - `sheet`: a sheet was saved, or its status changed;
    - `execution`: an attempt was recorded;
    - `zombie`: a process is gone, and the job that it ran is paused, or the sheet that it had
      claimed is pending again;
    - `deleted`: a job was deleted, or a sheet by a save without it;
    - `missed`: something is not told one by one: it is not kept any more, or was too much, or was
      done by another program; `message` says more.
    """

    sequence: int
    at: datetime
    kind: EventKind
    job_id: str | None = None
    job_status: JobStatus | None = None
    revision: int | None = None
    last_completed_sheet: int | None = None
    total_sheets: int | None = None
    sheet_num: int | None = None
    sheet_status: SheetStatus | None = None
    execution_id: int | None = None
    attempt_num: int | None = None
    exit_code: int | None = None
    duration_seconds: float | None = None
    message: str | None = None
    """The message of an error, or why; cut when it is long."""


class EventsPage(Struct, frozen=True, array_like=True):
    """Some events, in the order of their commits."""

    events: list[Event]
    next: int


class Watch(Stream[EventsPage], frozen=True):
    """What happens to one job, or to all.

    `after` is the sequence of the last event that was seen; 0 is before all that are kept.
    """

    job_id: str | None = None
    after: int | None = None
    wait_seconds: float = 30.0


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

    def following(self, reply: Any) -> ReadBackup | None:
        return ReadBackup(self.backup_id, self.offset + len(reply.data)) if reply.more else None


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

    def following(self, reply: Any) -> Load | None:
        if reply is None or not reply.more:
            return None
        last = reply.sheets[-1].sheet_num if reply.sheets else self.after_sheet
        return Load(self.job_id, last or 0)  # null would be the first page again


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
    removed: list[int] = field(default_factory=list)
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

    def following(self, reply: Any) -> ListJobs | None:
        return None if reply.next is None else ListJobs(reply.next)


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

    def following(self, reply: Any) -> QueryJobs | None:
        if not reply.more:
            return None
        last = reply.jobs[-1]
        return replace(
            self,
            limit=self.limit - len(reply.jobs),
            after_id=last["id"],
            after_updated_at=last["updated_at"],
        )


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

    def following(self, reply: Any) -> GetExecutionHistory | None:
        if not reply.more:
            return None
        return replace(
            self,
            limit=self.limit - len(reply.records),
            before_id=reply.records[-1]["id"],
        )


class GetExecutionHistoryCount(Read[int], frozen=True):
    """How many attempts are kept of a job, or of one sheet."""

    job_id: str
    sheet_num: int | None = None
