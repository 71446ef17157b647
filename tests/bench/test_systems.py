"""Each system gives back what it was given, also to another process, and only then says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.places import data_directory
from bench.systems import SYSTEMS
from bench.workload import Connect
from jobkeep_protocol.states import CheckpointState, SheetStatus
from tests.bench.conftest import skip_if


@pytest.fixture(scope="module", params=SYSTEMS, ids=lambda system: system.name)
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """A system that runs, where this machine can run it."""
    with data_directory() as data:
        skip_if(request.param.lacks(data))
        place = data / "store"
        place.mkdir()
        with request.param.serve(place) as connect:
            yield connect


@pytest.fixture
def job_id(request: pytest.FixtureRequest) -> str:
    """A job of this test alone."""
    return f"ä job/{request.node.name}"


def example(job_id: str) -> CheckpointState:
    state = CheckpointState(job_id=job_id, job_name="one", total_sheets=3, extra={"a": [1, None]})
    state.mark_sheet_started(1)
    state.mark_sheet_failed(1, 'it\'s "no"', exit_code=3)
    state.mark_sheet_started(2)
    return state


def same(found: CheckpointState | None, expected: CheckpointState) -> bool:
    """Whether a state came back, but for what jobkeep sets at every save."""
    assert found is not None
    found.revision, found.updated_at = expected.revision, expected.updated_at
    return found == expected


async def test_a_job_comes_back_as_it_was(connect: Connect, job_id: str) -> None:
    state = example(job_id)
    async with connect() as store:
        await store.save(state)
    async with connect() as other:
        assert same(await other.load(job_id), state)


async def test_a_later_save_replaces_the_earlier(connect: Connect, job_id: str) -> None:
    state = example(job_id)
    async with connect() as store:
        await store.save(state)
        state.mark_sheet_completed(2, execution_duration_seconds=0.5)
        state.mark_sheet_started(3)
        await store.save(state)
    async with connect() as other:
        found = await other.load(job_id)
    assert same(found, state)
    assert found is not None
    assert {number: one.status for number, one in found.sheets.items()} == {
        1: SheetStatus.FAILED,
        2: SheetStatus.COMPLETED,
        3: SheetStatus.IN_PROGRESS,
    }


async def test_a_job_that_is_not_there_is_none(connect: Connect, job_id: str) -> None:
    async with connect() as store:
        assert await store.load(job_id) is None


async def test_each_attempt_is_kept_with_its_job(connect: Connect, job_id: str) -> None:
    neighbour = f"{job_id} 2"
    async with connect() as store:
        for one in (job_id, neighbour):
            await store.save(CheckpointState(job_id=one, total_sheets=1))
        for attempt in (1, 2, 3):
            await store.record_execution(job_id, 1, attempt, "do", "done", 0, 0.5)
        await store.record_execution(neighbour, 1, 1)
    async with connect() as other:
        assert await other.get_execution_history_count(job_id) == 3
        assert await other.get_execution_history_count(neighbour) == 1
