"""Pruning: what goes, what stays, and that statistics go on including what went."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobkeep_protocol.backend import StateBackend
from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.pruning import PrunedJob, PruneResult
from jobkeep_protocol.states import CheckpointState, JobStatus, SheetState, SheetStatus
from jobkeepd import SQLiteStateBackend
from jobkeepd.store import pruning
from tests.contract.clock import BEGAN, Clock
from tests.contract.jobs import new_job

Backend = StateBackend[CheckpointState]

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
AN_HOUR = BEGAN.replace(minute=0) + 2 * HOUR
"""In the middle of what happens. What was pruned is counted by full hours."""


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of a few rows, and pages of two jobs."""
    monkeypatch.setattr(pruning, "BATCH_ROWS", 3)
    monkeypatch.setattr(pruning, "BATCH_SHEETS", 2)
    monkeypatch.setattr(pruning, "BATCH_BYTES", 20)
    monkeypatch.setattr(pruning, "JOBS_A_PAGE", 2)


async def record(backend: Backend, job_id: str, sheet_num: int, *outputs: str) -> list[int]:
    """Attempts at a sheet with these outputs, all good; gives their ids."""
    ids = [
        await backend.record_execution(job_id, sheet_num, number, None, output, 0, 0.5)
        for number, output in enumerate(outputs, 1)
    ]
    return [one for one in ids if one is not None]


async def kept(backend: Backend, job_id: str, sheet_num: int | None = None) -> list[int]:
    """The ids of the attempts that are there, oldest first."""
    return [one["id"] for one in await backend.get_execution_history(job_id, sheet_num)][::-1]


# -- attempts -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_batches")
async def test_attempts_go_by_their_age(backend: Backend, clock: Clock) -> None:
    await backend.save(new_job("job", 3))
    old = [await record(backend, "job", number, "old", "old too") for number in (1, 2, 3)]
    clock.now += 2 * DAY
    new = await record(backend, "job", 2, "new")

    result = await backend.prune(older_than=DAY)

    assert (result.attempts, result.bytes, result.jobs) == (6, 3 * len("oldold too"), 0)
    assert await kept(backend, "job") == new
    assert await backend.get_execution_history_count("job", 2) == 1
    assert await backend.get_execution_history_count("job", 1) == 0
    assert await backend.get_execution_history_count("job") == 1
    assert old


@pytest.mark.usefixtures("small_batches")
async def test_newest_attempts_of_each_sheet_are_kept(backend: Backend) -> None:
    await backend.save(new_job("job", 2))
    first = await record(backend, "job", 1, *"abcdef")
    second = await record(backend, "job", 2, "x")

    result = await backend.prune(keep_last=2)

    assert result.attempts == 4
    assert await kept(backend, "job") == [*first[-2:], *second]


async def test_attempt_goes_only_when_it_is_old_and_beyond_the_newest(
    backend: Backend, clock: Clock
) -> None:
    await backend.save(new_job("job", 1))
    ids = await record(backend, "job", 1, *"abc")
    clock.now += 2 * DAY
    ids += await record(backend, "job", 1, *"de")

    await backend.prune(older_than=DAY, keep_last=4)
    assert await kept(backend, "job") == ids[1:]

    await backend.prune(older_than=DAY.total_seconds(), keep_last=1)
    assert await kept(backend, "job") == ids[3:]


async def test_no_attempt_goes_while_an_older_one_of_its_sheet_stays(
    backend: Backend, clock: Clock
) -> None:
    await backend.save(new_job("job", 1))
    clock.now += 2 * DAY
    ids = await record(backend, "job", 1, "before the clock was set back")
    clock.now -= 2 * DAY
    ids += await record(backend, "job", 1, "after")
    clock.now += 2 * DAY

    result = await backend.prune(older_than=DAY)

    assert result.attempts == 0
    assert await kept(backend, "job") == ids


