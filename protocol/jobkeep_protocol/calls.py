"""Each method of a backend as a conversation: requests go out, replies come in.

What lives here: one generator a method. It yields requests, is sent the reply to each, and returns
what the method gives; paging, falling back to the whole state, and turning replies into results
are written once, here. What may not: I/O, waiting, retrying. The faces (the embedded backend, the
asynchronous client and the blocking one) run these with `run` and `run_blocking`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, TypeAlias, TypeVar

from jobkeep_protocol.backend import ExecutionRecord, JobStatistics, JobSummary
from jobkeep_protocol.changes import (
    SeenJobs,
    changed,
    encode_sheets,
    whole,
    without_sheets,
)
from jobkeep_protocol.errors import InvalidRequest, StorageError
from jobkeep_protocol.learning import LearnedPattern, SimilarOutcome
from jobkeep_protocol.messages import (
    ClaimNextSheet,
    Delete,
    FindSimilarOutcomes,
    GetExecutionHistory,
    GetExecutionHistoryCount,
    GetJobStatistics,
    GetLearnedPatterns,
    GetNextSheet,
    ListJobs,
    Load,
    Loaded,
    MarkSheetStatus,
    PreviewPrune,
    Prune,
    QueryJobs,
    Saved,
    SaveSheet,
    SearchExecutions,
    Shrink,
)
from jobkeep_protocol.pruning import MAX_JOBS_LISTED, PrunedJob, PruneResult
from jobkeep_protocol.request import Request
from jobkeep_protocol.search import SearchHit, SearchPage
from jobkeep_protocol.states import (
    CheckpointState,
    JobStatus,
    SheetState,
    SheetStatus,
    trusted_state,
    utc_now,
)
from jobkeep_protocol.values import check_integer, check_number, member, refused

LOAD_ATTEMPTS = 10
"""How often a state that changes while its pages are read is begun anew."""

T = TypeVar("T")
Call: TypeAlias = Generator[Request[Any], Any, T]


def ask(request: Request[T]) -> Call[T]:
    """Send one request; gives its reply."""
    reply: T = yield request
    return reply


async def run(call: Call[T], exchange: Callable[[Request[Any]], Awaitable[Any]]) -> T:
    """Run a call to its end; `exchange` sends a request and gives the reply."""
    try:
        request = next(call)
        while True:
            request = call.send(await exchange(request))
    except StopIteration as end:
        result: T = end.value
        return result


def run_blocking(
    call: Call[T], exchange: Callable[[Request[Any]], Any], lock: AbstractContextManager[Any]
) -> T:
    """The same, blocking. A call's own steps, which may share what was seen, hold `lock`."""
    try:
        with lock:
            request = next(call)
        while True:
            reply = exchange(request)
            with lock:
                request = call.send(reply)
    except StopIteration as end:
        result: T = end.value
        return result


def load(job_id: str, seen: SeenJobs | None = None) -> Call[CheckpointState | None]:
    """`StateBackend.load`: the pages of the sheets are put together, and kept in mind."""
    loaded = yield from _load(job_id)
    if loaded is None:
        return None
    sequence, state = loaded
    if seen is not None:
        seen.put_loaded(sequence, state)
    return state


def _load(job_id: str) -> Call[tuple[int, CheckpointState] | None]:
    """A state and its sequence."""
    for _ in range(LOAD_ATTEMPTS):
        page = yield from ask(Load(job_id))
        if page is None:
            return None
        state = yield from _with_further_pages(page)
        if state is not None:
            return page.sequence, state
    raise StorageError(
        f"job {job_id!r} is so large that it is read in several pages, and changed each of "
        f"{LOAD_ATTEMPTS} times before the last of them was read; try again when less is going on"
    )


def _with_further_pages(page: Loaded) -> Call[CheckpointState | None]:
    """The state that begins with `page`; None when it changed before all of it was read."""
    assert page.state is not None, "the first page has the job"
    sequence = page.sequence
    state = trusted_state(page.state, page.sheets)
    request = Load(state.job_id).following(page)
    while request is not None:
        following = yield from ask(request)
        if following is None or following.sequence != sequence:
            return None
        state = trusted_state(state, following.sheets)
        request = request.following(following)
    return state


def save(state: CheckpointState, seen: SeenJobs, if_revision: int | None = None) -> Call[Saved]:
    """`StateBackend.save`: what changed since `seen`, or all of it when the daemon moved on."""
    job, before = without_sheets(state), seen.get(state.job_id)
    sheets = encode_sheets(state, before)  # both at once: the caller may change the state meanwhile
    saved: Saved | None = None
    if before is not None:
        saved = yield from ask(changed(job, sheets, before, if_revision))
    if saved is None:
        saved = yield from ask(whole(job, sheets, if_revision))
    assert saved is not None, "a whole state needs no base"
    seen.put(state.job_id, saved.sequence, sheets)
    return saved


