"""The reports, computed without any SQL: by looking at every sheet and every attempt.

What lives here: what the data of a test is, read through the backend, and one plain function for
each report. What may not: anything of the store's own reports.
"""

from __future__ import annotations

import fnmatch
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from jobkeep_protocol.backend import ExecutionRecord, StateBackend
from jobkeep_protocol.reports import (
    Durations,
    ErrorGroup,
    Errors,
    FailureExample,
    JobDurations,
    OutcomeFigures,
    Outcomes,
    Overview,
    RuleFigures,
    SheetDurations,
    SlowExecution,
    Timeline,
    TimelineBucket,
    Validations,
)
from jobkeep_protocol.states import CheckpointState, SheetState


@dataclass(frozen=True)
class Failure:
    """An attempt that failed, as it was told."""

    job_id: str
    sheet_num: int
    attempt_num: int
    alike: tuple[str | None, str | None, int | None, int | None]
    failed_at: datetime
    message: str | None


@dataclass(frozen=True)
class Filters:
    """What a report is asked about."""

    job_id: str | None = None
    name: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def has(self, moment: datetime | None) -> bool:
        """Whether a moment is in the time asked for; none is when all times are."""
        if moment is None:
            return self.since is None and self.until is None
        return not (self.since and moment < self.since) and not (
            self.until and moment >= self.until
        )


@dataclass
class Kept:
    """All that a backend keeps; the failures as they were told to it."""

    states: dict[str, CheckpointState] = field(default_factory=dict)
    records: list[ExecutionRecord] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @classmethod
    async def read(cls, backend: StateBackend[CheckpointState], failures: list[Failure]) -> Kept:
        """All jobs with their history."""
        kept = cls(failures=failures)
        for state in await backend.list_jobs():
            kept.states[state.job_id] = state
            kept.records += await backend.get_execution_history(state.job_id, limit=10_000)
        return kept

    def jobs(self, filters: Filters) -> list[CheckpointState]:
        """The jobs asked for, whenever they were updated."""
        return [
            state
            for state in self.states.values()
            if filters.job_id in {None, state.job_id}
            and (filters.name is None or fnmatch.fnmatchcase(state.job_name, filters.name))
        ]

    def sheets(self, filters: Filters) -> Iterator[tuple[CheckpointState, SheetState]]:
        """The sheets asked for, each with its job."""
        for state in self.jobs(filters):
            if filters.since is None or state.updated_at >= filters.since:
                for sheet in state.sheets.values():
                    if filters.has(ended_at(state, sheet)):
                        yield state, sheet

    def executions(self, filters: Filters) -> list[ExecutionRecord]:
        """The attempts asked for."""
        ids = {state.job_id for state in self.jobs(filters)}
        return [
            record
            for record in self.records
            if record["job_id"] in ids and filters.has(executed_at(record))
        ]

    def failed(self, filters: Filters) -> list[Failure]:
        """The failures asked for, in the order in which they were told."""
        ids = {state.job_id for state in self.jobs(filters)}
        return [one for one in self.failures if one.job_id in ids and filters.has(one.failed_at)]


def ended_at(state: CheckpointState, sheet: SheetState) -> datetime | None:
    """A sheet that failed or was skipped without a time ended when its job was updated."""
    if sheet.completed_at is None and sheet.status in {"failed", "skipped"}:
        return state.updated_at
    return sheet.completed_at


def executed_at(record: ExecutionRecord) -> datetime:
    return datetime.fromisoformat(record["executed_at"])


def percent(part: int, whole: int) -> float | None:
    return 100.0 * part / whole if whole else None


