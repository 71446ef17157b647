"""The state of a job and of its sheets, with their invariants and transitions.

What lives here: `CheckpointState`, `SheetState`, their statuses, and what each transition does to
them. Their fields are those of `CheckpointFields` and `SheetFields`, which check nothing and serve
to decode what has been checked. The daemon applies the same methods to what it keeps, so a
transition on a state object and on the backend are one piece of code. What may not: SQL, I/O,
asyncio.

Two rules hold for this file:

1. Nothing is lost. What a state holds beyond the named fields is in `extra`, at both levels, and
   comes back as it was; so `extra` and every other free-form field hold JSON values only, and
   anything else is refused rather than bent (`values.check_json`).
2. A store is no orchestrator. Any status may follow any; refused is only what no job can be.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, cast

from msgspec import Struct, field

from jobkeep_protocol.values import (
    MIN_INTEGER,
    as_utc,
    check_integer,
    check_integers,
    check_job_id,
    check_json,
    check_number,
    check_sheet_num,
    member,
    refused,
)

UNKNOWN_FAILURE = "Unknown failure (no message was recorded)"
UNKNOWN_ERROR = "Unknown error"


class JobStatus(enum.StrEnum):
    """Where a job is. A job that is completed, failed or cancelled is over (`is_terminal`)."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    PAUSED = "paused"
    PAUSED_AT_CHAIN = "paused_at_chain"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether the job is over: completed, failed or cancelled."""
        return self in {JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED}


class SheetStatus(enum.StrEnum):
    """Where a sheet is. The last four are `is_terminal`."""

    PENDING = "pending"
    READY = "ready"
    DISPATCHED = "dispatched"
    IN_PROGRESS = "in_progress"
    WAITING = "waiting"
    RETRY_SCHEDULED = "retry_scheduled"
    FERMATA = "fermata"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether the sheet is over: completed, failed, skipped or cancelled."""
        return self in TERMINAL_SHEET_STATUSES


TERMINAL_SHEET_STATUSES = frozenset(
    {SheetStatus.COMPLETED, SheetStatus.FAILED, SheetStatus.SKIPPED, SheetStatus.CANCELLED}
)
NEXT_SHEET_STATUSES = frozenset({SheetStatus.PENDING, SheetStatus.READY, SheetStatus.FAILED})
"""A sheet in one of these (or missing) may be what `get_next_sheet` gives."""


def utc_now() -> datetime:
    """The time now, aware, in UTC."""
    return datetime.now(UTC)


class SheetFields(Struct, kw_only=True, omit_defaults=True):
    """The fields of a sheet, unchecked; see `SheetState`."""

    sheet_num: int
    status: SheetStatus = SheetStatus.PENDING
    started_at: datetime | None = None
    completed_at: datetime | None = None
    attempt_count: int = 0
    exit_code: int | None = None
    exit_signal: int | None = None
    exit_reason: str | None = None
    execution_duration_seconds: float | None = None
    error_message: str | None = None
    error_category: str | None = None
    error_code: str | None = None
    validation_passed: bool | None = None
    validation_details: list[dict[str, Any]] | None = None
    completion_attempts: int = 0
    passed_validations: list[str] | None = field(default_factory=list)
    failed_validations: list[str] | None = field(default_factory=list)
    last_pass_percentage: float | None = None
    execution_mode: str | None = None
    outcome_data: dict[str, Any] | None = None
    confidence_score: float | None = None
    learned_patterns: list[str] | None = field(default_factory=list)
    similar_outcomes_count: int = 0
    success_without_retry: bool = False
    outcome_category: str | None = None
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    estimated_cost: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)


