"""The timeline: what happened in each hour or day.

What lives here: counting by the beginning of the text of a time, and filling in the hours in which
nothing happened. What may not: the other reports.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiosqlite

from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.messages import GetTimeline
from jobkeep_protocol.reports import Timeline, TimelineBucket
from jobkeepd.store.readers import Readers
from jobkeepd.store.reads import reads
from jobkeepd.store.reports import scope
from jobkeepd.store.reports.scope import Scope, rows
from jobkeepd.store.rows import SHEET_ENDED_AT

MAX_BUCKETS = 10_000

_STEPS = {"hour": (13, timedelta(hours=1)), "day": (10, timedelta(days=1))}
"""How much of the text of a time says in which hour or day it is, and how long that is."""

_PARTS = 8
"""Figures of a bucket, some of which become a mean."""


@reads(GetTimeline)
async def get_timeline(readers: Readers, request: GetTimeline) -> Timeline:
    """One bucket for each hour or day of the span."""
    characters, step = _STEPS[request.by]
    happened: dict[datetime, list[float]] = {}
    async with readers.snapshot() as connection:
        for chosen, column, figures, place in (
            (scope.executions(request), "executed_at", _EXECUTIONS, 0),
            (scope.pruned_executions(request), "hour", _PRUNED_EXECUTIONS, 0),
            (scope.sheets_ended(request), SHEET_ENDED_AT, _SHEETS, 5),
            (scope.jobs_ended(request), "jobs.completed_at", "count(*)", 7),
            (scope.pruned_hours("pruned_hours", request), "hour", _PRUNED_HOURS, 5),
        ):
            for moment, *counts in await _by_time(connection, chosen, column, characters, figures):
                _add(happened, _moment(moment), counts, place)
    buckets = [
        _bucket(moment, happened.get(moment, [0] * _PARTS))
        for moment in _span(request, happened.keys(), step)
    ]
    return Timeline(request.by, buckets)


def _add(
    happened: dict[datetime, list[float]], moment: datetime, counts: list[float], place: int
) -> None:
    """Add figures to those of their hour or day, unless there is nothing in them."""
    if any(counts):
        figures = happened.setdefault(moment, [0] * _PARTS)
        for offset, count in enumerate(counts, place):
            figures[offset] += count


def _bucket(moment: datetime, figures: list[float]) -> TimelineBucket:
    executions, successful, failed, timed, seconds, *ended = figures
    sheets_completed, sheets_failed, jobs_completed = map(int, ended)
    return TimelineBucket(
        moment,
        *(int(executions), int(successful), int(failed)),
        seconds / timed if timed else None,
        *(sheets_completed, sheets_failed, jobs_completed),
    )


async def _by_time(
    connection: aiosqlite.Connection, chosen: Scope, column: str, characters: int, figures: str
) -> list[Any]:
    """Figures of a scope, by the hour or day of a column."""
    return await rows(
        connection,
        f"SELECT substr({column}, 1, {characters}) AS moment, {figures} FROM {chosen.source} "
        "GROUP BY moment",
        chosen.values,
    )


def _span(
    request: GetTimeline, happened: Collection[datetime], step: timedelta
) -> Iterator[datetime]:
    """The beginning of each bucket, from the first to the last.

    Raises InvalidRequest when there are too many.
    """
    first = request.since or min(happened, default=None)
    if first is None:
        return
    begin, last = _begin_of(first, step), max(happened, default=first)
    count = (_begin_of(last, step) - begin) // step + 1
    if request.until is not None:
        count = max(0, -((begin - request.until) // step))
    if count > MAX_BUCKETS:
        raise InvalidRequest(
            f"the timeline would have {count} {request.by}s, and has at most {MAX_BUCKETS}; give "
            "a later `since` or an earlier `until`, or ask by day",
            {"field": "since", "maximum": MAX_BUCKETS},
        )
    for number in range(count):
        yield begin + number * step


def _begin_of(moment: datetime, step: timedelta) -> datetime:
    """The hour or day of UTC that a moment is in."""
    in_utc = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return in_utc.replace(hour=0) if step > timedelta(hours=1) else in_utc


def _moment(text: str) -> datetime:
    """`2026-03-01` or `2026-03-01T12` as the time at which it begins."""
    return datetime.fromisoformat(f"{text}T00" if len(text) == 10 else text).replace(tzinfo=UTC)


_EXECUTIONS = (
    "count(*), coalesce(sum(exit_code = 0), 0), coalesce(sum(exit_code <> 0), 0), "
    "count(duration_seconds), total(duration_seconds)"
)
_PRUNED_EXECUTIONS = (
    "sum(executions), sum(successful), sum(exited - successful), sum(timed), total(seconds)"
)
_PRUNED_HOURS = "sum(sheets_completed), sum(sheets_failed), sum(jobs_completed)"
_COUNTED = "sheet_num <= jobs.total_sheets AND sheets.status"
_SHEETS = f"coalesce(sum({_COUNTED} = 'completed'), 0), coalesce(sum({_COUNTED} = 'failed'), 0)"
