"""Marking, saving and claiming single sheets."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobkeep_protocol.errors import InvalidRequest, JobNotFound
from jobkeep_protocol.states import CheckpointState, JobStatus, SheetState, SheetStatus
from jobkeep_protocol.values import MAX_INTEGER
from tests.contract.implementations import Backend
from tests.contract.jobs import new_job, with_sheets, without_times
from tests.protocol.examples import full_sheet

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class TheirStatus(enum.StrEnum):
    """An application's own statuses, a member of which we do not have."""

    DONE = "completed"
    LATER = "retry_scheduled"
    UNHEARD_OF = "unheard_of"


async def loaded(backend: Backend, job_id: str = "job") -> CheckpointState:
    """The kept state of a job that exists."""
    state = await backend.load(job_id)
    assert state is not None
    return state


# -- mark_sheet_status --------------------------------------------------------------------------


@pytest.mark.parametrize("status", SheetStatus)
async def test_every_status_can_be_marked(backend: Backend, status: SheetStatus) -> None:
    await backend.save(with_sheets("job", "pending", "waiting", "pending"))

    await backend.mark_sheet_status("job", 2, status)

    state = await loaded(backend)
    assert [sheet.status for sheet in state.sheets.values()] == ["pending", status, "pending"]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("in_progress", None),
        ("completed", None),
        ("failed", "it broke"),
        ("failed", None),
        ("failed", ""),
        ("skipped", "not needed"),
        ("skipped", None),
    ],
)
async def test_marking_does_what_the_state_would_do(
    backend: Backend, status: str, message: str | None
) -> None:
    state = new_job(
        status="running", started_at=LONG_AGO, current_sheet=2, sheets={2: full_sheet()}
    )
    await backend.save(state)
    match status:
        case "in_progress":
            state.mark_sheet_started(2)
        case "completed":
            state.mark_sheet_completed(2)
        case "failed":
            state.mark_sheet_failed(2, message or "")
        case "skipped":
            state.mark_sheet_skipped(2, message)

    await backend.mark_sheet_status("job", 2, status, message)

    state.revision = 2
    assert without_times(await loaded(backend)) == without_times(state)


async def test_other_statuses_are_set_as_they_are(backend: Backend) -> None:
    state = with_sheets("job", "failed", "pending", current_sheet=1)
    await backend.save(state)

    await backend.mark_sheet_status("job", 1, "waiting")

    state.sheets[1].status = SheetStatus.WAITING
    state.revision = 2
    assert without_times(await loaded(backend)) == without_times(state)


@pytest.mark.parametrize("status", ["ready", "completed", "in_progress", "skipped"])
async def test_message_is_kept_with_any_status(backend: Backend, status: str) -> None:
    await backend.save(new_job())
    await backend.mark_sheet_status("job", 1, status, "a note")
    assert (await loaded(backend)).sheets[1].error_message == "a note"


@pytest.mark.parametrize(
    ("given_status", "kept"),
    [
        (SheetStatus.COMPLETED, "completed"),
        ("completed", "completed"),
        (TheirStatus.DONE, "completed"),
        (TheirStatus.LATER, "retry_scheduled"),
    ],
)
async def test_status_may_be_ours_text_or_theirs(
    backend: Backend, given_status: str, kept: str
) -> None:
    await backend.save(new_job())
    await backend.mark_sheet_status("job", 1, given_status)
    assert (await loaded(backend)).sheets[1].status == kept


async def test_marking_a_missing_sheet_creates_it(backend: Backend) -> None:
    await backend.save(new_job())
    await backend.mark_sheet_status("job", 3, "ready")
    assert (await loaded(backend)).sheets == {3: SheetState(sheet_num=3, status=SheetStatus.READY)}


async def test_job_is_completed_with_its_last_sheet_in_whatever_order(backend: Backend) -> None:
    await backend.save(new_job(total_sheets=3))

    await backend.mark_sheet_status("job", 3, "completed")
    await backend.mark_sheet_status("job", 1, "completed")
    await backend.mark_sheet_status("job", 1, "completed")
    before = await loaded(backend)
    await backend.mark_sheet_status("job", 2, "completed")
    after = await loaded(backend)

    assert (before.status, before.completed_at, before.last_completed_sheet) == ("pending", None, 3)
    assert (after.status, after.last_completed_sheet) == ("completed", 3)
    assert after.completed_at is not None


