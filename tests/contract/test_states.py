"""Saving, loading and deleting states."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from jobkeep_protocol.errors import InvalidRequest, LimitExceeded, RevisionConflict
from jobkeep_protocol.states import CheckpointState, JobStatus, SheetState, SheetStatus
from jobkeepd import SQLiteStateBackend
from tests.contract.implementations import Backend
from tests.contract.jobs import ODD_JOB_IDS, copy_of, new_job, with_sheets
from tests.protocol.examples import FREE_FORM, full_job, full_sheet

LONG_AGO = datetime(2020, 1, 1, 0, 0, 0, 1, tzinfo=UTC)


async def loaded(backend: Backend, job_id: str = "job") -> CheckpointState:
    """The kept state of a job that exists."""
    state = await backend.load(job_id)
    assert state is not None
    return state


# -- round trips --------------------------------------------------------------------------------


async def test_unknown_job_is_none(backend: Backend) -> None:
    assert await backend.load("job") is None


async def test_every_field_survives_at_both_levels(backend: Backend) -> None:
    state = full_job({2: full_sheet(), 5: SheetState(sheet_num=5)})

    await backend.save(state)

    assert await backend.load(state.job_id) == state


JOB_FIELDS: dict[str, list[Any]] = {
    "job_name": ["", "né \0 🦊"],
    "description": [None, "", "text"],
    "config_hash": [None, "abc"],
    "config_snapshot": [None, {}, {"x": None}, FREE_FORM],
    "config_path": [None, "/a b"],
    "created_at": [LONG_AGO, datetime.max.replace(tzinfo=UTC)],
    "started_at": [None, LONG_AGO],
    "completed_at": [None, LONG_AGO],
    "total_sheets": [1, 2**63 - 1],
    "last_completed_sheet": [0, 2**63 - 1],
    "current_sheet": [None, 0, 7],
    "status": list(JobStatus),
    "pid": [None, 2**22 + 1, -1],
    "error_message": [None, "", "text"],
    "total_retry_count": [0, 3],
    "rate_limit_waits": [0, 3],
    "extra": [{}, {"x": []}, {"x": {}}, {"x": None}, {"ключ": [1.5, True, -(2**63)]}],
}


@pytest.mark.parametrize("field", JOB_FIELDS)
async def test_each_value_of_a_job_survives(backend: Backend, field: str) -> None:
    for index, value in enumerate(JOB_FIELDS[field]):
        state = new_job(f"job {index}", **{"completed_at": LONG_AGO, field: value})
        if value != JobStatus.RUNNING:
            assert getattr(state, field) == value

        await backend.save(state)

        assert await loaded(backend, state.job_id) == state


SHEET_FIELDS: dict[str, list[Any]] = {
    "status": list(SheetStatus),
    "started_at": [None, LONG_AGO],
    "completed_at": [None, LONG_AGO],
    "attempt_count": [0, 2**63 - 1],
    "exit_code": [None, 0, -(2**63)],
    "exit_signal": [None, 0, 9],
    "exit_reason": [None, "", "killed"],
    "execution_duration_seconds": [None, 0.0, 1e-9],
    "error_message": [None, "", "né \0"],
    "error_category": [None, "x"],
    "error_code": [None, "E1"],
    "validation_passed": [None, True, False],
    "validation_details": [None, [], [{}], [FREE_FORM]],
    "completion_attempts": [0, 2],
    "passed_validations": [None, [], ["a", ""]],
    "failed_validations": [None, [], ["a", ""]],
    "last_pass_percentage": [None, 0.0, 100.0],
    "execution_mode": [None, "retry"],
    "outcome_data": [None, {}, FREE_FORM],
    "confidence_score": [None, 0.0, 1.0, 1 / 3],
    "learned_patterns": [None, [], ["🦊"]],
    "similar_outcomes_count": [0, 4],
    "success_without_retry": [False, True],
    "outcome_category": [None, "x"],
    "model": [None, "m"],
    "input_tokens": [None, 0, 5],
    "output_tokens": [None, 0, 5],
    "estimated_cost": [None, 0.0, 1e300],
    "extra": [{}, {"x": []}, {"x": {}}, {"x": None}],
}


@pytest.mark.parametrize("field", SHEET_FIELDS)
async def test_each_value_of_a_sheet_survives(backend: Backend, field: str) -> None:
    sheets = {
        number: SheetState(**{"sheet_num": number, field: value})
        for number, value in enumerate(SHEET_FIELDS[field], 1)
    }
    state = new_job(total_sheets=20, sheets=sheets)

    await backend.save(state)

    assert await loaded(backend) == state


def test_every_field_is_among_those_tested() -> None:
    tested_elsewhere = {"job_id", "updated_at", "revision", "sheets", "sheet_num"}
    fields = {*CheckpointState.__struct_fields__, *SheetState.__struct_fields__}
    assert {*JOB_FIELDS, *SHEET_FIELDS} == fields - tested_elsewhere


@pytest.mark.parametrize("job_id", ODD_JOB_IDS, ids=ascii)
async def test_job_id_may_be_odd(backend: Backend, job_id: str) -> None:
    state = new_job(job_id, total_sheets=1)
    await backend.save(state)

    assert await backend.load(job_id) == state
    assert await backend.claim_next_sheet(job_id) == 1
    assert await backend.record_execution(job_id, 1, 1) is not None
    assert [one["id"] for one in await backend.query_jobs()] == [job_id]
    assert [one["job_id"] for one in await backend.get_execution_history(job_id)] == [job_id]
    assert await backend.load(job_id + "x"[: 512 - len(job_id.encode())]) is None or (
        len(job_id.encode()) == 512
    )
    assert await backend.delete(job_id) is True


async def test_tuples_come_back_as_lists_as_in_json(backend: Backend) -> None:
    await backend.save(new_job(extra={"x": (1, (2,))}))
    assert (await loaded(backend)).extra == {"x": [1, [2]]}


async def test_times_of_any_zone_come_back_in_utc(backend: Backend) -> None:
    there = datetime(2026, 3, 1, 14, 0, 0, 123457, tzinfo=timezone(timedelta(hours=2)))
    await backend.save(new_job(started_at=there))

    started_at = (await loaded(backend)).started_at

    assert started_at == there
    assert started_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("count", [9, 10, 11, 20, 57])
@pytest.mark.usefixtures("small_pages")
async def test_job_of_many_sheets_comes_over_several_pages(backend: Backend, count: int) -> None:
    state = with_sheets("job", *["completed"] * count)

    await backend.save(state)

    assert await loaded(backend) == state
    assert await backend.list_jobs() == [state]


@pytest.mark.usefixtures("small_pages")
async def test_large_sheets_come_over_several_pages(backend: Backend) -> None:
    sheets = {
        number: SheetState(sheet_num=number, outcome_data={"log": "x" * size})
        for number, size in enumerate((5_000, 1, 9_000, 700, 700, 700, 700, 2), 1)
    }
    state = new_job(total_sheets=8, sheets=sheets, extra={"note": "x" * 5_000})

    await backend.save(state)

    assert await loaded(backend) == state
    assert await backend.list_jobs() == [state]


async def test_job_larger_than_a_frame_comes_whole_when_its_sheets_were_saved_one_by_one(
    backend: Backend,
) -> None:
    state = new_job(extra={"note": "x" * 12_000_000})
    await backend.save(state)
    for number in (1, 2, 3):
        sheet = SheetState(sheet_num=number, outcome_data={"log": str(number) * 11_000_000})
        state.sheets[number] = sheet
        await backend.save_sheet("job", sheet)

    found = await loaded(backend)
    (listed,) = await backend.list_jobs()

    assert found.sheets == state.sheets
    assert listed == found


async def test_job_with_one_sheet_as_large_as_a_frame_is_loaded_and_listed(
    backend: Backend,
) -> None:
    await backend.save(new_job())
    await backend.save_sheet("job", SheetState(sheet_num=1, error_message="y" * 900_000))
    await backend.save_sheet("job", SheetState(sheet_num=2, error_message="x" * 33_000_000))
    await backend.save(new_job("other"))

    state = await backend.load("job")

    assert state is not None
    assert [len(one.error_message or "") for one in state.sheets.values()] == [900_000, 33_000_000]
    assert [one.job_id for one in await backend.list_jobs()] == ["other", "job"]


async def test_state_larger_than_a_frame_is_refused_and_the_backend_stays_usable(
    backend: Backend,
) -> None:
    sheets = {
        number: SheetState(sheet_num=number, outcome_data={"log": "x" * 12_000_000})
        for number in (1, 2, 3)
    }

    if not isinstance(backend, SQLiteStateBackend):  # which has no frames
        with pytest.raises(LimitExceeded, match=r"does not fit in a frame .* with save_sheet"):
            await backend.save(new_job(sheets=sheets))
        assert await backend.load("job") is None

    assert await backend.save(new_job()) == 1


# -- what a save means --------------------------------------------------------------------------


async def test_save_gives_growing_revisions_and_sets_them_on_the_state(backend: Backend) -> None:
    state = new_job(updated_at=LONG_AGO)

    first = await backend.save(state)
    after_first = (state.revision, state.updated_at)
    second = await backend.save(state)

    assert (first, second) == (1, 2)
    assert after_first[0] == 1
    assert LONG_AGO < after_first[1] < state.updated_at
    assert state.revision == 2
    assert await loaded(backend) == state


async def test_save_keeps_the_created_at_of_the_first(backend: Backend) -> None:
    await backend.save(new_job(created_at=LONG_AGO))
    await backend.save(new_job(job_name="another"))

    kept = await loaded(backend)

    assert (kept.created_at, kept.job_name) == (LONG_AGO, "another")


async def test_save_removes_sheets_that_are_gone(backend: Backend) -> None:
    await backend.save(with_sheets("job", "completed", "failed", "pending"))

    await backend.save(new_job(sheets={2: SheetState(sheet_num=2)}))

    assert (await loaded(backend)).sheets == {2: SheetState(sheet_num=2)}


async def test_save_of_a_changed_state_is_as_good_as_a_first_one(backend: Backend) -> None:
    state = with_sheets("job", "completed", "failed", "pending")
    await backend.save(state)

    del state.sheets[1]
    state.sheets[2].extra["note"] = "changed in place"
    state.sheets[3] = SheetState(sheet_num=3, status=SheetStatus.READY)
    state.description = "changed too"
    await backend.save(state)

    assert await loaded(backend) == state


async def test_save_of_a_loaded_state_does_not_undo_what_came_between(backend: Backend) -> None:
    await backend.save(with_sheets("job", "pending", "pending"))
    state = await loaded(backend)
    await backend.mark_sheet_status("job", 1, "completed")

    await backend.save(state)

    assert (await loaded(backend)).sheets[1].status is SheetStatus.PENDING


async def test_save_leaves_the_history(backend: Backend) -> None:
    await backend.save(with_sheets("job", "pending"))
    await backend.record_execution("job", 1, 1)

    await backend.save(new_job())

    assert await backend.get_execution_history_count("job") == 1


async def test_save_may_come_from_a_state_that_was_never_loaded(backend: Backend) -> None:
    await backend.save(with_sheets("job", "completed", "failed"))
    other = new_job(total_sheets=9, revision=40, sheets={7: SheetState(sheet_num=7)})

    assert await backend.save(other) == 2

    kept = await loaded(backend)
    assert other.revision == 2
    assert kept == msgspec.structs.replace(other, created_at=kept.created_at)


async def test_states_are_not_shared_with_the_backend(backend: Backend) -> None:
    state = with_sheets("job", "pending")
    await backend.save(state)
    kept = copy_of(state)

    state.sheets[1].extra["spoilt"] = True
    (await loaded(backend)).sheets[1].extra["spoilt"] = True

    assert await loaded(backend) == kept


async def test_saves_of_different_jobs_at_once_do_not_mix(backend: Backend) -> None:
    states = [
        new_job(f"job {n}", sheets={1: SheetState(sheet_num=1, attempt_count=n)}) for n in range(40)
    ]

    await asyncio.gather(*map(backend.save, states))

    assert [await loaded(backend, state.job_id) for state in states] == states


async def test_saves_of_one_job_at_once_leave_one_of_them_whole(backend: Backend) -> None:
    states = [
        new_job(job_name=str(n), sheets={n: SheetState(sheet_num=n)}, total_sheets=20)
        for n in range(1, 17)
    ]

    revisions = await asyncio.gather(*map(backend.save, states))

    last = states[revisions.index(16)]
    assert sorted(revisions) == list(range(1, 17))
    kept = await loaded(backend)
    assert (kept.job_name, kept.sheets) == (last.job_name, last.sheets)


# -- if_revision --------------------------------------------------------------------------------


async def test_save_at_the_kept_revision_succeeds(backend: Backend) -> None:
    state = new_job()
    assert await backend.save(state, if_revision=0) == 1
    assert await backend.save(state, if_revision=1) == 2


@pytest.mark.parametrize(("kept", "expected"), [(0, 1), (1, 0), (2, 1), (1, 2)])
async def test_save_at_another_revision_conflicts_and_changes_nothing(
    backend: Backend, kept: int, expected: int
) -> None:
    for _ in range(kept):
        await backend.save(new_job(job_name="kept"))
    before = await backend.load("job")
    state = new_job(job_name="refused")
    passed_in = copy_of(state)

    with pytest.raises(RevisionConflict, match=f"at revision {kept}, not {expected}") as conflict:
        await backend.save(state, if_revision=expected)

    assert conflict.value.data == {"job_id": "job", "kept": kept, "expected": expected}
    assert await backend.load("job") == before
    assert state == passed_in


async def test_one_of_many_saves_at_the_same_revision_wins(backend: Backend) -> None:
    await backend.save(new_job())
    states = [new_job(job_name=str(n)) for n in range(8)]

    results = await asyncio.gather(
        *(backend.save(state, if_revision=1) for state in states), return_exceptions=True
    )

    assert sorted(type(result).__name__ for result in results) == ["RevisionConflict"] * 7 + ["int"]
    winner = states[results.index(2)]
    assert (await loaded(backend)).job_name == winner.job_name


@pytest.mark.parametrize(
    "change",
    [
        lambda backend: backend.mark_sheet_status("job", 1, "ready"),
        lambda backend: backend.save_sheet("job", SheetState(sheet_num=1)),
        lambda backend: backend.claim_next_sheet("job"),
        lambda backend: backend.save(new_job()),
    ],
    ids=["mark", "save_sheet", "claim", "save"],
)
async def test_every_change_of_the_job_is_a_new_revision(backend: Backend, change: Any) -> None:
    state = new_job()
    await backend.save(state)

    await change(backend)

    with pytest.raises(RevisionConflict):
        await backend.save(state, if_revision=1)
    assert (await loaded(backend)).revision == 2


# -- delete -------------------------------------------------------------------------------------


async def test_delete_says_whether_there_was_a_job(backend: Backend) -> None:
    await backend.save(new_job())
    assert await backend.delete("job") is True
    assert await backend.delete("job") is False
    assert await backend.load("job") is None


async def test_delete_takes_sheets_and_history_and_the_id_can_be_used_again(
    backend: Backend,
) -> None:
    await backend.save(with_sheets("job", "completed", "in_progress", created_at=LONG_AGO))
    await backend.record_execution("job", 1, 1, exit_code=0, duration_seconds=5)
    await backend.claim_next_sheet("job")
    await backend.delete("job")

    state = new_job(total_sheets=2)
    await backend.save(state)

    assert await loaded(backend) == state
    assert state.created_at > LONG_AGO
    assert state.revision == 1
    assert await backend.get_execution_history("job") == []
    assert await backend.get_execution_history_count("job") == 0
    assert (await backend.get_job_statistics("job"))["total_executions"] == 0
    assert await backend.claim_next_sheet("job") == 1


async def test_state_of_a_deleted_job_is_saved_whole_again(backend: Backend) -> None:
    state = with_sheets("job", "completed", "pending")
    await backend.save(state)
    await backend.delete("job")

    assert await backend.save(state) == 1

    assert await loaded(backend) == state


async def test_delete_leaves_other_jobs_alone(backend: Backend) -> None:
    kept = with_sheets("other", "pending")
    await backend.save(kept)
    await backend.save(with_sheets("job", "pending"))
    await backend.record_execution("other", 1, 1)

    await backend.delete("job")

    assert await backend.list_jobs() == [kept]
    assert await backend.get_execution_history_count("other") == 1


# -- list_jobs ----------------------------------------------------------------------------------


async def test_list_jobs_of_an_empty_database_is_empty(backend: Backend) -> None:
    assert await backend.list_jobs() == []


async def test_list_jobs_gives_whole_states_last_updated_first(backend: Backend) -> None:
    for job_id in ("a", "b", "c"):
        await backend.save(with_sheets(job_id, "completed", "failed"))
    await backend.mark_sheet_status("a", 2, "ready")

    found = await backend.list_jobs()

    assert [state.job_id for state in found] == ["a", "c", "b"]
    assert found == [await loaded(backend, job_id) for job_id in ("a", "c", "b")]


@pytest.mark.usefixtures("small_pages")
async def test_list_jobs_pages_underneath(backend: Backend) -> None:
    states = [with_sheets(f"job {n}", *["pending"] * n) for n in range(1, 25)]
    states += [new_job(f"empty {n}") for n in range(12)]
    await asyncio.gather(*map(backend.save, states))

    found = await backend.list_jobs()

    assert {state.job_id: state for state in found} == {state.job_id: state for state in states}
    assert len(found) == len(states)
    updated = [state.updated_at for state in found]
    assert updated == sorted(updated, reverse=True)


# -- bad input ----------------------------------------------------------------------------------

SPOILT: dict[str, tuple[str, Any, str]] = {
    "total_sheets 0": ("total_sheets", 0, r"total_sheets is 0; expected an integer of 1 or more"),
    "unknown status": ("status", "asleep", "status is 'asleep'; expected one of pending, running"),
    "negative count": ("rate_limit_waits", -1, "rate_limit_waits is -1"),
    "name of another type": ("job_name", 7, r"job_name is 7; expected `str`"),
    "naive time": ("started_at", datetime(2026, 1, 1), "started_at is .*; .* time zone"),  # noqa: DTZ001
    "set in extra": ("extra", {"x": {1}}, r"extra\['x'\] is \{1\}; expected a JSON value, not set"),
    "object in extra": ("extra", {"x": object()}, r"extra\['x'\] is .*; .*, not object"),
    "nan": ("config_snapshot", {"x": float("nan")}, r"config_snapshot\['x'\] is nan"),
    "huge integer": ("pid", 2**70, "pid is 1180591620717411303424; .* 64 bits"),
    "no text": ("description", "\ud800", "description.*UTF-8"),
    "a time past the calendar": (
        "completed_at",
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))),
        "completed_at is .*; expected a time in the years 1 to 9999",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
async def test_bad_state_is_refused_and_the_kept_job_stays(backend: Backend, name: str) -> None:
    field, value, reason = SPOILT[name]
    kept = with_sheets("job", "completed", "pending")
    await backend.save(kept)
    state = copy_of(kept)
    setattr(state, field, value)

    with pytest.raises(InvalidRequest, match=reason):
        await backend.save(state)

    assert await loaded(backend) == kept
    assert await backend.save(copy_of(kept)) == 2


SPOILT_SHEETS: dict[str, tuple[str, Any, str]] = {
    "confidence 1.5": ("confidence_score", 1.5, "confidence_score is 1.5; .* from 0 to 1"),
    "unknown status": ("status", "DONE", "status is 'DONE'; expected one of pending, ready"),
    "negative count": ("attempt_count", -1, "attempt_count is -1; .* 0 or more"),
    "bytes": ("extra", {"x": b""}, r"extra\['x'\] is b''; expected a JSON value, not bytes"),
    "list of numbers": ("learned_patterns", [1], r"learned_patterns\[0\] is 1; expected `str`"),
    "model of another type": ("model", 5, r"model is 5; expected `str | null`"),
    "no text": ("error_message", "\ud800", "error_message.*UTF-8"),
}


@pytest.mark.parametrize("name", SPOILT_SHEETS)
async def test_bad_sheet_is_refused_and_the_kept_job_stays(backend: Backend, name: str) -> None:
    field, value, reason = SPOILT_SHEETS[name]
    kept = with_sheets("job", "completed", "pending")
    await backend.save(kept)
    state = copy_of(kept)
    setattr(state.sheets[2], field, value)

    with pytest.raises(InvalidRequest, match=reason):
        await backend.save(state)
    with pytest.raises(InvalidRequest, match=reason):
        await backend.save_sheet("job", state.sheets[2])

    assert await loaded(backend) == kept
    assert await backend.save(copy_of(kept)) == 2


@pytest.mark.parametrize("job_id", ["", "x" * 513, "é" * 257, "\ud800"], ids=ascii)
async def test_bad_job_id_is_refused_by_every_method(backend: Backend, job_id: str) -> None:
    state = new_job()
    state.job_id = job_id
    for call in (
        backend.load(job_id),
        backend.save(state),
        backend.delete(job_id),
        backend.get_next_sheet(job_id),
        backend.mark_sheet_status(job_id, 1, "ready"),
        backend.save_sheet(job_id, SheetState(sheet_num=1)),
        backend.claim_next_sheet(job_id),
        backend.record_execution(job_id, 1, 1),
        backend.get_execution_history(job_id),
        backend.get_execution_history_count(job_id),
        backend.get_job_statistics(job_id),
    ):
        with pytest.raises(
            InvalidRequest, match=r"job_id is .*; expected a text of 1 to 512 bytes"
        ):
            await call

    assert await backend.list_jobs() == []


# -- closing ------------------------------------------------------------------------------------


async def test_close_may_be_called_again(backend: Backend) -> None:
    await backend.save(new_job())
    await backend.close()
    await backend.close()


async def test_backend_of_jobkeep_keeps_history(backend: Backend) -> None:
    assert backend.supports_execution_history is True