@pytest.mark.usefixtures("small_batches")
async def test_oldest_attempts_go_until_the_others_take_no_more_than_so_many_bytes(
    backend: Backend, clock: Clock
) -> None:
    ids = []
    for job_id in ("a", "b", "c"):
        clock.now += DAY
        await backend.save(new_job(job_id, 1))
        for _ in range(3):
            clock.now += timedelta(minutes=1)
            ids += await record(backend, job_id, 1, "é" * 5)

    assert (await backend.prune(max_bytes=90)).attempts == 0
    result = await backend.prune(max_bytes=45)

    assert (result.attempts, result.bytes) == (5, 50)
    assert await kept(backend, "a") == []
    assert await kept(backend, "b") == ids[5:6]
    assert await kept(backend, "c") == ids[6:]


async def test_new_attempts_are_numbered_on_after_all_others_went(
    backend: Backend, clock: Clock
) -> None:
    await backend.save(new_job("job", 1))
    await record(backend, "job", 1, *"abc")
    clock.now += DAY
    await backend.prune(older_than=0)

    await record(backend, "job", 1, *"de")

    assert await backend.get_execution_history_count("job", 1) == 2
    assert (await backend.get_job_statistics("job"))["total_executions"] == 5


# -- failures -----------------------------------------------------------------------------------


async def fail(backend: Backend, job_id: str, sheet_num: int, attempt: int, **fields: Any) -> None:
    """An attempt at a sheet that fails, without a record."""
    await backend.save_sheet(
        job_id,
        SheetState(sheet_num=sheet_num, status=SheetStatus.FAILED, attempt_count=attempt, **fields),
    )


async def test_failures_go_by_the_same_criteria_and_are_counted_on(
    backend: Backend, clock: Clock
) -> None:
    await backend.save(new_job("job", 2))
    for attempt in (1, 2, 3):
        clock.now += timedelta(hours=1)
        await fail(backend, "job", 1, attempt, error_code="E1", completed_at=clock.now)
    before = await backend.get_errors()
    clock.now += 2 * DAY

    result = await backend.prune(older_than=DAY, keep_last=1)

    after = await backend.get_errors()
    assert result.failures == 2
    assert after.failures == before.failures == 3
    assert after.groups == before.groups
    assert (await backend.get_errors(job_id="job")).failures == 3
    assert len(await backend.find_similar_outcomes(error_code="E1")) == 1


async def test_failures_stay_when_attempts_go_for_their_size(
    backend: Backend, clock: Clock
) -> None:
    await backend.save(new_job("job", 1))
    await backend.record_execution("job", 1, 1, "do", "x" * 100, 1)
    clock.now += DAY

    result = await backend.prune(max_bytes=0)

    assert (result.attempts, result.failures) == (1, 0)
    assert len(await backend.find_similar_outcomes(exit_code=1)) == 1


# -- whole jobs ---------------------------------------------------------------------------------


async def end(backend: Backend, job_id: str, status: JobStatus) -> None:
    """A job of two sheets that has come to its end."""
    state = new_job(job_id, 2, status=status, error_message="because")
    state.sheets = {1: SheetState(sheet_num=1, status=SheetStatus.COMPLETED)}
    await backend.save(state)


async def jobs_of(backend: Backend) -> list[str]:
    """Their ids, in order."""
    return sorted([one["id"] for one in await backend.query_jobs()])


@pytest.mark.usefixtures("small_batches")
async def test_whole_jobs_go_by_status_and_age(backend: Backend, clock: Clock) -> None:
    for number in range(5):
        await end(backend, f"completed {number}", JobStatus.COMPLETED)
        await end(backend, f"failed {number}", JobStatus.FAILED)
        await end(backend, f"paused {number}", JobStatus.PAUSED)
        await record(backend, f"failed {number}", 1, *"abcde")
    clock.now += 2 * DAY
    await end(backend, "new", JobStatus.COMPLETED)

    result = await backend.prune(older_than=DAY, status=["completed", JobStatus.FAILED])

    assert (result.jobs, result.attempts) == (10, 25)
    assert await jobs_of(backend) == ["new", *[f"paused {number}" for number in range(5)]]
    assert await backend.load("failed 3") is None
    assert await backend.get_execution_history_count("failed 3") == 0


async def test_jobs_of_each_status_that_were_updated_last_are_kept(
    backend: Backend, clock: Clock
) -> None:
    for number in range(4):
        await end(backend, f"completed {number}", JobStatus.COMPLETED)
        await end(backend, f"failed {number}", JobStatus.FAILED)
    clock.now += 2 * DAY

    await backend.prune(older_than=DAY, status=["completed", "failed"], keep_last=3)

    assert await jobs_of(backend) == [
        *[f"completed {number}" for number in (1, 2, 3)],
        *[f"failed {number}" for number in (1, 2, 3)],
    ]


