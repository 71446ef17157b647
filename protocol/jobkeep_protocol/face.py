"""The methods of an asynchronous backend, over one way to run a call.

What lives here: `AsyncFace`, which has every method of `StateBackend` that is a call, so that the
embedded backend and the asynchronous client differ in how they exchange a request for its reply
and in nothing else; and the calls that carry states, for states of our own type. What may not: I/O.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Iterable
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from jobkeep_protocol import calls
from jobkeep_protocol.backend import (
    ExecutionRecord,
    JobStatistics,
    JobSummary,
    StateBackend,
    StateT,
)
from jobkeep_protocol.calls import Call
from jobkeep_protocol.changes import SeenJobs
from jobkeep_protocol.learning import LearnedPattern, SimilarOutcome
from jobkeep_protocol.messages import (
    Event,
    GetDurations,
    GetErrors,
    GetOutcomes,
    GetOverview,
    GetTimeline,
    GetValidations,
    RecordExecution,
)
from jobkeep_protocol.pruning import PruneResult
from jobkeep_protocol.reports import (
    Durations,
    Errors,
    Outcomes,
    Overview,
    Timeline,
    TimelineStep,
    Validations,
)
from jobkeep_protocol.request import Request
from jobkeep_protocol.search import SearchHit, SearchPage
from jobkeep_protocol.states import CheckpointState, SheetState
from jobkeep_protocol.values import refused
from jobkeep_protocol.watching import AsyncEvents

T = TypeVar("T")


class StateCalls(Protocol[StateT]):
    """The calls that states go into or come out of, in some type of state."""

    def forget(self) -> None:
        """Trust nothing that was seen: what comes next may be another database."""

    def load(self, job_id: str) -> Call[StateT | None]:
        """`StateBackend.load`."""

    def save(self, state: StateT, if_revision: int | None) -> Call[int]:
        """`StateBackend.save`."""

    def delete(self, job_id: str) -> Call[bool]:
        """`StateBackend.delete`."""

    def list_jobs(self) -> Call[list[StateT]]:
        """`StateBackend.list_jobs`."""

    def save_sheet(self, job_id: str, sheet: Any) -> Call[int]:
        """`StateBackend.save_sheet`."""


class OwnStateCalls:
    """`StateCalls` for CheckpointState; remembers what was seen."""

    def __init__(self) -> None:
        self._seen = SeenJobs()

    def forget(self) -> None:
        self._seen.clear()

    def load(self, job_id: str) -> Call[CheckpointState | None]:
        return calls.load(job_id, self._seen)

    def save(self, state: CheckpointState, if_revision: int | None) -> Call[int]:
        if type(state) is not CheckpointState:
            raise refused("state", state, "a CheckpointState")
        saved = yield from calls.save(state, self._seen, if_revision)
        state.revision, state.updated_at = saved.revision, saved.updated_at
        return saved.revision

    def delete(self, job_id: str) -> Call[bool]:
        return calls.delete(job_id)

    def list_jobs(self) -> Call[list[CheckpointState]]:
        return calls.list_jobs()

    def save_sheet(self, job_id: str, sheet: SheetState) -> Call[int]:
        if type(sheet) is not SheetState:
            raise refused("sheet", sheet, "a SheetState")
        return calls.save_sheet(job_id, sheet)


class AsyncFace(StateBackend[StateT]):
    """A state backend whose methods are calls. The contracts are those of StateBackend."""

    _states: StateCalls[StateT]

    @abstractmethod
    async def _run(self, call: Call[T]) -> T:
        """Run a call to its end."""

    @abstractmethod
    async def call(self, request: Request[T]) -> T:
        """Send one request of `jobkeep_protocol.messages` and give its reply."""

    async def load(self, job_id: str) -> StateT | None:
        return await self._run(self._states.load(job_id))

    async def save(self, state: StateT, *, if_revision: int | None = None) -> int:
        return await self._run(self._states.save(state, if_revision))

    async def delete(self, job_id: str) -> bool:
        return await self._run(self._states.delete(job_id))

    async def list_jobs(self) -> list[StateT]:
        return await self._run(self._states.list_jobs())

    async def get_next_sheet(self, job_id: str) -> int | None:
        return await self._run(calls.get_next_sheet(job_id))

    async def mark_sheet_status(
        self,
        job_id: str,
        sheet_num: int,
        status: str,
        error_message: str | None = None,
    ) -> None:
        await self._run(calls.mark_sheet_status(job_id, sheet_num, status, error_message))

    async def save_sheet(self, job_id: str, sheet: SheetState) -> int:
        return await self._run(self._states.save_sheet(job_id, sheet))

    async def claim_next_sheet(self, job_id: str, *, max_attempts: int = 1) -> int | None:
        return await self._run(calls.claim_next_sheet(job_id, max_attempts))

    async def record_execution(
        self,
        job_id: str,
        sheet_num: int,
        attempt_num: int,
        prompt: str | None = None,
        output: str | None = None,
        exit_code: int | None = None,
        duration_seconds: float | None = None,
    ) -> int | None:
        request = RecordExecution(
            job_id, sheet_num, attempt_num, prompt, output, exit_code, duration_seconds
        )
        return await self._run(calls.ask(request))

    async def get_execution_history(
        self,
        job_id: str,
        sheet_num: int | None = None,
        limit: int = 100,
        before_id: int | None = None,
    ) -> list[ExecutionRecord]:
        return await self._run(calls.get_execution_history(job_id, sheet_num, limit, before_id))

    async def get_execution_history_count(self, job_id: str, sheet_num: int | None = None) -> int:
        return await self._run(calls.get_execution_history_count(job_id, sheet_num))

    async def get_job_statistics(self, job_id: str) -> JobStatistics:
        return await self._run(calls.get_job_statistics(job_id))

    async def query_jobs(
        self,
        status: str | None = None,
        since: datetime | None = None,
        limit: int = 50,
        after: JobSummary | str | None = None,
    ) -> list[JobSummary]:
        return await self._run(calls.query_jobs(status, since, limit, after))

    async def get_overview(
        self,
        *,
        job_id: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Overview:
        return await self._run(calls.ask(GetOverview(job_id, name, since, until)))

    async def get_durations(
        self,
        *,
        job_id: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 20,
    ) -> Durations:
        return await self._run(calls.ask(GetDurations(job_id, name, since, until, limit)))

    async def get_errors(
        self,
        *,
        job_id: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 20,
    ) -> Errors:
        return await self._run(calls.ask(GetErrors(job_id, name, since, until, limit)))

    async def get_validations(
        self,
        *,
        job_id: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> Validations:
        return await self._run(calls.ask(GetValidations(job_id, name, since, until, limit)))

    async def get_outcomes(
        self,
        *,
        job_id: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> Outcomes:
        return await self._run(calls.ask(GetOutcomes(job_id, name, since, until, limit)))

    async def get_timeline(
        self,
        *,
        job_id: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        by: TimelineStep = "hour",
    ) -> Timeline:
        return await self._run(calls.ask(GetTimeline(job_id, name, since, until, by)))

    async def get_learned_patterns(
        self, pattern: str | None = None, min_sheets: int = 1, limit: int = 100
    ) -> list[LearnedPattern]:
        return await self._run(calls.get_learned_patterns(pattern, min_sheets, limit))

    async def find_similar_outcomes(
        self,
        error_category: str | None = None,
        error_code: str | None = None,
        exit_code: int | None = None,
        text: str | None = None,
        limit: int = 20,
    ) -> list[SimilarOutcome]:
        call = calls.find_similar_outcomes(error_category, error_code, exit_code, text, limit)
        return await self._run(call)

    async def search_executions(
        self,
        query: str,
        *,
        job_id: str | None = None,
        limit: int = 20,
        after: SearchHit | None = None,
    ) -> SearchPage:
        return await self._run(calls.search_executions(query, job_id, limit, after))

    async def prune(
        self,
        *,
        older_than: timedelta | float | None = None,
        keep_last: int | None = None,
        status: str | Iterable[str] | None = None,
        max_bytes: int | None = None,
        dry_run: bool = False,
    ) -> PruneResult:
        call = calls.prune(older_than, keep_last, status, max_bytes, dry_run)
        return await self._run(call)

    def watch(self, job_id: str | None = None, *, after: int | None = None) -> AsyncIterator[Event]:
        return AsyncEvents(job_id, after, self.call)

    @property
    def supports_execution_history(self) -> bool:
        return True
