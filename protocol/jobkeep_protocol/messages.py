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
from jobkeep_protocol.learning import MAX_OUTCOMES, LearnedPattern, SimilarOutcome
from jobkeep_protocol.pruning import PrunedJob
from jobkeep_protocol.reports import (
    Durations,
    Errors,
    Outcomes,
    Overview,
    Timeline,
    TimelineStep,
    Validations,
)
from jobkeep_protocol.request import Admin, Control, Read, Role, Stream, Write
from jobkeep_protocol.search import SearchPage
from jobkeep_protocol.states import (
    CheckpointFields,
    CheckpointState,
    JobStatus,
    SheetFields,
    SheetState,
    SheetStatus,
)
from jobkeep_protocol.transfer import (
    ImportBegun,
    ImportStep,
    KeptExecution,
    KeptFailure,
    KeptHistory,
)
from jobkeep_protocol.values import refused

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


class StartExport(Control[str], frozen=True):
    """Begin a copy that has these jobs alone, with all that belongs to them; gives the id that
    ReadBackup reads it with. All jobs are a backup."""

    job_ids: list[str]


class StartImport(Control[str], frozen=True):
    """Begin to receive a database file; gives the id that it is written and imported with."""


class WriteImport(Control[int], frozen=True):
    """Some bytes of the file, from `offset` on; gives how many it has now.

    A file that nobody writes or imports for a minute is given up.
    """

    import_id: str
    offset: int
    data: bytes


class ImportJobs(Control[ImportStep], frozen=True):
    """Copy jobs from the file that was received into the database, and tell what came of each.

    The file may be of any version of the schema. Without `job_ids` all of its jobs are imported. A
    job that is kept already is skipped, unless an earlier import of it was broken off, or with
    `replace`. `after` is how many outcomes were told already. The first of these requests begins
    the import; those after it tell how far it is.
    """

    import_id: str
    job_ids: list[str] = field(default_factory=list)
    replace: bool = False
    after: int = 0

    def following(self, reply: Any) -> ImportJobs | None:
        return replace(self, after=self.after + len(reply.jobs)) if reply.more else None


class ExportHistory(Read[KeptHistory], frozen=True):
    """All that is kept of the attempts of a job: first those recorded, the oldest first, and then
    the failures of which no attempt was recorded (`unrecorded` true)."""

    job_id: str
    after: int = 0
    unrecorded: bool = False

    def following(self, reply: Any) -> ExportHistory | None:
        if reply.more:
            return replace(self, after=reply.last)
        return None if self.unrecorded else ExportHistory(self.job_id, 0, unrecorded=True)


class ImportJob(Admin[ImportBegun], frozen=True):
    """Keep a job as it was in another database, with its times and its revision; its history then
    comes with ImportHistory.

    `state` comes without its sheets, and those with it. Nobody here works on it: if it says that it
    is running, it is paused, and sheets in progress are pending. A job of this id that is kept
    already is left alone and `why` says so, unless it is the same one, whose import was broken off,
    or `replace` is true.
    """

    state: CheckpointState
    sheets: list[SheetState]
    replace: bool = False


class ImportHistory(Admin[int], frozen=True):
    """Add attempts to a job that is imported, and failures without one; gives how many attempts it
    has now. Nothing is added when it had other than `after` of them before."""

    job_id: str
    after: int
    executions: list[KeptExecution]
    failures: list[KeptFailure] = field(default_factory=list)


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


# -- reports --------------------------------------------------------------------------------------


class GetOverview(Read[Overview], frozen=True):
    """How the work goes, in one look.

    As in all reports, `job_id` is one job, `name` shell wildcards over the names of jobs, and
    only what happened at `since` or later and before `until` is counted: jobs by `updated_at`,
    sheets by `completed_at`, executions by `executed_at`, failures by `failed_at`.
    """

    job_id: str | None = None
    name: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class GetDurations(Read[Durations], frozen=True):
    """How long executions took: all, by job, by sheet, and the slowest."""

    job_id: str | None = None
    name: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 20


class GetErrors(Read[Errors], frozen=True):
    """Failures by category, code, exit code and signal, the most frequent first."""

    job_id: str | None = None
    name: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 20


class GetValidations(Read[Validations], frozen=True):
    """How often validations passed and failed, by rule."""

    job_id: str | None = None
    name: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 100


class GetOutcomes(Read[Outcomes], frozen=True):
    """How sheets came out, by outcome category."""

    job_id: str | None = None
    name: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 100


class GetTimeline(Read[Timeline], frozen=True):
    """What happened hour by hour, or day by day."""

    job_id: str | None = None
    name: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    by: TimelineStep = "hour"


# -- learning -------------------------------------------------------------------------------------


class PatternsPage(Struct, frozen=True, array_like=True):
    """Some patterns, and whether there are more of those asked for."""

    patterns: list[LearnedPattern]
    more: bool = False