class SheetState(SheetFields, kw_only=True, omit_defaults=True):
    """One numbered step of a job: where it is, and what is known about its latest attempt.

    `confidence_score` goes from 0 to 1, `last_pass_percentage` from 0 to 100,
    `execution_duration_seconds` is in seconds and `estimated_cost` in the caller's currency.
    Raises InvalidRequest for a value that is not allowed.
    """

    def __post_init__(self) -> None:
        self.status = member(SheetStatus, "status", self.status)
        self.check()
        if self.status is SheetStatus.COMPLETED and self.completed_at is None:
            self.completed_at = utc_now()
        elif self.status is SheetStatus.IN_PROGRESS and self.started_at is None:
            self.started_at = utc_now()
        elif self.status is SheetStatus.FAILED and self.error_message is None:
            self.error_message = UNKNOWN_FAILURE

    def check(self) -> None:
        """Refuse values that are not allowed, as after setting fields by hand."""
        check_integers(self, _SHEET_INTEGERS)
        check_integers(self, _SHEET_OPTIONAL_INTEGERS, may_be_none=True)
        if self.confidence_score is not None:
            check_number("confidence_score", self.confidence_score, 0, 1)
        if self.last_pass_percentage is not None:
            check_number("last_pass_percentage", self.last_pass_percentage)
        if self.execution_duration_seconds is not None:
            check_number("execution_duration_seconds", self.execution_duration_seconds, 0)
        if self.estimated_cost is not None:
            check_number("estimated_cost", self.estimated_cost)
        _check_times(self, ("started_at", "completed_at"))
        _check_json_values(self, ("validation_details", "outcome_data", "extra"))


class CheckpointFields(Struct, kw_only=True, omit_defaults=True):
    """The fields of a job, unchecked; see `CheckpointState`."""

    job_id: str
    job_name: str = ""
    description: str | None = None
    config_hash: str | None = None
    config_snapshot: dict[str, Any] | None = None
    config_path: str | None = None
    created_at: datetime = field(default_factory=utc_now)
    updated_at: datetime = field(default_factory=utc_now)
    started_at: datetime | None = None
    completed_at: datetime | None = None
    total_sheets: int
    last_completed_sheet: int = 0
    current_sheet: int | None = None
    status: JobStatus = JobStatus.PENDING
    sheets: dict[int, SheetState] = field(default_factory=dict)
    pid: int | None = None
    error_message: str | None = None
    total_retry_count: int = 0
    rate_limit_waits: int = 0
    revision: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