UNDOINGS: dict[str, Callable[[Backend], Awaitable[object]]] = {
    "marked": lambda backend: backend.mark_sheet_status("job", 1, "pending"),
    "saved alone": lambda backend: backend.save_sheet("job", SheetState(sheet_num=1)),
    "saved with its job": lambda backend: backend.save(with_sheets("job", "pending", "pending")),
    "removed": lambda backend: backend.save(new_job(total_sheets=2)),
}


@pytest.mark.parametrize("undo", UNDOINGS)
async def test_sheet_that_is_completed_no_more_does_not_complete_the_job(
    backend: Backend, undo: str
) -> None:
    await backend.save(new_job(total_sheets=2))
    await backend.mark_sheet_status("job", 1, "completed")

    await UNDOINGS[undo](backend)
    await backend.mark_sheet_status("job", 2, "completed")
    before = (await loaded(backend)).status
    await backend.mark_sheet_status("job", 1, "completed")

    assert (before, (await loaded(backend)).status) == ("pending", "completed")


async def test_marks_of_different_sheets_at_once_are_all_kept(backend: Backend) -> None:
    await backend.save(new_job(total_sheets=40))

    await asyncio.gather(
        *(backend.mark_sheet_status("job", number, "completed") for number in range(1, 41))
    )

    state = await loaded(backend)
    assert {sheet.status for sheet in state.sheets.values()} == {"completed"}
    assert (len(state.sheets), state.revision, state.status) == (40, 41, "completed")


@pytest.mark.parametrize(
    ("status", "field"), [("in_progress", "attempt_count"), ("failed", "total_retry_count")]
)
async def test_count_that_can_grow_no_more_is_an_error_and_nothing_changes(
    backend: Backend, status: str, field: str
) -> None:
    sheet = SheetState(sheet_num=1, attempt_count=MAX_INTEGER)
    state = new_job(total_retry_count=MAX_INTEGER, sheets={1: sheet})
    await backend.save(state)

    with pytest.raises(InvalidRequest, match=f"{field} is {MAX_INTEGER + 1}; .* 64 bits"):
        await backend.mark_sheet_status("job", 1, status)

    assert await loaded(backend) == state


async def test_marking_in_an_unknown_job_says_so(backend: Backend) -> None:
    with pytest.raises(JobNotFound, match="No state found for job 'job'"):
        await backend.mark_sheet_status("job", 1, "completed")
    with pytest.raises(ValueError, match="No state found"):
        await backend.mark_sheet_status("job", 1, "completed")


@pytest.mark.parametrize("status", ["DONE", "", TheirStatus.UNHEARD_OF])
async def test_unknown_status_is_refused(backend: Backend, status: str) -> None:
    await backend.save(new_job())
    with pytest.raises(InvalidRequest, match=r"status is .*; expected one of pending, ready, disp"):
        await backend.mark_sheet_status("job", 1, status)
    assert (await loaded(backend)).revision == 1


@pytest.mark.parametrize("number", [-1, 0, 4, 2**63])
async def test_sheet_outside_the_job_is_refused_by_every_method(
    backend: Backend, number: int
) -> None:
    state = with_sheets("job", "pending", "failed", "completed")
    await backend.save(state)

    for call in (
        backend.mark_sheet_status("job", number, "completed"),
        backend.record_execution("job", number, 1),
    ):
        with pytest.raises(InvalidRequest, match=f"sheet_num is {number}; expected"):
            await call

    assert await loaded(backend) == state
    assert await backend.get_execution_history_count("job") == 0


# -- save_sheet ---------------------------------------------------------------------------------


async def test_save_sheet_leaves_the_others_alone(backend: Backend) -> None:
    state = with_sheets("job", "completed", "failed", "pending", description="kept")
    await backend.save(state)

    revision = await backend.save_sheet("job", full_sheet())

    state.sheets[2] = full_sheet()
    state.revision = revision
    kept = await loaded(backend)
    assert revision == 2
    assert without_times(kept) == without_times(state)
    assert kept.sheets[2] == full_sheet()