class GetLearnedPatterns(Read[PatternsPage], frozen=True):
    """The patterns that sheets carry, those of most sheets first.

    `pattern` may have the wildcards of a shell: `*`, `?` and `[…]`. `after_sheets` and
    `after_pattern` are those of the last pattern of the page before.
    """

    pattern: str | None = None
    min_sheets: int = 1
    limit: int = 100
    after_sheets: int | None = None
    after_pattern: str | None = None

    def following(self, reply: Any) -> GetLearnedPatterns | None:
        if not reply.more:
            return None
        last = reply.patterns[-1]
        return replace(
            self,
            limit=self.limit - len(reply.patterns),
            after_sheets=last.sheets,
            after_pattern=last.pattern,
        )


class FindSimilarOutcomes(Read[list[SimilarOutcome]], frozen=True):
    """Earlier attempts that failed like one, and what happened next on their sheets.

    Each criterion that is given must match, and one must be given. The newest come first. With
    `text`, those whose error message has all of its words come before those that have some of them.
    `limit` is at most 1000.
    """

    error_category: str | None = None
    error_code: str | None = None
    exit_code: int | None = None
    text: str | None = None
    limit: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.limit > MAX_OUTCOMES:
            raise refused("limit", self.limit, f"an integer from 0 to {MAX_OUTCOMES}")


# -- search ---------------------------------------------------------------------------------------


class SearchExecutions(Read[SearchPage], frozen=True):
    """What matches `query` among prompts, outputs and error messages, the best first.

    All words must be there; `"these words"` beside each other, `word*` any that begins so, `-word`
    not, `this OR that` one of both. `after_rank`, with the id of the record or of the failure, is
    the last hit of the page before.
    """

    query: str
    job_id: str | None = None
    limit: int = 20
    after_rank: float | None = None
    after_execution_id: int | None = None
    after_failure_id: int | None = None

    def following(self, reply: Any) -> SearchExecutions | None:
        left = self.limit - len(reply.hits)
        if not reply.more or left <= 0:
            return None
        last = reply.hits[-1]
        return replace(
            self,
            limit=left,
            after_rank=last.rank,
            after_execution_id=last.execution_id,
            after_failure_id=last.failure_id,
        )


# -- retention ------------------------------------------------------------------------------------


class PrunePage(Struct, frozen=True, array_like=True):
    """Some jobs of which something would go, and after which job the next page begins.

    `before` is the time before which attempts go; null when none do for their age.
    """

    jobs: list[PrunedJob]
    before: datetime | None = None
    next: str | None = None


class PreviewPrune(Control[PrunePage], frozen=True):
    """What pruning would remove: a page of jobs, in the order of their ids.

    Without `status` attempts and failures from before `before`, beyond the newest `keep_last` of
    their sheet; or, with `max_bytes`, the oldest attempts until the others take no more. With
    `status` whole jobs that were last updated before `before`, beyond the newest `keep_last` of
    their status. Of a live job nothing goes. `before` with `max_bytes` is that of the page before.
    """

    before: datetime | None = None
    keep_last: int | None = None
    status: list[JobStatus] = field(default_factory=list)
    max_bytes: int | None = None
    after_job: str | None = None

    def following(self, reply: Any) -> PreviewPrune | None:
        if reply.next is None:
            return None
        return replace(self, before=reply.before, after_job=reply.next)


class PruneStep(Struct, frozen=True, array_like=True):
    """What one batch removed: whole jobs, attempts, failures, and the bytes of their texts.

    `done` is how many of the jobs asked for are done with, `after_sheet` how far the next one is:
    an earlier tool may have had a sheet 0.
    """

    jobs: int
    attempts: int
    failures: int
    bytes: int
    done: int
    after_sheet: int = -1


class Prune(Admin[PruneStep], frozen=True):
    """Remove what `preview_prune` tells of these jobs, as far as it still may go: one small batch,
    in one transaction. Without `with_failures`, failures stay."""

    job_ids: list[str]
    before: datetime | None = None
    keep_last: int | None = None
    status: list[JobStatus] = field(default_factory=list)
    with_failures: bool = True
    after_sheet: int = -1

    def following(self, reply: Any) -> Prune | None:
        left = self.job_ids[reply.done :]
        return replace(self, job_ids=left, after_sheet=reply.after_sheet) if left else None


class Shrunk(Struct, frozen=True, array_like=True):
    """By how much the file gets shorter, and whether there is more room in it that is free."""

    freed_bytes: int
    more: bool = False


class Shrink(Admin[Shrunk], frozen=True):
    """Give room that is free in the database file back to the file system, a little of it. The file
    is shorter after the next checkpoint that no reader holds up."""

    def following(self, reply: Any) -> Shrink | None:
        return self if reply.more else None