def save_if_unmoved(
    state: CheckpointState, seen: SeenJobs, if_revision: int | None = None
) -> Call[Saved | None]:
    """What changed since `seen`; None, and nothing is written, when the daemon moved on."""
    before = seen.get(state.job_id)
    if before is None:
        return None
    job, sheets = without_sheets(state), encode_sheets(state, before)
    saved = yield from ask(changed(job, sheets, before, if_revision))
    if saved is not None:
        seen.put(state.job_id, saved.sequence, sheets)
    return saved


def delete(job_id: str) -> Call[bool]:
    """`StateBackend.delete`."""
    return (yield from ask(Delete(job_id)))


def list_jobs() -> Call[list[CheckpointState]]:
    """`StateBackend.list_jobs`: all pages, last updated first."""
    found: dict[str, tuple[int, CheckpointState]] = {}
    request: ListJobs | None = ListJobs()
    while request is not None:
        page = yield from ask(request)
        for one in page.states:
            assert one.state is not None, "each job comes with its first page"
            job_id = one.state.job_id
            state = yield from _with_further_pages(one)
            loaded = (one.sequence, state) if state is not None else (yield from _load(job_id))
            if loaded is not None:
                found[job_id] = loaded
        request = request.following(page)
    last_first = sorted(found.values(), key=itemgetter(0), reverse=True)
    return [state for _, state in last_first]


def get_next_sheet(job_id: str) -> Call[int | None]:
    """`StateBackend.get_next_sheet`."""
    return (yield from ask(GetNextSheet(job_id)))


def mark_sheet_status(
    job_id: str, sheet_num: int, status: str, error_message: str | None = None
) -> Call[None]:
    """`StateBackend.mark_sheet_status`."""
    known = member(SheetStatus, "status", status)
    yield from ask(MarkSheetStatus(job_id, sheet_num, known, error_message))


def save_sheet(job_id: str, sheet: SheetState) -> Call[int]:
    """`StateBackend.save_sheet`."""
    sheet.check()
    return (yield from ask(SaveSheet(job_id, sheet)))


def claim_next_sheet(job_id: str, max_attempts: int = 1) -> Call[int | None]:
    """`StateBackend.claim_next_sheet`."""
    return (yield from ask(ClaimNextSheet(job_id, max_attempts)))


def get_execution_history(
    job_id: str,
    sheet_num: int | None = None,
    limit: int = 100,
    before_id: int | None = None,
) -> Call[list[ExecutionRecord]]:
    """`StateBackend.get_execution_history`: pages until there are `limit` records, or no more."""
    check_integer("limit", limit, 0)
    records: list[ExecutionRecord] = []
    request: GetExecutionHistory | None
    request = GetExecutionHistory(job_id, sheet_num, limit, before_id)
    while request is not None:
        page = yield from ask(request)
        records += page.records
        request = request.following(page)
    return records


def get_execution_history_count(job_id: str, sheet_num: int | None = None) -> Call[int]:
    """`StateBackend.get_execution_history_count`."""
    return (yield from ask(GetExecutionHistoryCount(job_id, sheet_num)))


def get_job_statistics(job_id: str) -> Call[JobStatistics]:
    """`StateBackend.get_job_statistics`."""
    statistics = yield from ask(GetJobStatistics(job_id))
    return {} if statistics is None else statistics


def query_jobs(
    status: str | None = None,
    since: datetime | None = None,
    limit: int = 50,
    after: JobSummary | str | None = None,
) -> Call[list[JobSummary]]:
    """`StateBackend.query_jobs`: pages until there are `limit` summaries, or no more."""
    check_integer("limit", limit, 0)
    known = None if status is None else member(JobStatus, "status", status)
    jobs: list[JobSummary] = []
    request: QueryJobs | None = QueryJobs(known, since, limit, *_position(after))
    while request is not None:
        page = yield from ask(request)
        jobs += page.jobs
        request = request.following(page)
    return jobs


def get_learned_patterns(
    pattern: str | None = None, min_sheets: int = 1, limit: int = 100
) -> Call[list[LearnedPattern]]:
    """`StateBackend.get_learned_patterns`: pages until there are `limit`, or no more."""
    check_integer("limit", limit, 0)
    patterns: list[LearnedPattern] = []
    request: GetLearnedPatterns | None = GetLearnedPatterns(pattern, min_sheets, limit)
    while request is not None:
        page = yield from ask(request)
        patterns += page.patterns
        request = request.following(page)
    return patterns