async def test_save_sheet_inserts_a_missing_one(backend: Backend) -> None:
    await backend.save(new_job())
    await backend.save_sheet("job", full_sheet())
    assert (await loaded(backend)).sheets == {2: full_sheet()}


async def test_sheets_beyond_the_total_do_not_complete_a_job(backend: Backend) -> None:
    state = with_sheets("job", "pending", "pending", "completed")
    state.total_sheets = 2
    await backend.save(state)

    await backend.mark_sheet_status("job", 2, SheetStatus.COMPLETED)
    assert (await loaded(backend)).status is JobStatus.PENDING
    await backend.mark_sheet_status("job", 1, SheetStatus.COMPLETED)
    assert (await loaded(backend)).status is JobStatus.COMPLETED


async def test_a_total_that_changes_changes_which_sheets_count(backend: Backend) -> None:
    state = with_sheets("job", "completed", "completed", "pending")
    await backend.save(state)
    state.total_sheets = 5
    await backend.save(state)

    await backend.mark_sheet_status("job", 3, SheetStatus.COMPLETED)
    assert (await loaded(backend)).status is JobStatus.PENDING

    grown = await loaded(backend)
    grown.total_sheets = 2
    await backend.save(grown)
    await backend.mark_sheet_status("job", 2, SheetStatus.COMPLETED)
    assert (await loaded(backend)).status is JobStatus.COMPLETED


async def test_save_sheet_beyond_the_total_is_refused(backend: Backend) -> None:
    await backend.save(new_job())
    with pytest.raises(InvalidRequest, match="sheet_num is 4; expected 1 to 3, the job's total"):
        await backend.save_sheet("job", SheetState(sheet_num=4))
    assert (await loaded(backend)).sheets == {}


async def test_save_sheet_in_an_unknown_job_says_so(backend: Backend) -> None:
    with pytest.raises(JobNotFound, match="No state found for job"):
        await backend.save_sheet("job", SheetState(sheet_num=1))


async def test_save_after_save_sheet_makes_the_job_equal_to_the_state(backend: Backend) -> None:
    state = with_sheets("job", "pending", "pending")
    await backend.save(state)
    await backend.save_sheet("job", SheetState(sheet_num=2, status=SheetStatus.FERMATA))

    await backend.save(state)

    assert await loaded(backend) == state


# -- get_next_sheet -----------------------------------------------------------------------------


async def test_next_sheet_of_an_unknown_job_is_the_first(backend: Backend) -> None:
    assert await backend.get_next_sheet("job") == 1


async def test_next_sheet_of_a_large_job_is_found(backend: Backend) -> None:
    await backend.save(with_sheets("job", *["completed"] * 1_999, "pending"))
    assert await backend.get_next_sheet("job") == 2_000
    await backend.mark_sheet_status("job", 2_000, "skipped")
    assert await backend.get_next_sheet("job") is None


@st.composite
def jobs_in_progress(draw: st.DrawFn) -> CheckpointState:
    """A job with any sheets in any statuses, also ones that no orchestrator would leave."""
    statuses = draw(st.dictionaries(st.integers(1, 7), st.sampled_from(SheetStatus), max_size=6))
    return new_job(
        total_sheets=draw(st.integers(1, 7)),
        status=draw(st.sampled_from(JobStatus)),
        last_completed_sheet=draw(st.integers(0, 8)),
        current_sheet=draw(st.none() | st.integers(0, 8)),
        sheets={n: SheetState(sheet_num=n, status=status) for n, status in statuses.items()},
    )


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(states=st.lists(jobs_in_progress(), min_size=6, max_size=6))
async def test_next_sheet_is_that_of_the_state(
    backend: Backend, states: list[CheckpointState]
) -> None:
    for state in states:
        await backend.save(state)
        assert await backend.get_next_sheet("job") == state.get_next_sheet()


# -- claim_next_sheet ---------------------------------------------------------------------------


async def test_claim_marks_the_sheet_as_started(backend: Backend) -> None:
    state = new_job()
    await backend.save(state)

    assert await backend.claim_next_sheet("job") == 1

    state.mark_sheet_started(1)
    state.revision = 2
    assert without_times(await loaded(backend)) == without_times(state)