class CheckpointState(CheckpointFields, kw_only=True, omit_defaults=True):
    """One resumable job with all its sheets, as it is loaded and saved.

    `revision` counts the changes of the kept job and is 0 for one that was never saved; `save`
    sets it, and `updated_at`, on the object it is given. Raises InvalidRequest for a value that
    is not allowed.
    """

    def __post_init__(self) -> None:
        self.status = member(JobStatus, "status", self.status)
        self.check()
        if self.status is JobStatus.RUNNING:
            self.started_at = self.started_at or utc_now()
            self.completed_at = None

    def check(self) -> None:
        """Refuse values that are not allowed, as after setting fields by hand."""
        check_job_id(self.job_id)
        check_integers(self, _JOB_INTEGERS)
        check_integers(self, _JOB_OPTIONAL_INTEGERS, may_be_none=True)
        _check_times(self, ("created_at", "updated_at", "started_at", "completed_at"))
        _check_json_values(self, ("config_snapshot", "extra"))
        for number, sheet in self.sheets.items():
            if number != sheet.sheet_num:
                raise refused(f"sheets[{number}].sheet_num", sheet.sheet_num, f"{number}, its key")

    def get_next_sheet(self) -> int | None:
        """The sheet to work on next, None when there is none.

        The current sheet while it is in progress, else the first one after
        `last_completed_sheet` that is missing, pending, ready or failed. None for a job that is
        completed or cancelled.
        """
        if self.status in {JobStatus.COMPLETED, JobStatus.CANCELLED}:
            return None
        if self.current_sheet is not None:
            current = self.sheets.get(self.current_sheet)
            if current is not None and current.status is SheetStatus.IN_PROGRESS:
                return self.current_sheet
        for number in range(self.last_completed_sheet + 1, self.total_sheets + 1):
            sheet = self.sheets.get(number)
            if sheet is None or sheet.status in NEXT_SHEET_STATUSES:
                return number
        return None

    def mark_sheet_started(self, sheet_num: int) -> None:
        """Begin an attempt: job running, sheet in progress, one attempt more."""
        sheet = self._sheet(sheet_num)
        start_sheet(self, sheet)

    def mark_sheet_completed(
        self,
        sheet_num: int,
        validation_passed: bool = True,
        validation_details: list[dict[str, Any]] | None = None,
        execution_duration_seconds: float | None = None,
    ) -> None:
        """End an attempt well. The job is completed when all of `total_sheets` sheets are."""
        sheet = self._sheet(sheet_num)
        complete_sheet(
            self, sheet, validation_passed, validation_details, execution_duration_seconds
        )
        if len(self.sheets) >= self.total_sheets and self._completed() >= self.total_sheets:
            complete_job(self)

    def mark_sheet_failed(
        self,
        sheet_num: int,
        error_message: str,
        error_category: str | None = None,
        exit_code: int | None = None,
        exit_signal: int | None = None,
        exit_reason: str | None = None,
        execution_duration_seconds: float | None = None,
    ) -> None:
        """End an attempt badly. An empty message becomes "Unknown error"."""
        sheet = self._sheet(sheet_num)
        fail_sheet(self, sheet, error_message)
        sheet.error_category = error_category
        sheet.exit_code = exit_code
        sheet.exit_signal = exit_signal
        sheet.exit_reason = exit_reason
        if execution_duration_seconds is not None:
            sheet.execution_duration_seconds = execution_duration_seconds

    def mark_sheet_skipped(self, sheet_num: int, reason: str | None = None) -> None:
        """Leave a sheet out; the reason, when given, is kept in its error_message."""
        sheet = self._sheet(sheet_num)
        skip_sheet(self, sheet, reason)

    def mark_job_failed(self, error_message: str) -> None:
        """The job as a whole failed."""
        self._leave(JobStatus.FAILED)
        self.error_message = error_message or UNKNOWN_ERROR
        self.completed_at = self.updated_at

    def mark_job_paused(self) -> None:
        """The job stops for now and can be resumed."""
        self._leave(JobStatus.PAUSED)

    def mark_job_cancelled(self) -> None:
        """The job stops for good."""
        self._leave(JobStatus.CANCELLED)
        self.completed_at = self.updated_at

    def mark_zombie_detected(self, reason: str | None = None) -> None:
        """The process of this running job is dead: paused, and why, unless an error is there."""
        dead = "its process" if self.pid is None else f"its process {self.pid}"
        self._leave(JobStatus.PAUSED)
        if not self.error_message:
            why = f" ({reason})" if reason else ""
            self.error_message = (
                f"The job was running but {dead} is gone{why}; it is paused and can be resumed"
            )

    def set_running_pid(self, pid: int | None = None) -> None:
        """Say which process runs the job (by default this one), so that its death is noticed."""
        self.pid = os.getpid() if pid is None else pid
        self.updated_at = utc_now()

    def _completed(self) -> int:
        return sum(
            one.status is SheetStatus.COMPLETED and one.sheet_num <= self.total_sheets
            for one in self.sheets.values()
        )

    def _leave(self, status: JobStatus) -> None:
        self.status = status
        self.pid = None
        self.updated_at = utc_now()

    def _sheet(self, sheet_num: int) -> SheetState:
        check_sheet_num(sheet_num, self.total_sheets)
        sheet = self.sheets.get(sheet_num)
        if sheet is None:
            sheet = self.sheets[sheet_num] = SheetState(sheet_num=sheet_num)
        return sheet