async def test_pruned_job_can_be_made_anew(backend: Backend, clock: Clock) -> None:
    await end(backend, "job", JobStatus.COMPLETED)
    await record(backend, "job", 1, "old")
    assert await backend.load("job") is not None
    clock.now += DAY
    await backend.prune(older_than=0, status="completed")

    await backend.save(new_job("job", 1))

    state = await backend.load("job")
    assert state is not None
    assert (state.sheets, state.revision) == ({}, 1)
    assert (await backend.get_job_statistics("job"))["total_executions"] == 0
    assert (await backend.get_overview()).executions == 1


async def test_pruned_job_is_not_given_from_memory(backend: Backend, clock: Clock) -> None:
    await end(backend, "job", JobStatus.COMPLETED)
    assert await backend.load("job") is not None
    assert await backend.load("job") is not None
    clock.now += DAY

    await backend.prune(older_than=0, status="completed")

    assert await backend.load("job") is None


async def test_what_a_pruned_job_has_taught_stays(backend: Backend, clock: Clock) -> None:
    state = new_job("job", 1, status=JobStatus.COMPLETED)
    state.sheets = {
        1: SheetState(sheet_num=1, status=SheetStatus.COMPLETED, learned_patterns=["warm cache"])
    }
    await backend.save(state)
    clock.now += DAY

    await backend.prune(older_than=0, status="completed")

    (pattern,) = await backend.get_learned_patterns()
    assert (pattern.pattern, pattern.sheets, pattern.success_rate) == ("warm cache", 1, 100.0)


async def test_watchers_are_told_of_pruned_jobs(backend: Backend, clock: Clock) -> None:
    await end(backend, "job", JobStatus.COMPLETED)
    clock.now += DAY
    await backend.prune(older_than=0, status="completed")

    seen = []
    async for event in backend.watch("job", after=0):
        seen.append((event.kind, event.sheet_num))
        if event.kind == "deleted":
            break
    assert seen[-1] == ("deleted", None)


# -- live jobs ----------------------------------------------------------------------------------


async def running(backend: Backend) -> None:
    """It says so."""
    await backend.save(new_job("job", 1, status=JobStatus.RUNNING))


async def claimed(backend: Backend) -> None:
    """A process works on it, which has a sheet or had one."""
    await backend.save(new_job("job", 1))
    assert await backend.claim_next_sheet("job") == 1
    await backend.save_sheet("job", SheetState(sheet_num=1, status=SheetStatus.COMPLETED))
    state = await backend.load("job")
    assert state is not None
    state.status = JobStatus.COMPLETED
    await backend.save(state)


async def about_to_run(backend: Backend) -> None:
    """It names a process, and has not come to an end."""
    await backend.save(new_job("job", 1, status=JobStatus.PENDING, pid=1))


@pytest.mark.parametrize("live", [running, claimed, about_to_run])
async def test_nothing_goes_of_a_live_job(backend: Backend, clock: Clock, live: Any) -> None:
    await live(backend)
    await record(backend, "job", 1, *"abc")
    clock.now += DAY

    for criteria in (
        {"older_than": 0},
        {"keep_last": 1},
        {"max_bytes": 0},
        {"older_than": 0, "status": [*JobStatus]},
    ):
        result = await backend.prune(**criteria)
        assert (result.jobs, result.attempts, result.listed) == (0, 0, []), criteria
    assert len(await kept(backend, "job")) == 3


