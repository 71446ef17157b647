"""Small jobs for the contract, and how two states are compared."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from jobkeep_protocol.states import CheckpointState, SheetState

SOME_TIME = datetime(2020, 1, 1, tzinfo=UTC)

ODD_JOB_IDS = [
    "a/b/../c",
    "two words",
    "🦊 наука",
    "x" * 512,
    "é" * 256,
    "'; DROP TABLE jobs; --",
    "%_*?",
    "tab\tand\nline",
    "nul\0inside",
    " ",
]


def new_job(job_id: str = "job", total_sheets: int = 3, **fields: Any) -> CheckpointState:
    """A job without sheets."""
    return CheckpointState(job_id=job_id, total_sheets=total_sheets, **fields)


def with_sheets(job_id: str, *statuses: str, **fields: Any) -> CheckpointState:
    """A job whose sheets have these statuses, from 1 on."""
    sheets = {
        number: SheetState(sheet_num=number, status=status)  # type: ignore[arg-type] # text is fine
        for number, status in enumerate(statuses, 1)
    }
    return CheckpointState(job_id=job_id, total_sheets=len(statuses), sheets=sheets, **fields)


def copy_of(state: CheckpointState) -> CheckpointState:
    """A state of its own, equal to this one."""
    return msgspec.convert(msgspec.to_builtins(state), CheckpointState)


def without_times(state: CheckpointState) -> CheckpointState:
    """A copy with every time replaced by whether there is one."""
    found = copy_of(state)
    found.updated_at = found.created_at = SOME_TIME
    parts: list[CheckpointState | SheetState] = [found, *found.sheets.values()]
    for one in parts:
        one.started_at = SOME_TIME if one.started_at else None
        one.completed_at = SOME_TIME if one.completed_at else None
    return found