def trusted_state(fields: CheckpointFields, sheets: Iterable[SheetFields] = ()) -> CheckpointState:
    """The state with these fields, whose values are known to be allowed.

    A client reads what a daemon has checked: to check it again cost more than all the rest of a
    load. The objects themselves become states; msgspec lays out a Struct by its fields, and these
    add none.
    """
    for sheet in sheets:
        sheet.__class__ = SheetState
        fields.sheets[sheet.sheet_num] = cast("SheetState", sheet)
    fields.__class__ = CheckpointState
    return cast("CheckpointState", fields)


def start_sheet(job: CheckpointState, sheet: SheetState) -> None:
    """What `mark_sheet_started` does to a job (whose other sheets need not be at hand)."""
    attempts = _one_more("attempt_count", sheet.attempt_count)
    now = utc_now()
    job.status = JobStatus.RUNNING
    job.started_at = job.started_at or now
    job.completed_at = None
    job.current_sheet = sheet.sheet_num
    job.updated_at = now
    sheet.status = SheetStatus.IN_PROGRESS
    sheet.started_at = now
    sheet.attempt_count = attempts
    sheet.error_message = None
    sheet.exit_code = None
    sheet.execution_mode = None


def complete_sheet(
    job: CheckpointState,
    sheet: SheetState,
    validation_passed: bool = True,
    validation_details: list[dict[str, Any]] | None = None,
    execution_duration_seconds: float | None = None,
) -> None:
    """What `mark_sheet_completed` does, less the question whether the job is completed too."""
    now = utc_now()
    job.last_completed_sheet = max(job.last_completed_sheet, sheet.sheet_num)
    job.current_sheet = None
    job.updated_at = now
    sheet.status = SheetStatus.COMPLETED
    sheet.completed_at = now
    sheet.exit_code = 0
    sheet.validation_passed = validation_passed
    sheet.validation_details = validation_details
    if execution_duration_seconds is not None:
        sheet.execution_duration_seconds = execution_duration_seconds


def complete_job(job: CheckpointState) -> None:
    """Every sheet is completed, and so is the job."""
    job.status = JobStatus.COMPLETED
    job.completed_at = job.updated_at


def fail_sheet(job: CheckpointState, sheet: SheetState, error_message: str | None) -> None:
    """What `mark_sheet_failed` does when it is told nothing but a message."""
    retries = _one_more("total_retry_count", job.total_retry_count)
    now = utc_now()
    job.current_sheet = None
    job.total_retry_count = retries
    job.updated_at = now
    sheet.status = SheetStatus.FAILED
    sheet.completed_at = now
    sheet.error_message = error_message or UNKNOWN_ERROR
    sheet.error_category = None
    sheet.exit_code = None
    sheet.exit_signal = None
    sheet.exit_reason = None


def skip_sheet(job: CheckpointState, sheet: SheetState, reason: str | None) -> None:
    """What `mark_sheet_skipped` does."""
    now = utc_now()
    job.current_sheet = None
    job.updated_at = now
    sheet.status = SheetStatus.SKIPPED
    sheet.completed_at = now
    if reason:
        sheet.error_message = reason


def _one_more(name: str, count: int) -> int:
    check_integer(name, count + 1)
    return count + 1


_SHEET_INTEGERS = {
    "sheet_num": 1,
    "attempt_count": 0,
    "completion_attempts": 0,
    "similar_outcomes_count": 0,
}
_SHEET_OPTIONAL_INTEGERS = dict.fromkeys(
    ("exit_code", "exit_signal", "input_tokens", "output_tokens"), MIN_INTEGER
)
_JOB_INTEGERS = {
    "total_sheets": 1,
    "last_completed_sheet": 0,
    "total_retry_count": 0,
    "rate_limit_waits": 0,
    "revision": 0,
}
_JOB_OPTIONAL_INTEGERS = dict.fromkeys(("current_sheet", "pid"), MIN_INTEGER)


def _check_times(state: Struct, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(state, name)
        if value is not None:
            setattr(state, name, as_utc(name, value))


def _check_json_values(state: Struct, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(state, name)
        if value:
            check_json(name, value)
