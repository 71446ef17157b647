"""What goes from one database into another: the history of a job, whole.

What lives here: an attempt and a failure with all that is kept of them, and what an import tells.
What may not: the operations (those are in `messages`), files, and what a state is (`states`).

These are also the lines of an export: one JSON object a line, `{"job": …}` with a state and its
sheets, and then one line for each of its attempts, `{"execution": …}`, and for each failure that
has no attempt, `{"failure": …}`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

NOT_IN_FILE = "it is not in the file"
"""Why a job that was asked for is not imported."""


class KeptFailure(Struct, frozen=True, omit_defaults=True):
    """An attempt that failed, as `failures` has it."""

    sheet_num: int
    attempt_num: int
    failed_at: datetime
    exit_code: int | None = None
    exit_signal: int | None = None
    exit_reason: str | None = None
    error_category: str | None = None
    error_code: str | None = None
    error_message: str | None = None


class KeptExecution(Struct, frozen=True, omit_defaults=True):
    """A recorded attempt, with its failure if it failed."""

    sheet_num: int
    attempt_num: int
    executed_at: datetime
    prompt: str | None = None
    output: str | None = None
    exit_code: int | None = None
    duration_seconds: float | None = None
    extra: dict[str, Any] | None = None
    """What an earlier tool kept of it beyond that."""
    failure: KeptFailure | None = None


class KeptHistory(Struct, frozen=True, array_like=True):
    """Some attempts of a job, the oldest first, or then some failures without one."""

    executions: list[KeptExecution]
    failures: list[KeptFailure]
    last: int
    """Where the page after this one begins."""
    more: bool = False


class ImportedJob(Struct, frozen=True):
    """What became of one job of an import."""

    job_id: str
    outcome: Literal["imported", "skipped"]
    executions: int = 0
    """Attempts that were added."""
    why: str | None = None
    """Why it was skipped."""


class ImportStep(Struct, frozen=True, array_like=True):
    """Jobs that an import is done with, and whether it goes on."""

    jobs: list[ImportedJob]
    more: bool


class ImportBegun(Struct, frozen=True, array_like=True):
    """Whether a job may be imported: how many of its attempts are kept already, or why not."""

    executions: int | None
    why: str | None = None
