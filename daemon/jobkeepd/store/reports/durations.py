"""The report of durations: how long executions took.

What lives here: sums and exact percentiles over an index of the history, for all executions, for
the jobs with the most time and for the sheets of one job; and the slowest executions. What may not:
the other reports.

A percentile is found by putting the durations in order, in SQLite, and taking one at a place
(nearest rank); so the time for it grows with the number of executions that are asked about.
"""

from __future__ import annotations

from typing import Any

import aiosqlite
from msgspec.structs import asdict, replace

from jobkeep_protocol.messages import GetDurations
from jobkeep_protocol.reports import (
    DurationFigures,
    Durations,
    JobDurations,
    SheetDurations,
    SlowExecution,
)
from jobkeepd.store.readers import Readers
from jobkeepd.store.reads import reads
from jobkeepd.store.reports import scope
from jobkeepd.store.reports.scope import Scope, rows, utc

PERCENTILES = (50, 95, 99)


@reads(GetDurations)
async def get_durations(readers: Readers, request: GetDurations) -> Durations:
    """All, the jobs and the sheets with the most time, and the slowest executions."""
    limit = min(request.limit, readers.limits.max_page_rows)
    async with readers.snapshot() as connection:
        chosen = scope.executions(request)
        ((count, seconds, longest),) = await rows(
            connection, f"SELECT {_FIGURES} FROM {chosen.source}", chosen.values
        )
        total = await _figures(connection, chosen, count, seconds, longest)
        jobs = []
        for job_id, *figures in await _by(connection, "job_id", chosen, limit):
            one = total
            if request.job_id is None:
                of_job = scope.executions(replace(request, job_id=job_id, name=None))
                one = await _figures(connection, of_job, *figures)
            jobs.append(JobDurations(**asdict(one), job_id=job_id))
        sheets = []
        if request.job_id is not None:
            for sheet_num, *figures in await _by(connection, "sheet_num", chosen, limit):
                of_sheet = Scope(f"{chosen.source} AND sheet_num = ?", (*chosen.values, sheet_num))
                one = await _figures(connection, of_sheet, *figures)
                sheets.append(SheetDurations(**asdict(one), sheet_num=sheet_num))
        slowest = await _slowest(connection, chosen, limit)
    return Durations(**asdict(total), jobs=jobs, sheets=sheets, slowest=slowest)


async def _by(
    connection: aiosqlite.Connection, column: str, chosen: Scope, limit: int
) -> list[Any]:
    """The values of a column with the most time in all, each with its figures."""
    return await rows(
        connection,
        f"SELECT {column}, {_FIGURES} FROM {chosen.source} AND duration_seconds NOTNULL "
        f"GROUP BY {column} ORDER BY total(duration_seconds) DESC, {column} LIMIT ?",
        (*chosen.values, limit),
    )


async def _figures(
    connection: aiosqlite.Connection,
    chosen: Scope,
    count: int,
    seconds: float,
    longest: float | None,
) -> DurationFigures:
    """The figures of executions whose durations are so many, so long and at most so long."""
    if not count:
        return DurationFigures(0, 0.0, None, None, None, None, None)
    places = [-(-count * percent // 100) for percent in PERCENTILES]
    found = dict(await rows(connection, _at_places(chosen.source), (*chosen.values, *places)))
    p50, p95, p99 = (found[place] for place in places)
    return DurationFigures(count, seconds, seconds / count, p50, p95, p99, longest)


async def _slowest(
    connection: aiosqlite.Connection, chosen: Scope, limit: int
) -> list[SlowExecution]:
    found = await rows(
        connection,
        "SELECT slow.id, slow.job_id, slow.sheet_num, kept.attempt_num, slow.executed_at, "
        "slow.exit_code, slow.duration_seconds FROM ("
        "SELECT id, job_id, sheet_num, executed_at, exit_code, duration_seconds "
        f"FROM {chosen.source} AND duration_seconds NOTNULL "
        "ORDER BY duration_seconds DESC, id LIMIT ?) AS slow "
        "CROSS JOIN execution_history AS kept ON kept.id = slow.id "
        "ORDER BY slow.duration_seconds DESC, slow.id",
        (*chosen.values, limit),
    )
    return [
        SlowExecution(number, job_id, sheet_num, attempt_num, utc(moment), exit_code, seconds)
        for number, job_id, sheet_num, attempt_num, moment, exit_code, seconds in found
    ]


def _at_places(source: str) -> str:
    """A statement for the durations at three places of their order, counted from 1."""
    return (
        "SELECT place, duration_seconds FROM (SELECT duration_seconds, "
        f"row_number() OVER (ORDER BY duration_seconds) AS place FROM {source} "
        "AND duration_seconds NOTNULL) WHERE place IN (?, ?, ?)"
    )


_FIGURES = "count(duration_seconds), total(duration_seconds), max(duration_seconds)"
