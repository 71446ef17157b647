"""States: their invariants, what they refuse, and every transition."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.states import (
    UNKNOWN_ERROR,
    UNKNOWN_FAILURE,
    CheckpointState,
    JobStatus,
    SheetState,
    SheetStatus,
)

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def job(**fields: Any) -> CheckpointState:
    """A job of three sheets, last touched long ago."""
    defaults: dict[str, Any] = {
        "job_id": "job",
        "total_sheets": 3,
        "created_at": LONG_AGO,
        "updated_at": LONG_AGO,
    }
    return CheckpointState(**{**defaults, **fields})


# -- statuses -----------------------------------------------------------------------------------


def test_job_statuses_are_these_texts() -> None:
    assert list(JobStatus) == [
        *("pending", "running", "completed", "failed", "paused", "paused_at_chain", "cancelled")
    ]


def test_sheet_statuses_are_these_texts() -> None:
    assert list(SheetStatus) == [
        *("pending", "ready", "dispatched", "in_progress", "waiting", "retry_scheduled"),
        *("fermata", "completed", "failed", "skipped", "cancelled"),
    ]


@pytest.mark.parametrize("status", SheetStatus)
def test_last_four_sheet_statuses_are_terminal(status: SheetStatus) -> None:
    assert status.is_terminal is (status in {"completed", "failed", "skipped", "cancelled"})


@pytest.mark.parametrize("status", JobStatus)
def test_completed_failed_and_cancelled_jobs_are_over(status: JobStatus) -> None:
    assert status.is_terminal is (status in {"completed", "failed", "cancelled"})


# -- construction -------------------------------------------------------------------------------


def test_new_sheet_has_these_values() -> None:
    sheet = SheetState(sheet_num=1)

    assert {name: getattr(sheet, name) for name in sheet.__struct_fields__} == {
        "sheet_num": 1,
        "status": SheetStatus.PENDING,
        "started_at": None,
        "completed_at": None,
        "attempt_count": 0,
        "exit_code": None,
        "exit_signal": None,
        "exit_reason": None,
        "execution_duration_seconds": None,
        "error_message": None,
        "error_category": None,
        "error_code": None,
        "validation_passed": None,
        "validation_details": None,
        "completion_attempts": 0,
        "passed_validations": [],
        "failed_validations": [],
        "last_pass_percentage": None,
        "execution_mode": None,
        "outcome_data": None,
        "confidence_score": None,
        "learned_patterns": [],
        "similar_outcomes_count": 0,
        "success_without_retry": False,
        "outcome_category": None,
        "model": None,
        "input_tokens": None,
        "output_tokens": None,
        "estimated_cost": None,
        "extra": {},
    }


def test_new_job_has_these_values() -> None:
    before = datetime.now(UTC)

    state = CheckpointState(job_id="job", total_sheets=3)

    values = {name: getattr(state, name) for name in state.__struct_fields__}
    assert before <= values.pop("created_at") <= values.pop("updated_at") <= datetime.now(UTC)
    assert values == {
        "job_id": "job",
        "job_name": "",
        "description": None,
        "config_hash": None,
        "config_snapshot": None,
        "config_path": None,
        "started_at": None,
        "completed_at": None,
        "total_sheets": 3,
        "last_completed_sheet": 0,
        "current_sheet": None,
        "status": JobStatus.PENDING,
        "sheets": {},
        "pid": None,
        "error_message": None,
        "total_retry_count": 0,
        "rate_limit_waits": 0,
        "revision": 0,
        "extra": {},
    }


def test_lists_and_dicts_are_not_shared_between_states() -> None:
    one, other = SheetState(sheet_num=1), SheetState(sheet_num=1)
    assert one.extra is not other.extra
    assert one.passed_validations is not other.passed_validations
    assert job().sheets is not job().sheets


@pytest.mark.parametrize("status", ["completed", SheetStatus.COMPLETED])
def test_status_may_be_text_and_is_kept_as_our_enum(status: SheetStatus) -> None:
    assert SheetState(sheet_num=1, status=status).status is SheetStatus.COMPLETED


def test_completed_sheet_has_a_time_of_completion() -> None:
    assert SheetState(sheet_num=1, status=SheetStatus.COMPLETED).completed_at is not None
    kept = SheetState(sheet_num=1, status=SheetStatus.COMPLETED, completed_at=LONG_AGO)
    assert kept.completed_at == LONG_AGO


def test_sheet_in_progress_has_a_time_of_start() -> None:
    assert SheetState(sheet_num=1, status=SheetStatus.IN_PROGRESS).started_at is not None
    kept = SheetState(sheet_num=1, status=SheetStatus.IN_PROGRESS, started_at=LONG_AGO)
    assert kept.started_at == LONG_AGO


def test_failed_sheet_has_a_message() -> None:
    assert SheetState(sheet_num=1, status=SheetStatus.FAILED).error_message == UNKNOWN_FAILURE
    kept = SheetState(sheet_num=1, status=SheetStatus.FAILED, error_message="it broke")
    assert kept.error_message == "it broke"
    assert UNKNOWN_FAILURE == "Unknown failure (no message was recorded)"


def test_running_job_has_a_start_and_no_end() -> None:
    state = job(status="running", completed_at=LONG_AGO)
    assert state.started_at is not None
    assert state.completed_at is None
    assert job(status="running", started_at=LONG_AGO).started_at == LONG_AGO


def test_times_of_any_zone_become_utc_to_the_microsecond() -> None:
    there = datetime(2026, 3, 1, 14, 0, 0, 123457, tzinfo=timezone(timedelta(hours=2)))

    state = job(created_at=there, sheets={1: SheetState(sheet_num=1, started_at=there)})

    expected = datetime(2026, 3, 1, 12, 0, 0, 123457, tzinfo=UTC)
    assert (state.created_at, state.created_at.tzinfo) == (expected, UTC)
    assert state.sheets[1].started_at == expected


# -- refusals -----------------------------------------------------------------------------------

REFUSED_BY_JOBS = [
    ("job_id", "", "1 to 512 bytes"),
    ("job_id", "x" * 513, "1 to 512 bytes"),
    ("job_id", "é" * 257, "1 to 512 bytes"),
    ("job_id", "\ud800", "UTF-8"),
    ("total_sheets", 0, "1 or more"),
    ("total_sheets", True, "1 or more"),
    ("total_sheets", 2**63, "2^63 - 1"),
    ("last_completed_sheet", -1, "0 or more"),
    ("total_retry_count", -1, "0 or more"),
    ("rate_limit_waits", -1, "0 or more"),
    ("revision", -1, "0 or more"),
    ("current_sheet", 2**63, "64 bits"),
    ("pid", 2**63, "64 bits"),
    ("status", "sleeping", "paused_at_chain"),
    ("created_at", datetime(2026, 1, 1), "time zone"),  # noqa: DTZ001 # that is the point
    ("updated_at", "yesterday", "time zone"),
    ("started_at", datetime(2026, 1, 1), "time zone"),  # noqa: DTZ001
    ("completed_at", datetime(2026, 1, 1), "time zone"),  # noqa: DTZ001
]


@pytest.mark.parametrize(("field", "value", "allowed"), REFUSED_BY_JOBS)
def test_job_refuses_naming_field_value_and_what_is_allowed(
    field: str, value: Any, allowed: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        job(**{field: value})

    _assert_names(refused.value, field, value, allowed)


REFUSED_BY_SHEETS = [
    ("sheet_num", 0, "1 or more"),
    ("sheet_num", 1.0, "1 or more"),
    ("status", "COMPLETED", "retry_scheduled"),
    ("attempt_count", -1, "0 or more"),
    ("completion_attempts", -1, "0 or more"),
    ("similar_outcomes_count", -1, "0 or more"),
    ("confidence_score", 1.5, "from 0 to 1"),
    ("confidence_score", -0.1, "from 0 to 1"),
    ("confidence_score", float("nan"), "from 0 to 1"),
    ("last_pass_percentage", float("inf"), "finite"),
    ("execution_duration_seconds", -1.0, "0 or more"),
    ("estimated_cost", float("nan"), "finite"),
    ("exit_code", 2**63, "64 bits"),
    ("exit_signal", "SIGKILL", "integer"),
    ("input_tokens", 1.5, "integer"),
    ("output_tokens", False, "integer"),
    ("started_at", datetime(2026, 1, 1), "time zone"),  # noqa: DTZ001
    ("completed_at", "now", "time zone"),
]


@pytest.mark.parametrize(("field", "value", "allowed"), REFUSED_BY_SHEETS)
def test_sheet_refuses_naming_field_value_and_what_is_allowed(
    field: str, value: Any, allowed: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        SheetState(**{"sheet_num": 1, field: value})

    _assert_names(refused.value, field, value, allowed)


def _assert_names(error: InvalidRequest, field: str, value: Any, allowed: str) -> None:
    shown = ascii(value) if value == "\ud800" else repr(value)
    assert str(error).startswith(f"{field} is {shown[:80]}")
    assert allowed in str(error)
    assert error.data["field"] == field
    assert allowed in error.data["expected"]


@pytest.mark.parametrize("field", ["config_snapshot", "extra"])
def test_job_refuses_what_json_does_not_have(field: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"{field}\['x'\]\[0\] is .*, not set"):
        job(**{field: {"x": [set()]}})


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [
        ("extra", {"x": b""}, r"extra\['x'\]"),
        ("outcome_data", {"x": {"y": object()}}, r"outcome_data\['x'\]\['y'\]"),
        ("validation_details", [{"x": {1: 2}}], r"a key of validation_details\[0\]\['x'\]"),
    ],
)
def test_sheet_refuses_what_json_does_not_have(field: str, value: Any, where: str) -> None:
    with pytest.raises(InvalidRequest, match=where):
        SheetState(**{"sheet_num": 1, field: value})


def test_job_refuses_a_sheet_under_another_number() -> None:
    with pytest.raises(InvalidRequest, match=r"sheets\[2\]\.sheet_num is 1; expected 2, its key"):
        job(sheets={2: SheetState(sheet_num=1)})


def test_check_finds_what_was_set_by_hand() -> None:
    sheet, state = SheetState(sheet_num=1), job()
    sheet.confidence_score = 1.5
    state.total_sheets = 0

    with pytest.raises(InvalidRequest, match=r"confidence_score is 1\.5"):
        sheet.check()
    with pytest.raises(InvalidRequest, match="total_sheets is 0"):
        state.check()


# -- transitions: starting ----------------------------------------------------------------------


def test_starting_a_missing_sheet_creates_it_and_runs_the_job() -> None:
    state = job()

    state.mark_sheet_started(2)

    sheet = state.sheets[2]
    assert (sheet.sheet_num, sheet.status, sheet.attempt_count) == (2, "in_progress", 1)
    assert (state.status, state.current_sheet) == (JobStatus.RUNNING, 2)
    assert sheet.started_at == state.started_at == state.updated_at
    assert state.updated_at > LONG_AGO


def test_starting_again_counts_the_attempt_and_clears_the_last_ones_end() -> None:
    failed = SheetState(
        sheet_num=1,
        status=SheetStatus.FAILED,
        started_at=LONG_AGO,
        attempt_count=2,
        error_message="it broke",
        exit_code=3,
        execution_mode="retry",
    )
    state = job(status="failed", started_at=LONG_AGO, completed_at=LONG_AGO, sheets={1: failed})

    state.mark_sheet_started(1)

    assert (failed.status, failed.attempt_count) == ("in_progress", 3)
    assert (failed.error_message, failed.exit_code, failed.execution_mode) == (None, None, None)
    assert failed.started_at == state.updated_at
    assert (state.started_at, state.completed_at) == (LONG_AGO, None)


# -- transitions: completing --------------------------------------------------------------------


def test_completing_a_sheet_keeps_what_is_told_about_it() -> None:
    state = job(current_sheet=1)

    state.mark_sheet_completed(1, False, [{"rule": "r"}], 2.5)

    sheet = state.sheets[1]
    assert (sheet.status, sheet.exit_code) == ("completed", 0)
    assert (sheet.validation_passed, sheet.validation_details) == (False, [{"rule": "r"}])
    assert sheet.execution_duration_seconds == 2.5
    assert sheet.completed_at == state.updated_at
    assert (state.current_sheet, state.last_completed_sheet, state.status) == (None, 1, "pending")


def test_completing_a_sheet_passes_validation_unless_told_otherwise() -> None:
    state = job(sheets={1: SheetState(sheet_num=1, execution_duration_seconds=4.0)})

    state.mark_sheet_completed(1)

    assert state.sheets[1].validation_passed is True
    assert state.sheets[1].validation_details is None
    assert state.sheets[1].execution_duration_seconds == 4.0


def test_last_completed_sheet_only_advances() -> None:
    state = job()

    for number, expected in ((2, 2), (1, 2), (2, 2)):
        state.mark_sheet_completed(number)
        assert state.last_completed_sheet == expected


def test_job_is_completed_when_every_sheet_is_in_whatever_order() -> None:
    state = job(status="running")

    state.mark_sheet_completed(3)
    state.mark_sheet_completed(1)
    before = state.status
    state.mark_sheet_completed(2)

    assert (before, state.status) == ("running", "completed")
    assert state.completed_at == state.updated_at


def test_last_sheet_does_not_complete_a_job_with_an_unfinished_one() -> None:
    state = job(status="running", sheets={2: SheetState(sheet_num=2, status=SheetStatus.SKIPPED)})

    state.mark_sheet_completed(1)
    state.mark_sheet_completed(3)

    assert (state.status, state.completed_at) == ("running", None)


# -- transitions: failing and skipping ----------------------------------------------------------


def test_failing_a_sheet_keeps_what_is_told_about_it() -> None:
    state = job(current_sheet=1, status="running")

    state.mark_sheet_failed(1, "it broke", "crash", 3, 9, "killed", 1.5)

    sheet = state.sheets[1]
    assert (sheet.status, sheet.error_message, sheet.error_category) == (
        *("failed", "it broke", "crash"),
    )
    assert (sheet.exit_code, sheet.exit_signal, sheet.exit_reason) == (3, 9, "killed")
    assert sheet.execution_duration_seconds == 1.5
    assert sheet.completed_at == state.updated_at
    assert (state.current_sheet, state.total_retry_count, state.status) == (None, 1, "running")


def test_failing_without_more_ado_forgets_how_it_failed_before() -> None:
    state = job()
    state.mark_sheet_failed(1, "it broke", "crash", 3, 9, "killed", 1.5)

    state.mark_sheet_failed(1, "")

    sheet = state.sheets[1]
    assert sheet.error_message == UNKNOWN_ERROR == "Unknown error"
    assert (sheet.error_category, sheet.exit_code) == (None, None)
    assert (sheet.exit_signal, sheet.exit_reason) == (None, None)
    assert sheet.execution_duration_seconds == 1.5
    assert state.total_retry_count == 2


@pytest.mark.parametrize(("reason", "kept"), [("not needed", "not needed"), (None, None)])
def test_skipping_a_sheet_keeps_the_reason(reason: str | None, kept: str | None) -> None:
    state = job(current_sheet=1)

    state.mark_sheet_skipped(1, reason)

    sheet = state.sheets[1]
    assert (sheet.status, sheet.error_message) == ("skipped", kept)
    assert sheet.completed_at == state.updated_at
    assert (state.current_sheet, state.last_completed_sheet) == (None, 0)


MARKS: list[Callable[[CheckpointState, int], None]] = [
    CheckpointState.mark_sheet_started,
    CheckpointState.mark_sheet_completed,
    lambda state, number: state.mark_sheet_failed(number, "x"),
    CheckpointState.mark_sheet_skipped,
]


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("number", [-1, 0, 4, True, "1"])
def test_sheet_outside_the_job_is_refused_and_nothing_changes(
    mark: Callable[[CheckpointState, Any], None], number: Any
) -> None:
    state = job(status="paused", sheets={1: SheetState(sheet_num=1)})

    with pytest.raises(InvalidRequest, match=r"sheet_num is .*; expected 1 to 3, the job's"):
        mark(state, number)

    assert state == job(status="paused", sheets={1: SheetState(sheet_num=1)})


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("status", SheetStatus)
def test_any_status_may_follow_any(
    mark: Callable[[CheckpointState, int], None], status: SheetStatus
) -> None:
    state = job(sheets={1: SheetState(sheet_num=1, status=status)})
    fresh = job()

    mark(state, 1)
    mark(fresh, 1)

    assert state.sheets[1].status is fresh.sheets[1].status


# -- transitions: the job -----------------------------------------------------------------------


@pytest.mark.parametrize(("message", "kept"), [("no disk", "no disk"), ("", UNKNOWN_ERROR)])
def test_failed_job_has_a_message_an_end_and_no_process(message: str, kept: str) -> None:
    state = job(status="running", pid=1)

    state.mark_job_failed(message)

    assert (state.status, state.error_message, state.pid) == ("failed", kept, None)
    assert state.completed_at == state.updated_at > LONG_AGO


def test_paused_job_has_no_process_and_no_end() -> None:
    state = job(status="running", pid=1, error_message="kept")

    state.mark_job_paused()

    assert (state.status, state.pid, state.completed_at) == ("paused", None, None)
    assert state.error_message == "kept"
    assert state.updated_at > LONG_AGO


def test_cancelled_job_has_an_end_and_no_process() -> None:
    state = job(status="running", pid=1)

    state.mark_job_cancelled()

    assert (state.status, state.pid) == ("cancelled", None)
    assert state.completed_at == state.updated_at > LONG_AGO


def test_zombie_is_paused_and_says_why() -> None:
    state = job(status="running", pid=77)

    state.mark_zombie_detected("rebooted")

    assert (state.status, state.pid, state.completed_at) == ("paused", None, None)
    assert state.error_message is not None
    assert "process 77 is gone (rebooted)" in state.error_message
    assert state.updated_at > LONG_AGO


def test_zombie_without_a_known_process_or_reason_says_so() -> None:
    state = job(status="running")

    state.mark_zombie_detected()

    assert state.error_message == (
        "The job was running but its process is gone; it is paused and can be resumed"
    )


def test_zombie_keeps_an_error_that_is_there() -> None:
    state = job(status="running", pid=77, error_message="the real cause")

    state.mark_zombie_detected("rebooted")

    assert state.error_message == "the real cause"


@pytest.mark.parametrize(
    ("given", "kept"), [(None, os.getpid()), (4242, 4242)], ids=["own", "told"]
)
def test_running_pid_is_our_own_unless_told(given: int | None, kept: int) -> None:
    state = job()

    state.set_running_pid(given)

    assert (state.pid, state.status) == (kept, "pending")
    assert state.updated_at > LONG_AGO


# -- the next sheet -----------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["completed", "cancelled"])
def test_finished_job_has_no_next_sheet(status: str) -> None:
    assert job(status=status).get_next_sheet() is None


def test_sheet_in_progress_is_the_next_one() -> None:
    state = job()
    state.mark_sheet_started(3)
    assert state.get_next_sheet() == 3


@pytest.mark.parametrize("current", [0, 2, 9])
def test_current_sheet_that_is_not_in_progress_does_not_count(current: int) -> None:
    waiting = SheetState(sheet_num=2, status=SheetStatus.WAITING)
    assert job(current_sheet=current, sheets={2: waiting}).get_next_sheet() == 1


@pytest.mark.parametrize("status", SheetStatus)
def test_next_is_the_first_pending_ready_or_failed_sheet(status: SheetStatus) -> None:
    state = job(sheets={1: SheetState(sheet_num=1, status=status)})
    assert state.get_next_sheet() == (1 if status in {"pending", "ready", "failed"} else 2)


def test_sheets_up_to_the_last_completed_one_are_not_looked_at() -> None:
    state = job(last_completed_sheet=2, sheets={1: SheetState(sheet_num=1)})
    assert state.get_next_sheet() == 3


def test_there_is_no_next_sheet_after_the_last() -> None:
    assert job(last_completed_sheet=3).get_next_sheet() is None
    assert job(last_completed_sheet=9).get_next_sheet() is None


def test_sheets_beyond_the_total_do_not_complete_a_job() -> None:
    state = CheckpointState(
        job_id="job",
        total_sheets=2,
        sheets={3: SheetState(sheet_num=3, status=SheetStatus.COMPLETED)},
    )

    state.mark_sheet_completed(2)

    assert state.status is JobStatus.PENDING
