"""What the reports give: figures of many jobs at once.

What lives here: one frozen Struct for each report and those it is made of. What may not: the
requests (those are in `messages`), and how a figure is computed.

Rates are percentages, null where there is nothing that could have succeeded; durations are in
seconds, and percentiles are exact, by nearest rank: the smallest duration that so many percent of
all do not exceed.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

TimelineStep = Literal["hour", "day"]


class Overview(Struct, frozen=True):
    """How the work goes, in one look."""

    jobs: dict[str, int]
    """How many jobs there are of each status; statuses without jobs are left out."""
    job_success_rate: float | None
    """Jobs completed, of those completed, failed or cancelled."""
    sheets_total: int
    """The sheets that the jobs have, finished or not."""
    sheets_completed: int
    sheets_failed: int
    sheets_skipped: int
    sheet_success_rate: float | None
    """Sheets completed, of those completed or failed."""
    span_seconds: float
    """The time that `sheets_per_hour` is about."""
    sheets_per_hour: float | None
    """Sheets completed; null where the span is empty."""
    executions: int
    executions_successful: int
    """With exit code 0."""
    execution_success_rate: float | None
    """Executions with exit code 0, of those with any exit code."""
    failures: int
    """Attempts that failed."""
    retries: int
    """The `total_retry_count` of the jobs."""
    input_tokens: int
    output_tokens: int
    estimated_cost: float


class DurationFigures(Struct, frozen=True):
    """How long executions took, of those whose duration is known."""

    executions: int
    total_seconds: float
    mean_seconds: float | None
    """Null without any execution, as all that follow."""
    p50_seconds: float | None
    p95_seconds: float | None
    p99_seconds: float | None
    max_seconds: float | None


class JobDurations(DurationFigures, frozen=True):
    """How long the executions of one job took."""

    job_id: str


class SheetDurations(DurationFigures, frozen=True):
    """How long the executions of one sheet took."""

    sheet_num: int


class SlowExecution(Struct, frozen=True):
    """An execution that took long."""

    id: int
    job_id: str
    sheet_num: int
    attempt_num: int
    executed_at: datetime
    exit_code: int | None
    duration_seconds: float


class Durations(DurationFigures, frozen=True):
    """How long executions took: all, by job, by sheet, and the slowest."""

    jobs: list[JobDurations]
    """Those with the most time in all, the most first."""
    sheets: list[SheetDurations]
    """The same for the sheets of a job; empty unless one job was asked for."""
    slowest: list[SlowExecution]
    """The slowest first."""


class FailureExample(Struct, frozen=True):
    """An attempt that failed."""

    job_id: str
    sheet_num: int
    attempt_num: int
    failed_at: datetime
    error_message: str | None
    """Cut when it is long."""


class ErrorGroup(Struct, frozen=True):
    """Failures that are alike."""

    error_category: str | None
    error_code: str | None
    exit_code: int | None
    exit_signal: int | None
    failures: int
    jobs: int
    """In how many jobs."""
    first_failed_at: datetime
    last_failed_at: datetime
    example: FailureExample | None
    """The failure that was told last; null when none is kept."""


class Errors(Struct, frozen=True):
    """The failures, by what is alike in them."""

    failures: int
    """All of them, also those of groups that are not listed."""
    groups: list[ErrorGroup]
    """The most frequent first."""


class RuleFigures(Struct, frozen=True):
    """How often a validation passed and failed, by what sheets say of their last attempt."""

    rule: str
    passed: int
    failed: int
    pass_rate: float


class Validations(Struct, frozen=True):
    """Validations, by rule."""

    passed: int
    """Of all rules, also those that are not listed, as the next one."""
    failed: int
    rules: list[RuleFigures]
    """Those that failed most often first."""


class OutcomeFigures(Struct, frozen=True):
    """The sheets of one outcome category."""

    outcome_category: str | None
    """Null for sheets without a category that succeeded without a retry."""
    sheets: int
    completed: int
    failed: int
    without_retry: int
    """Sheets that succeeded without a retry."""


class Outcomes(Struct, frozen=True):
    """How sheets came out, by their outcome category."""

    sheets: int
    """Of all categories, also those that are not listed, as the next one."""
    without_retry: int
    outcomes: list[OutcomeFigures]
    """Those of the most sheets first."""


class TimelineBucket(Struct, frozen=True):
    """What happened in one hour or day of UTC."""

    start: datetime
    executions: int
    successful: int
    """With exit code 0."""
    failed: int
    """With another exit code."""
    mean_seconds: float | None
    sheets_completed: int
    sheets_failed: int
    jobs_completed: int


class Timeline(Struct, frozen=True):
    """What happened, hour by hour or day by day, hours and days without anything included."""

    by: TimelineStep
    buckets: list[TimelineBucket]
    """The earliest first."""