def overview(kept: Kept, filters: Filters, now: datetime) -> Overview:
    jobs = [state for state in kept.jobs(filters) if filters.has(state.updated_at)]
    by_status = Counter(str(state.status) for state in jobs)
    sheets = (
        [*((state, one) for state in kept.jobs(filters) for one in state.sheets.values())]
        if filters.since is filters.until is None
        else [*kept.sheets(filters)]
    )
    by_end = Counter(
        str(sheet.status) for state, sheet in sheets if sheet.sheet_num <= state.total_sheets
    )
    executions = kept.executions(filters)
    codes = [one["exit_code"] for one in executions if one["exit_code"] is not None]
    begin = filters.since or min((state.created_at for state in jobs), default=None)
    end = max((state.updated_at for state in jobs), default=None)
    if filters.since or filters.until:
        end = min(filters.until or now, now)
    seconds = max(0.0, (end - begin).total_seconds()) if begin and end else 0.0
    completed, failed = by_end["completed"], by_end["failed"]
    return Overview(
        jobs=dict(by_status),
        job_success_rate=percent(
            by_status["completed"],
            by_status["completed"] + by_status["failed"] + by_status["cancelled"],
        ),
        sheets_total=sum(state.total_sheets for state in jobs),
        sheets_completed=completed,
        sheets_failed=failed,
        sheets_skipped=by_end["skipped"],
        sheet_success_rate=percent(completed, completed + failed),
        span_seconds=seconds,
        sheets_per_hour=completed / seconds * 3600 if seconds else None,
        executions=len(executions),
        executions_successful=codes.count(0),
        execution_success_rate=percent(codes.count(0), len(codes)),
        failures=len(kept.failed(filters)),
        retries=sum(state.total_retry_count for state in jobs),
        input_tokens=sum(sheet.input_tokens or 0 for _, sheet in sheets),
        output_tokens=sum(sheet.output_tokens or 0 for _, sheet in sheets),
        estimated_cost=sum((sheet.estimated_cost or 0.0 for _, sheet in sheets), 0.0),
    )


def figures(durations: Iterable[float]) -> dict[str, Any]:
    """Those of DurationFigures."""
    ordered = sorted(durations)

    def at(percentage: int) -> float | None:
        return ordered[math.ceil(percentage / 100 * len(ordered)) - 1] if ordered else None

    return {
        "executions": len(ordered),
        "total_seconds": sum(ordered, 0.0),
        "mean_seconds": sum(ordered) / len(ordered) if ordered else None,
        "p50_seconds": at(50),
        "p95_seconds": at(95),
        "p99_seconds": at(99),
        "max_seconds": ordered[-1] if ordered else None,
    }


def durations(kept: Kept, filters: Filters, limit: int) -> Durations:
    timed = [one for one in kept.executions(filters) if one["duration_seconds"] is not None]
    by_job: dict[str, list[float]] = defaultdict(list)
    by_sheet: dict[int, list[float]] = defaultdict(list)
    for record in timed:
        by_job[record["job_id"]].append(seconds_of(record))
        by_sheet[record["sheet_num"]].append(seconds_of(record))
    slowest = sorted(timed, key=lambda one: (-seconds_of(one), one["id"]))[:limit]
    return Durations(
        **figures(map(seconds_of, timed)),
        jobs=[JobDurations(**figures(by_job[one]), job_id=one) for one in most(by_job)[:limit]],
        sheets=[
            SheetDurations(**figures(by_sheet[one]), sheet_num=one)
            for one in most(by_sheet)[:limit]
            if filters.job_id is not None
        ],
        slowest=[
            SlowExecution(
                one["id"],
                one["job_id"],
                one["sheet_num"],
                one["attempt_num"],
                executed_at(one),
                one["exit_code"],
                seconds_of(one),
            )
            for one in slowest
        ],
    )


def seconds_of(record: ExecutionRecord) -> float:
    assert record["duration_seconds"] is not None
    return record["duration_seconds"]


def most(groups: dict[Any, list[float]]) -> list[Any]:
    """Their keys, those with the largest sum first."""
    return sorted(groups, key=lambda one: (-sum(groups[one]), one))


def errors(kept: Kept, filters: Filters, limit: int) -> Errors:
    failures = kept.failed(filters)
    groups: dict[Any, list[Failure]] = defaultdict(list)
    for one in failures:
        groups[one.alike].append(one)
    order = sorted(
        groups.values(), key=lambda group: (len(group), failures.index(group[-1])), reverse=True
    )
    return Errors(len(failures), [error_group(group) for group in order[:limit]])