def find_similar_outcomes(
    error_category: str | None = None,
    error_code: str | None = None,
    exit_code: int | None = None,
    text: str | None = None,
    limit: int = 20,
) -> Call[list[SimilarOutcome]]:
    """`StateBackend.find_similar_outcomes`."""
    check_integer("limit", limit, 0)
    request = FindSimilarOutcomes(error_category, error_code, exit_code, text, limit)
    return (yield from ask(request))


def search_executions(
    query: str, job_id: str | None = None, limit: int = 20, after: SearchHit | None = None
) -> Call[SearchPage]:
    """`StateBackend.search_executions`: pages until there are `limit` hits, or no more."""
    check_integer("limit", limit, 0)
    place: tuple[Any, ...] = ()
    if after is not None:
        if not isinstance(after, SearchHit):
            raise refused("after", after, "a hit that search_executions gave")
        place = (after.rank, after.execution_id, after.failure_id)
    hits: list[SearchHit] = []
    request: SearchExecutions | None = SearchExecutions(query, job_id, limit, *place)
    while request is not None:
        page = yield from ask(request)
        hits += page.hits
        request = request.following(page)
    return SearchPage(hits, page.complete, page.more)


class Pruned:
    """How far pruning has come. Mutable: whoever interrupts it can say so."""

    def __init__(self) -> None:
        self.jobs = 0
        self.attempts = 0
        self.failures = 0
        self.bytes = 0
        self.freed_bytes = 0
        self.listed: list[PrunedJob] = []

    def result(self) -> PruneResult:
        """As the method gives it."""
        return PruneResult(
            *(self.jobs, self.attempts, self.failures, self.bytes, self.freed_bytes), self.listed
        )


def prune(
    older_than: timedelta | float | None = None,
    keep_last: int | None = None,
    status: str | Iterable[str] | None = None,
    max_bytes: int | None = None,
    dry_run: bool = False,
    pruned: Pruned | None = None,
) -> Call[PruneResult]:
    """`StateBackend.prune`: for each page of the preview, batches until all of it is removed; then
    the room is given back, a little at a time. `pruned` tells meanwhile how far it has come."""
    if max_bytes is not None and older_than is not None:
        raise InvalidRequest("max_bytes is a criterion of its own: give it alone")
    so_far = Pruned() if pruned is None else pruned
    given = [status] if isinstance(status, str) else status or ()
    known = [member(JobStatus, "status", one) for one in given]
    preview: PreviewPrune | None = PreviewPrune(_before(older_than), keep_last, known, max_bytes)
    while preview is not None:
        page = yield from ask(preview)
        so_far.listed += page.jobs[: MAX_JOBS_LISTED - len(so_far.listed)]
        if dry_run:
            for one in page.jobs:
                _add(so_far, one, one.whole)
        elif page.jobs:
            yield from _prune(preview, page.before, [one.job_id for one in page.jobs], so_far)
        preview = preview.following(page)
    if not dry_run and (so_far.jobs or so_far.attempts or so_far.failures):
        yield from _shrink(so_far)
    return so_far.result()


def _prune(
    preview: PreviewPrune, before: datetime | None, job_ids: list[str], so_far: Pruned
) -> Call[None]:
    keeps_failures = preview.max_bytes is not None
    request: Prune | None
    request = Prune(job_ids, before, preview.keep_last, preview.status, not keeps_failures)
    while request is not None:
        step = yield from ask(request)
        _add(so_far, step, step.jobs)
        request = request.following(step)


def _add(so_far: Pruned, part: Any, jobs: int) -> None:
    so_far.jobs += jobs
    so_far.attempts += part.attempts
    so_far.failures += part.failures
    so_far.bytes += part.bytes


def _shrink(so_far: Pruned) -> Call[None]:
    request: Shrink | None = Shrink()
    while request is not None:
        shrunk = yield from ask(request)
        so_far.freed_bytes += shrunk.freed_bytes
        request = request.following(shrunk)


def _before(older_than: timedelta | float | None) -> datetime | None:
    """The moment that is so long ago. Raises InvalidRequest."""
    if older_than is None:
        return None
    seconds = older_than.total_seconds() if isinstance(older_than, timedelta) else older_than
    check_number("older_than", seconds, low=0)
    try:
        return utc_now() - timedelta(seconds=seconds)
    except OverflowError:
        raise refused("older_than", older_than, "an age that a date can have") from None


def _position(after: JobSummary | str | None) -> tuple[str | None, str | None]:
    if after is None or isinstance(after, str):
        return after, None
    try:
        return after["id"], after["updated_at"]
    except (TypeError, KeyError):
        raise refused("after", after, "a summary that query_jobs gave, or a job id") from None
