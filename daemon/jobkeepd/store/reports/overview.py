"""The overview: how the work goes, in one look.

What lives here: sums over jobs, of what is kept with each, or of what happened in some time. What
may not: the other reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import aiosqlite

from jobkeep_protocol.messages import GetOverview
from jobkeep_protocol.reports import Overview
from jobkeep_protocol.states import JobStatus, utc_now
from jobkeepd.store.readers import Readers
from jobkeepd.store.reads import reads
from jobkeepd.store.reports import scope
from jobkeepd.store.reports.scope import Filters, has_times, percent, rows, utc

ENDED = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)
"""The statuses of jobs that will not go on by themselves, and have come out well or not."""


@reads(GetOverview)
async def get_overview(readers: Readers, request: GetOverview) -> Overview:
    """The kept figures of all jobs together; of some time, what is found to have happened then."""
    async with readers.snapshot() as connection:
        jobs = await _jobs(connection, request)
        sheets = await _sheets(connection, request) if has_times(request) else jobs.sheets
        executions = (
            await _executions(connection, request) if has_times(request) else jobs.executions
        )
        failures = await _failures(connection, request)
    completed, failed, skipped, input_tokens, output_tokens, cost = sheets
    tried, successful, exited = executions
    seconds = _span(request, jobs.first, jobs.last)
    return Overview(
        jobs=jobs.by_status,
        job_success_rate=percent(
            jobs.by_status.get(JobStatus.COMPLETED, 0),
            sum(jobs.by_status.get(status, 0) for status in ENDED),
        ),
        sheets_total=jobs.sheets_total,
        sheets_completed=completed,
        sheets_failed=failed,
        sheets_skipped=skipped,
        sheet_success_rate=percent(completed, completed + failed),
        span_seconds=seconds,
        sheets_per_hour=completed / seconds * 3600 if seconds else None,
        executions=tried,
        executions_successful=successful,
        execution_success_rate=percent(successful, exited),
        failures=failures,
        retries=jobs.retries,
        input_tokens=int(input_tokens),
        output_tokens=int(output_tokens),
        estimated_cost=float(cost),
    )


class _Jobs:
    """What is kept with the jobs, added up."""

    def __init__(self, by_status: list[Any]) -> None:
        self.by_status = {str(status): int(count) for status, count, *_ in by_status}
        self.first = min((row[2] for row in by_status), default=None)
        self.last = max((row[3] for row in by_status), default=None)
        sums = [sum(row[4 + place] for row in by_status) for place in range(len(_SUMS))]
        self.sheets_total, self.retries = int(sums[0]), int(sums[1])
        self.sheets = tuple(sums[2:8])
        self.executions = tuple(sums[8:])

    def add_pruned(self, by_status: list[Any]) -> None:
        """Add jobs that were pruned, as rows of the same columns without executions."""
        for status, count, first, last, *sums in by_status:
            self.by_status[str(status)] = self.by_status.get(str(status), 0) + int(count)
            self.first, self.last = min(self.first or first, first), max(self.last or last, last)
            self.sheets_total += int(sums[0])
            self.retries += int(sums[1])
            self.sheets = _added(self.sheets, sums[2:])


async def _jobs(connection: aiosqlite.Connection, filters: Filters) -> _Jobs:
    source, values = scope.jobs(filters)
    jobs = _Jobs(
        await rows(
            connection,
            f"SELECT status, count(*), min(created_at), max(updated_at), {', '.join(_SUMS)} "
            f"FROM {source} GROUP BY status ORDER BY status",
            values,
        )
    )
    source, values = scope.pruned_hours("pruned_jobs", filters)
    jobs.add_pruned(
        await rows(connection, f"SELECT {_PRUNED_JOBS} FROM {source} GROUP BY status", values)
    )
    if scope.is_about_all(filters) and not has_times(filters):
        (gone,) = await rows(
            connection, f"SELECT {_PRUNED_EXECUTIONS} FROM pruned_executions WHERE job_id = ''"
        )
        jobs.executions = _added(jobs.executions, gone)
    return jobs


async def _sheets(connection: aiosqlite.Connection, filters: Filters) -> tuple[Any, ...]:
    source, values = scope.sheets_ended(filters)
    (found,) = await rows(connection, f"SELECT {_SHEETS} FROM {source}", values)
    source, values = scope.pruned_hours("pruned_hours", filters)
    (gone,) = await rows(connection, f"SELECT {_PRUNED_SHEETS} FROM {source}", values)
    return _added(found, gone)


async def _executions(connection: aiosqlite.Connection, filters: Filters) -> tuple[int, ...]:
    source, values = scope.executions(filters)
    (found,) = await rows(
        connection,
        f"SELECT count(*), coalesce(sum(exit_code = 0), 0), count(exit_code) FROM {source}",
        values,
    )
    source, values = scope.pruned_executions(filters)
    (gone,) = await rows(connection, f"SELECT {_PRUNED_EXECUTIONS} FROM {source}", values)
    return _added(found, gone)


async def _failures(connection: aiosqlite.Connection, filters: Filters) -> int:
    source, values = scope.failures(filters)
    ((found,),) = await rows(connection, f"SELECT count(*) FROM {source}", values)
    source, values = scope.pruned_failures(filters)
    ((gone,),) = await rows(connection, f"SELECT coalesce(sum(failures), 0) FROM {source}", values)
    return int(found + gone)


def _added(figures: Sequence[Any], more: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(one + other for one, other in zip(figures, more, strict=True))


def _span(filters: Filters, first: str | None, last: str | None) -> float:
    """The seconds that the throughput is over."""
    begin = filters.since or (utc(first) if first else None)
    end: datetime | None = min(filters.until or utc_now(), utc_now())
    if not has_times(filters):
        end = utc(last) if last else None
    if begin is None or end is None:
        return 0.0
    return max(0.0, (end - begin).total_seconds())


_SUMS = (
    *("total(total_sheets)", "total(total_retry_count)"),
    *("sum(sheets_completed)", "sum(sheets_failed)", "sum(sheets_skipped)"),
    *("total(input_tokens)", "total(output_tokens)", "total(estimated_cost)"),
    *("sum(executions)", "sum(executions_successful)", "sum(executions_exited)"),
)
_PRUNED_JOBS = (
    "status, sum(jobs), min(first_created_at), max(last_updated_at), sum(sheets), sum(retries), "
    "sum(sheets_completed), sum(sheets_failed), sum(sheets_skipped), total(input_tokens), "
    "total(output_tokens), total(estimated_cost)"
)
_PRUNED_SHEETS = (
    "coalesce(sum(sheets_completed), 0), coalesce(sum(sheets_failed), 0), "
    "coalesce(sum(sheets_skipped), 0), total(input_tokens), total(output_tokens), "
    "total(estimated_cost)"
)
_PRUNED_EXECUTIONS = (
    "coalesce(sum(executions), 0), coalesce(sum(successful), 0), coalesce(sum(exited), 0)"
)
_COUNTED = "sheet_num <= jobs.total_sheets AND sheets.status"
_SHEETS = (
    f"coalesce(sum({_COUNTED} = 'completed'), 0), coalesce(sum({_COUNTED} = 'failed'), 0), "
    f"coalesce(sum({_COUNTED} = 'skipped'), 0), total(sheets.input_tokens), "
    "total(sheets.output_tokens), total(sheets.estimated_cost)"
)
"""Sums that could be too large for an integer of SQLite are those of `total`."""
