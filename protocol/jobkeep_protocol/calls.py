"""Each method of a backend as a conversation: requests go out, replies come in.

What lives here: one generator a method. It yields requests, is sent the reply to each, and returns
what the method gives; paging, falling back to the whole state, and turning replies into results
are written once, here. What may not: I/O, waiting, retrying. The faces (the embedded backend, the
asynchronous client and the blocking one) run these with `run` and `run_blocking`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager
from datetime import datetime
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
from jobkeep_protocol.errors import StorageError
from jobkeep_protocol.messages import (
    ClaimNextSheet,
    Delete,
    GetExecutionHistory,
    GetExecutionHistoryCount,
    GetJobStatistics,
    GetNextSheet,
    ListJobs,
    Load,
    Loaded,
    MarkSheetStatus,
    QueryJobs,
    Saved,
    SaveSheet,
)
from jobkeep_protocol.request import Request
from jobkeep_protocol.states import (
    CheckpointState,
    JobStatus,
    SheetState,
    SheetStatus,
    trusted_state,
)
from jobkeep_protocol.values import check_integer, member, refused

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


def _position(after: JobSummary | str | None) -> tuple[str | None, str | None]:
    if after is None or isinstance(after, str):
        return after, None
    try:
        return after["id"], after["updated_at"]
    except (TypeError, KeyError):
        raise refused("after", after, "a summary that query_jobs gave, or a job id") from None
