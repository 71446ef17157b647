"""The blocking client as an asynchronous backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import jobkeep
from jobkeep_protocol.backend import ExecutionRecord, JobStatistics, JobSummary, StateBackend
from jobkeep_protocol.learning import LearnedPattern, SimilarOutcome
from jobkeep_protocol.messages import Event
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
from jobkeep_protocol.search import SearchHit, SearchPage
from jobkeep_protocol.states import CheckpointState, SheetState


class OnThreads(StateBackend[CheckpointState]):
    """Each call on a thread."""

    def __init__(self, client: jobkeep.Client[CheckpointState]) -> None:
        self._client = client

    async def load(self, job_id: str) -> CheckpointState | None:
        return await asyncio.to_thread(self._client.load, job_id)

    async def save(self, state: CheckpointState, *, if_revision: int | None = None) -> int:
        return await asyncio.to_thread(self._client.save, state, if_revision=if_revision)

    async def delete(self, job_id: str) -> bool:
        return await asyncio.to_thread(self._client.delete, job_id)

    async def list_jobs(self) -> list[CheckpointState]:
        return await asyncio.to_thread(self._client.list_jobs)

    async def get_next_sheet(self, job_id: str) -> int | None:
        return await asyncio.to_thread(self._client.get_next_sheet, job_id)

    async def mark_sheet_status(
        self, job_id: str, sheet_num: int, status: str, error_message: str | None = None
    ) -> None:
        await asyncio.to_thread(
            self._client.mark_sheet_status, job_id, sheet_num, status, error_message
        )

    async def save_sheet(self, job_id: str, sheet: SheetState) -> int:
        return await asyncio.to_thread(self._client.save_sheet, job_id, sheet)

    async def claim_next_sheet(self, job_id: str, *, max_attempts: int = 1) -> int | None:
        return await asyncio.to_thread(
            self._client.claim_next_sheet, job_id, max_attempts=max_attempts
        )

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
        return await asyncio.to_thread(
            self._client.record_execution,
            *(job_id, sheet_num, attempt_num, prompt, output, exit_code, duration_seconds),
        )

    async def get_execution_history(
        self,
        job_id: str,
        sheet_num: int | None = None,
        limit: int = 100,
        before_id: int | None = None,
    ) -> list[ExecutionRecord]:
        return await asyncio.to_thread(
            self._client.get_execution_history, job_id, sheet_num, limit, before_id
        )

    async def get_execution_history_count(self, job_id: str, sheet_num: int | None = None) -> int:
        return await asyncio.to_thread(self._client.get_execution_history_count, job_id, sheet_num)

    async def get_job_statistics(self, job_id: str) -> JobStatistics:
        return await asyncio.to_thread(self._client.get_job_statistics, job_id)

    async def query_jobs(
        self,
        status: str | None = None,
        since: datetime | None = None,
        limit: int = 50,
        after: JobSummary | str | None = None,
    ) -> list[JobSummary]:
        return await asyncio.to_thread(self._client.query_jobs, status, since, limit, after)

    async def get_overview(
        self,
        *,
        job_id: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Overview:
        return await asyncio.to_thread(
            self._client.get_overview,
            job_id=job_id,
            name=name,
            since=since,
            until=until,
        )

    async def get_durations(
        self,
        *,
        job_id: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 20,
    ) -> Durations:
        return await asyncio.to_thread(
            self._client.get_durations,
            job_id=job_id,
            name=name,
            since=since,
            until=until,
            limit=limit,
        )

    async def get_errors(
        self,
        *,
        job_id: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 20,
    ) -> Errors:
        return await asyncio.to_thread(
            self._client.get_errors,
            job_id=job_id,
            name=name,
            since=since,
            until=until,
            limit=limit,
        )

    async def get_validations(
        self,
        *,
        job_id: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> Validations:
        return await asyncio.to_thread(
            self._client.get_validations,
            job_id=job_id,
            name=name,
            since=since,
            until=until,
            limit=limit,
        )

    async def get_outcomes(
        self,
        *,
        job_id: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> Outcomes:
        return await asyncio.to_thread(
            self._client.get_outcomes,
            job_id=job_id,
            name=name,
            since=since,
            until=until,
            limit=limit,
        )

    async def get_timeline(
        self,
        *,
        job_id: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        by: TimelineStep = "hour",
    ) -> Timeline:
        return await asyncio.to_thread(
            self._client.get_timeline,
            job_id=job_id,
            name=name,
            since=since,
            until=until,
            by=by,
        )

    async def get_learned_patterns(
        self, pattern: str | None = None, min_sheets: int = 1, limit: int = 100
    ) -> list[LearnedPattern]:
        return await asyncio.to_thread(
            self._client.get_learned_patterns, pattern, min_sheets, limit
        )

    async def find_similar_outcomes(
        self,
        error_category: str | None = None,
        error_code: str | None = None,
        exit_code: int | None = None,
        text: str | None = None,
        limit: int = 20,
    ) -> list[SimilarOutcome]:
        return await asyncio.to_thread(
            self._client.find_similar_outcomes,
            *(error_category, error_code, exit_code, text, limit),
        )

    async def search_executions(
        self,
        query: str,
        *,
        job_id: str | None = None,
        limit: int = 20,
        after: SearchHit | None = None,
    ) -> SearchPage:
        return await asyncio.to_thread(
            self._client.search_executions, query, job_id=job_id, limit=limit, after=after
        )

    async def prune(
        self,
        *,
        older_than: timedelta | float | None = None,
        keep_last: int | None = None,
        status: str | Iterable[str] | None = None,
        max_bytes: int | None = None,
        dry_run: bool = False,
    ) -> PruneResult:
        return await asyncio.to_thread(
            self._client.prune,
            older_than=older_than,
            keep_last=keep_last,
            status=status,
            max_bytes=max_bytes,
            dry_run=dry_run,
        )

    async def infer_state_from_artifacts(
        self, job_id: str, workspace: str | Path, artifact_pattern: str
    ) -> int | None:
        return await asyncio.to_thread(
            self._client.infer_state_from_artifacts, job_id, workspace, artifact_pattern
        )

    async def backup(self, path: str | Path) -> int:
        return await asyncio.to_thread(self._client.backup, path)

    def watch(self, job_id: str | None = None, *, after: int | None = None) -> AsyncIterator[Event]:
        return self._events(self._client.watch(job_id, after=after))

    async def _events(self, events: Iterator[Event]) -> AsyncIterator[Event]:
        while True:
            yield await asyncio.to_thread(next, events)

    @property
    def supports_execution_history(self) -> bool:
        return self._client.supports_execution_history

    async def close(self) -> None:
        await asyncio.to_thread(self._client.close)