# -- what is asked for --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("criteria", "message"),
    [
        ({}, "nothing says what to prune"),
        ({"status": "completed"}, "by their age too"),
        ({"status": "completed", "keep_last": 1}, "by their age too"),
        ({"max_bytes": 1, "keep_last": 1}, "give it alone"),
        ({"max_bytes": 1, "older_than": 1}, "give it alone"),
        ({"older_than": -1}, "older_than is -1; expected a finite number of 0 or more"),
        ({"older_than": 1e300}, "older_than is .*; expected an age that a date can have"),
        ({"keep_last": 0}, "keep_last is 0; expected an integer of 1 or more"),
        ({"older_than": 1, "status": "done"}, "status is 'done'; expected one of"),
    ],
)
async def test_criteria_that_say_nothing_are_refused(
    backend: Backend, criteria: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        await backend.prune(**criteria)


async def test_nothing_to_prune_is_no_error(backend: Backend) -> None:
    assert await backend.prune(older_than=0) == PruneResult(0, 0, 0, 0, 0, [])


async def test_dry_run_removes_nothing_and_tells_which_jobs(backend: Backend, clock: Clock) -> None:
    await end(backend, "a", JobStatus.COMPLETED)
    await end(backend, "b", JobStatus.COMPLETED)
    ids = await record(backend, "a", 1, "é", "ab")
    clock.now += DAY

    attempts = await backend.prune(older_than=0, dry_run=True)
    jobs = await backend.prune(older_than=0, status="completed", dry_run=True)

    assert attempts == PruneResult(0, 2, 0, 4, 0, [PrunedJob("a", False, 2, 0, 4)])
    assert jobs.listed == [PrunedJob("a", True, 2, 0, 4), PrunedJob("b", True, 0, 0, 0)]
    assert jobs.jobs == 2
    assert await kept(backend, "a") == ids
    assert await jobs_of(backend) == ["a", "b"]


# -- statistics ---------------------------------------------------------------------------------


async def reports_of(backend: Backend) -> list[Any]:
    """All reports that what was pruned counts in."""
    return [
        await backend.get_overview(),
        await backend.get_overview(since=BEGAN - DAY, until=BEGAN + 10 * DAY),
        await backend.get_overview(since=AN_HOUR, until=AN_HOUR + 4 * HOUR),
        await backend.get_errors(),
        (await backend.get_errors(since=AN_HOUR, until=AN_HOUR + 4 * HOUR)).failures,
        await backend.get_timeline(),
        await backend.get_timeline(by="day"),
        await backend.get_validations(),
        await backend.get_outcomes(),
    ]


async def _work(backend: Backend, clock: Clock) -> None:
    """Some hours of work at jobs that have all come to an end."""
    for number in range(4):
        job_id = f"job {number}"
        await backend.save(new_job(job_id, 3, created_at=clock.now))
        for sheet, attempt in itertools.product((1, 2), (1, 2)):
            clock.now += timedelta(minutes=40)
            exit_code = (0, 1, None)[(number + sheet + attempt) % 3]
            await backend.record_execution(
                job_id, sheet, attempt, "do", "x" * 10, exit_code, float(attempt)
            )
            await backend.save_sheet(
                job_id,
                SheetState(
                    sheet_num=sheet,
                    status=SheetStatus.FAILED if exit_code else SheetStatus.COMPLETED,
                    attempt_count=attempt,
                    completed_at=clock.now,
                    error_code=f"E{sheet}" if exit_code else None,
                    passed_validations=["a"],
                    failed_validations=["b"] if exit_code else [],
                    outcome_category="good" if attempt == 1 else None,
                    success_without_retry=attempt == 1,
                    input_tokens=100,
                    estimated_cost=0.5,
                ),
            )
        state = await backend.load(job_id)
        assert state is not None
        state.status = (JobStatus.COMPLETED, JobStatus.FAILED)[number % 2]
        state.completed_at = clock.now
        state.total_retry_count = number
        await backend.save(state)


def _without_examples(reports: Iterable[Any]) -> list[Any]:
    """What no prune may change: an example is of a failure that is kept."""
    import msgspec

    plain = msgspec.to_builtins([*reports])
    for group in plain[3]["groups"]:
        del group["example"]
    plain[3]["groups"].sort(key=str)
    return list(plain)


@pytest.mark.usefixtures("small_batches")
async def test_reports_say_the_same_totals_after_attempts_went(
    backend: Backend, clock: Clock
) -> None:
    await _work(backend, clock)
    before = await reports_of(backend)
    of_job = await backend.get_timeline(job_id="job 1")
    clock.now += DAY

    result = await backend.prune(older_than=0)

    assert result.attempts == 16
    assert _without_examples(await reports_of(backend)) == _without_examples(before)
    assert await backend.get_timeline(job_id="job 1") == of_job
    assert (await backend.get_job_statistics("job 1"))["total_executions"] == 4


@pytest.mark.usefixtures("small_batches")
async def test_reports_say_the_same_totals_after_jobs_went(backend: Backend, clock: Clock) -> None:
    await _work(backend, clock)
    before = await reports_of(backend)
    clock.now += DAY
    await backend.prune(older_than=0, keep_last=1)

    result = await backend.prune(older_than=0, status=["completed", "failed"], keep_last=1)

    assert result.jobs == 2
    assert _without_examples(await reports_of(backend)) == _without_examples(before)
    assert (await backend.get_overview(job_id="job 0")).executions == 0


async def test_deleted_job_takes_along_what_was_pruned_of_it(
    backend: Backend, clock: Clock
) -> None:
    await _work(backend, clock)
    clock.now += DAY
    await backend.prune(older_than=0)

    for number in range(4):
        assert await backend.delete(f"job {number}")

    overview = await backend.get_overview()
    assert (overview.executions, overview.failures, overview.jobs) == (0, 0, {})
    assert (await backend.get_timeline()).buckets == []


# -- a model ------------------------------------------------------------------------------------


@dataclass
class Attempt:
    """What the model keeps of an attempt."""

    sheet: tuple[str, int]
    at: datetime
    bytes: int


HOUR = timedelta(hours=1)
attempts = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 2), st.integers(-2, 5), st.integers(0, 9)),
    max_size=25,
)
criteria = st.one_of(
    st.fixed_dictionaries(
        {"hours": st.one_of(st.none(), st.integers(0, 40)), "keep": st.integers(1, 4)}
    ),
    st.fixed_dictionaries({"hours": st.integers(0, 40), "keep": st.none()}),
)