async def test_claims_go_through_the_sheets_and_then_there_is_none(backend: Backend) -> None:
    await backend.save(new_job(total_sheets=3))
    claims = [await backend.claim_next_sheet("job") for _ in range(5)]
    assert claims == [1, 2, 3, None, None]


@pytest.mark.parametrize("status", SheetStatus)
async def test_missing_pending_and_ready_sheets_can_be_claimed(
    backend: Backend, status: SheetStatus
) -> None:
    sheet = SheetState(sheet_num=1, status=status, attempt_count=1)
    await backend.save(new_job(sheets={1: sheet}))

    claimable = status in {SheetStatus.PENDING, SheetStatus.READY}
    assert await backend.claim_next_sheet("job") == (1 if claimable else 2)


@pytest.mark.parametrize(("attempts", "max_attempts"), [(0, 1), (1, 2), (2, 3)])
async def test_failed_sheet_can_be_claimed_until_its_attempts_are_used_up(
    backend: Backend, attempts: int, max_attempts: int
) -> None:
    failed = SheetState(sheet_num=2, status=SheetStatus.FAILED, attempt_count=attempts)
    done = SheetState(sheet_num=1, status=SheetStatus.COMPLETED)
    await backend.save(new_job(total_sheets=2, sheets={1: done, 2: failed}))

    assert await backend.claim_next_sheet("job", max_attempts=max_attempts) == 2
    await backend.mark_sheet_status("job", 2, "failed")

    assert await backend.claim_next_sheet("job", max_attempts=max_attempts) is None
    assert (await loaded(backend)).sheets[2].attempt_count == max_attempts


async def test_smallest_claimable_number_is_claimed_whatever_its_kind(backend: Backend) -> None:
    sheets = {
        1: SheetState(sheet_num=1, status=SheetStatus.COMPLETED),
        2: SheetState(sheet_num=2, status=SheetStatus.FAILED, attempt_count=1),
        3: SheetState(sheet_num=3, status=SheetStatus.READY),
        5: SheetState(sheet_num=5, status=SheetStatus.PENDING),
    }
    await backend.save(new_job(total_sheets=6, sheets=sheets))

    claims = [await backend.claim_next_sheet("job", max_attempts=2) for _ in range(6)]

    assert claims == [2, 3, 4, 5, 6, None]


async def test_claims_do_not_skip_sheets_before_the_last_completed_one(backend: Backend) -> None:
    await backend.save(new_job(total_sheets=3, last_completed_sheet=2))
    assert await backend.claim_next_sheet("job") == 1


@pytest.mark.parametrize("status", JobStatus)
async def test_only_completed_and_cancelled_jobs_have_nothing_to_claim(
    backend: Backend, status: JobStatus
) -> None:
    await backend.save(new_job(status=status))
    over = status in {JobStatus.COMPLETED, JobStatus.CANCELLED}
    assert await backend.claim_next_sheet("job") == (None if over else 1)


async def test_claims_at_once_never_give_the_same_sheet(backend: Backend) -> None:
    await backend.save(new_job(total_sheets=30))

    claims = await asyncio.gather(*(backend.claim_next_sheet("job") for _ in range(50)))

    assert sorted(one for one in claims if one is not None) == list(range(1, 31))
    assert claims.count(None) == 20


async def test_sheets_that_a_save_removed_can_be_claimed_again(backend: Backend) -> None:
    await backend.save(new_job(total_sheets=4))
    assert [await backend.claim_next_sheet("job") for _ in range(3)] == [1, 2, 3]

    await backend.save(new_job(total_sheets=4, sheets={1: SheetState(sheet_num=1)}))

    assert [await backend.claim_next_sheet("job") for _ in range(5)] == [1, 2, 3, 4, None]


async def test_claim_in_an_unknown_job_says_so(backend: Backend) -> None:
    with pytest.raises(JobNotFound, match="No state found for job 'job'"):
        await backend.claim_next_sheet("job")


@pytest.mark.parametrize("max_attempts", [0, -1])
async def test_claim_without_attempts_is_refused(backend: Backend, max_attempts: int) -> None:
    await backend.save(new_job())
    with pytest.raises(InvalidRequest, match=r"max_attempts is .*; expected an integer of 1 or"):
        await backend.claim_next_sheet("job", max_attempts=max_attempts)
    assert (await loaded(backend)).revision == 1
