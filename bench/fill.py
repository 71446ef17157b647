"""Data that is there before anything is measured.

What lives here: filling a daemon through its own API, so that what is kept is what it keeps. What
may not: measuring.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from jobkeep import AsyncClient, CheckpointState, SheetState, SheetStatus

AT_ONCE = 500
"""Requests that wait together, so that many share a commit."""

RECORD_CHARACTERS = 100


def job_of(job_id: str, sheets: int, completed: int = 0) -> CheckpointState:
    """A job with all its sheets, the first ones completed."""
    return CheckpointState(
        job_id=job_id,
        total_sheets=sheets,
        last_completed_sheet=completed,
        sheets={
            number: SheetState(
                sheet_num=number,
                status=SheetStatus.COMPLETED if number <= completed else SheetStatus.PENDING,
            )
            for number in range(1, sheets + 1)
        },
    )


async def keep_jobs(client: AsyncClient[CheckpointState], jobs: int, sheets: int) -> None:
    """Keep jobs `kept-0` and so on with all their sheets, each saved and loaded once."""

    async def keep(number: int) -> None:
        await client.save(job_of(f"kept-{number}", sheets))
        await client.load(f"kept-{number}")

    for number in range(jobs):
        await keep(number)


async def record(client: AsyncClient[CheckpointState], job_id: str, records: int) -> None:
    """Record this many attempts of the sheets of a job, with short outputs."""
    output = "x" * RECORD_CHARACTERS
    state = await client.load(job_id)
    assert state is not None, "the job was saved before"
    await together(
        records,
        lambda number: client.record_execution(
            job_id, 1 + number % state.total_sheets, 1 + number // state.total_sheets, "do", output
        ),
    )


async def together(times: int, work: Callable[[int], Coroutine[Any, Any, Any]]) -> None:
    """Do something for each number below `times`, many at once, in their order."""
    for first in range(0, times, AT_ONCE):
        await asyncio.gather(*map(work, range(first, min(first + AT_ONCE, times))))
