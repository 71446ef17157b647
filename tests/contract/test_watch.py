"""Watching: what happens is told, in the order in which it was committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from jobkeep_protocol.errors import InvalidRequest, JobNotFound
from jobkeep_protocol.messages import Event
from jobkeep_protocol.states import CheckpointState, JobStatus, SheetState, SheetStatus
from tests.contract.implementations import Backend
from tests.contract.jobs import new_job
from tests.support import scaled


async def take(events: AsyncIterator[Event], count: int) -> list[Event]:
    """The next so many."""
    async with asyncio.timeout(scaled(20)):
        return [await anext(events) for _ in range(count)]


def told(event: Event) -> tuple[Any, ...]:
    """What it is about, in short."""
    return event.kind, event.job_id, event.sheet_num, event.sheet_status or event.job_status


async def test_everything_that_changes_is_told_in_order(backend: Backend) -> None:
    state = CheckpointState(job_id="job", total_sheets=2)
    await backend.save(state)
    await backend.claim_next_sheet("job")
    await backend.record_execution("job", 1, 1, "p", "o", 3, 1.5)
    await backend.mark_sheet_status("job", 1, SheetStatus.FAILED, "it broke")
    await backend.save_sheet("job", SheetState(sheet_num=2, status=SheetStatus.SKIPPED))
    await backend.delete("job")

    events = await take(backend.watch(after=0), 7)

    assert [told(event) for event in events] == [
        ("job", "job", None, JobStatus.PENDING),
        ("sheet", "job", 1, SheetStatus.IN_PROGRESS),
        ("job", "job", None, JobStatus.RUNNING),
        ("execution", "job", 1, None),
        ("sheet", "job", 1, SheetStatus.FAILED),
        ("sheet", "job", 2, SheetStatus.SKIPPED),
        ("deleted", "job", None, None),
    ]
    sequences = [event.sequence for event in events]
    assert sequences == list(range(sequences[0], sequences[0] + 7))
    failed = events[4]
    assert (failed.message, failed.job_status) == ("it broke", JobStatus.RUNNING)
    assert (failed.last_completed_sheet, failed.total_sheets, failed.revision) == (0, 2, 3)
    recorded = events[3]
    assert (recorded.attempt_num, recorded.exit_code, recorded.duration_seconds) == (1, 3, 1.5)
    history = await backend.get_execution_history("job")
    assert history == []
    assert recorded.execution_id is not None


async def test_save_tells_of_the_job_and_of_the_sheets_that_were_saved(backend: Backend) -> None:
    state = CheckpointState(job_id="job", total_sheets=3)
    state.sheets = {n: SheetState(sheet_num=n) for n in (1, 2, 3)}
    await backend.save(state)
    state.mark_sheet_completed(2)
    await backend.save(state)
    del state.sheets[3]
    await backend.save(state)

    events = await take(backend.watch("job", after=0), 8)

    assert [told(event)[::2] for event in events] == [
        *(("job", None), ("sheet", 1), ("sheet", 2), ("sheet", 3)),
        *(("job", None), ("sheet", 2)),
        *(("job", None), ("deleted", 3)),
    ]


async def test_last_sheet_that_is_completed_completes_the_job_and_both_are_told(
    backend: Backend,
) -> None:
    await backend.save(CheckpointState(job_id="job", total_sheets=1))
    await backend.mark_sheet_status("job", 1, SheetStatus.COMPLETED)

    events = await take(backend.watch(after=0), 3)

    assert told(events[1]) == ("sheet", "job", 1, SheetStatus.COMPLETED)
    assert told(events[2]) == ("job", "job", None, JobStatus.COMPLETED)


async def test_job_that_goes_on_has_no_message_of_what_was_before(backend: Backend) -> None:
    state = new_job("job")
    state.mark_job_failed("no luck")
    await backend.save(state)
    await backend.claim_next_sheet("job")

    failed, _, running = await take(backend.watch(after=0), 3)

    assert (failed.job_status, failed.message) == (JobStatus.FAILED, "no luck")
    assert (running.job_status, running.message) == (JobStatus.RUNNING, None)


async def test_watch_of_one_job_tells_of_no_other(backend: Backend) -> None:
    for job_id in ("other", "job", "other", "job"):
        await backend.save(new_job(job_id))

    events = await take(backend.watch("job", after=0), 2)

    assert {event.job_id for event in events} == {"job"}
    assert [event.revision for event in events] == [1, 2]


async def test_watch_from_now_tells_of_what_comes_later(backend: Backend) -> None:
    await backend.save(new_job("before"))
    events = backend.watch()
    first = asyncio.ensure_future(anext(events))
    await _save_until_done(backend, first)

    assert (await first).job_id == "after"


async def test_watch_goes_on_after_an_event_that_was_seen(backend: Backend) -> None:
    for number in range(4):
        await backend.save(new_job(f"job {number}"))
    (_, second) = await take(backend.watch(after=0), 2)

    (third, fourth) = await take(backend.watch(after=second.sequence), 2)

    assert [third.job_id, fourth.job_id] == ["job 2", "job 3"]


async def test_what_is_refused_is_not_told(backend: Backend) -> None:
    with pytest.raises(JobNotFound):
        await backend.save_sheet("unknown", SheetState(sheet_num=1))
    await backend.save(new_job("job"))
    with pytest.raises(InvalidRequest):
        await backend.mark_sheet_status("job", 4_000, SheetStatus.COMPLETED)
    assert not await backend.delete("unknown")
    await backend.save(new_job("last"))

    events = await take(backend.watch(after=0), 2)

    assert [event.job_id for event in events] == ["job", "last"]


async def test_number_that_was_never_given_is_answered_with_what_was_missed(
    backend: Backend,
) -> None:
    await backend.save(new_job("job"))

    (missed, event) = await take(backend.watch(after=7), 2)

    assert (missed.kind, event.job_id) == ("missed", "job")
    assert "look at the jobs themselves" in (missed.message or "")


async def test_bad_job_id_is_refused_before_anything_is_watched(backend: Backend) -> None:
    with pytest.raises(InvalidRequest, match="job_id"):
        await anext(backend.watch(""))


async def _save_until_done(backend: Backend, waiting: asyncio.Future[Event]) -> None:
    """Save again and again: nobody can tell when a watch has begun."""
    async with asyncio.timeout(scaled(20)):
        while not waiting.done():
            await backend.save(new_job("after"))