def _goes(kept: list[Attempt], now: datetime, hours: int | None, keep: int | None) -> list[int]:
    """The places of the attempts that go, by the words of the contract."""
    going = []
    for place, one in enumerate(kept):
        of_sheet = [other for other, each in enumerate(kept) if each.sheet == one.sheet]
        is_old = hours is None or one.at < now - hours * HOUR
        is_beyond = keep is None or place not in of_sheet[-keep:]
        older_ones_go = all(other in going for other in of_sheet if other < place)
        if one.sheet[0] != "c" and is_old and is_beyond and older_ones_go:
            going.append(place)
    return going


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(made=attempts, rounds=st.lists(criteria, min_size=1, max_size=3))
@pytest.mark.usefixtures("small_batches")
async def test_attempts_go_as_in_a_model(
    clock: Clock,
    tmp_path_factory: pytest.TempPathFactory,
    made: list[tuple[str, int, int, int]],
    rounds: list[dict[str, int | None]],
) -> None:
    directory = tmp_path_factory.mktemp("model")
    async with SQLiteStateBackend(directory / "state.db", durability="normal") as backend:
        clock.now = BEGAN
        for job_id in "abc":
            status = JobStatus.RUNNING if job_id == "c" else JobStatus.PAUSED
            await backend.save(new_job(job_id, 2, status=status))
        model: list[tuple[int, Attempt]] = []
        for job_id, sheet, hours, length in made:
            clock.now += hours * HOUR
            (number,) = await record(backend, job_id, sheet, "x" * length)
            model.append((number, Attempt((job_id, sheet), clock.now, length)))
        for one in rounds:
            age, keep = one["hours"], one["keep"]
            arguments = {
                "older_than": None if age is None else age * HOUR,
                "keep_last": keep,
            }
            going = _goes([each for _, each in model], clock.now, age, keep)

            told = await backend.prune(**arguments, dry_run=True)  # type: ignore[arg-type] # either has its type
            result = await backend.prune(**arguments)  # type: ignore[arg-type] # either has its type

            size = sum(model[place][1].bytes for place in going)
            assert (result.attempts, result.bytes) == (len(going), size)
            assert (told.attempts, told.bytes) == (len(going), size)
            assert sum(each.attempts for each in told.listed) == len(going)
            model = [each for place, each in enumerate(model) if place not in going]
            found = [number for job_id in "abc" for number in await kept(backend, job_id)]
            assert sorted(found) == [number for number, _ in model]