def error_group(group: list[Failure]) -> ErrorGroup:
    newest = group[-1]
    category, code, exit_code, signal = newest.alike
    return ErrorGroup(
        *(category, code, exit_code, signal),
        failures=len(group),
        jobs=len({one.job_id for one in group}),
        first_failed_at=min(one.failed_at for one in group),
        last_failed_at=max(one.failed_at for one in group),
        example=FailureExample(
            newest.job_id,
            newest.sheet_num,
            newest.attempt_num,
            newest.failed_at,
            newest.message,
        ),
    )


def validations(kept: Kept, filters: Filters, limit: int) -> Validations:
    passed: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for _, sheet in kept.sheets(filters):
        passed.update(sheet.passed_validations or [])
        failed.update(sheet.failed_validations or [])
    rules = [
        RuleFigures(rule, passed[rule], failed[rule], 100.0 * passed[rule] / total)
        for rule in passed.keys() | failed.keys()
        for total in [passed[rule] + failed[rule]]
    ]
    rules.sort(key=lambda one: (-one.failed, -one.passed, one.rule))
    return Validations(passed.total(), failed.total(), rules[:limit])


def outcomes(kept: Kept, filters: Filters, limit: int) -> Outcomes:
    groups: dict[str, list[SheetState]] = defaultdict(list)
    for _, sheet in kept.sheets(filters):
        if sheet.outcome_category or sheet.success_without_retry:
            groups[sheet.outcome_category or ""].append(sheet)
    found = [
        OutcomeFigures(
            category or None,
            len(sheets),
            sum(one.status == "completed" for one in sheets),
            sum(one.status == "failed" for one in sheets),
            sum(one.success_without_retry for one in sheets),
        )
        for category, sheets in groups.items()
    ]
    found.sort(key=lambda one: (-one.sheets, one.outcome_category or ""))
    return Outcomes(
        sum(one.sheets for one in found), sum(one.without_retry for one in found), found[:limit]
    )


def timeline(kept: Kept, filters: Filters, by: str) -> Timeline:
    begin_of = begin_of_hour if by == "hour" else begin_of_day
    step = timedelta(hours=1) if by == "hour" else timedelta(days=1)
    executions: dict[datetime, list[ExecutionRecord]] = defaultdict(list)
    for record in kept.executions(filters):
        executions[begin_of(executed_at(record))].append(record)
    ends: Counter[tuple[datetime, str]] = Counter()
    for state, sheet in kept.sheets(filters):
        is_counted = sheet.sheet_num <= state.total_sheets
        ended = ended_at(state, sheet)
        if ended and is_counted and sheet.status in {"completed", "failed"}:
            ends[begin_of(ended), str(sheet.status)] += 1
    for state in kept.jobs(filters):
        updated = filters.since is None or state.updated_at >= filters.since
        is_completed = state.status == "completed" and filters.has(state.completed_at)
        if is_completed and state.completed_at and updated:
            ends[begin_of(state.completed_at), "job"] += 1
    happened = executions.keys() | {moment for moment, _ in ends}
    moment = begin_of(filters.since) if filters.since else min(happened, default=None)
    last = max(happened, default=moment)
    if filters.until:
        last = filters.until - timedelta(microseconds=1)
    buckets = []
    while moment and last and moment <= last:
        buckets.append(bucket(moment, executions[moment], ends))
        moment += step
    return Timeline(by, buckets)  # type: ignore[arg-type] # one of the two


def bucket(
    start: datetime, records: list[ExecutionRecord], ends: Counter[tuple[datetime, str]]
) -> TimelineBucket:
    codes = [one["exit_code"] for one in records if one["exit_code"] is not None]
    timed = [seconds for one in records if (seconds := one["duration_seconds"]) is not None]
    return TimelineBucket(
        start=start,
        executions=len(records),
        successful=codes.count(0),
        failed=len(codes) - codes.count(0),
        mean_seconds=sum(timed) / len(timed) if timed else None,
        sheets_completed=ends[start, "completed"],
        sheets_failed=ends[start, "failed"],
        jobs_completed=ends[start, "job"],
    )


def begin_of_hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def begin_of_day(moment: datetime) -> datetime:
    return begin_of_hour(moment).replace(hour=0)
