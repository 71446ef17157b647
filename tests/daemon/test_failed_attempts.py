"""The table `failures` has what was said of each failed attempt, in whichever order it was said."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from jobkeep_protocol.states import CheckpointState, SheetState, SheetStatus
from jobkeepd.backend import SQLiteStateBackend


def failures(database: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(
            "SELECT attempt_num, exit_code, exit_signal, error_category, error_code, error_message "
            "FROM failures ORDER BY id"
        ).fetchall()


def failed_sheet(attempt: int, code: str, exit_signal: int | None = None) -> SheetState:
    return SheetState(
        sheet_num=1,
        status=SheetStatus.FAILED,
        attempt_count=attempt,
        exit_signal=exit_signal,
        error_category="timeout" if exit_signal else "exit",
        error_code=code,
        error_message=f"it was {code}",
    )


async def test_sheet_that_is_marked_failed_and_then_described_has_one_row_with_all_of_it(
    tmp_path: Path,
) -> None:
    async with SQLiteStateBackend(tmp_path / "x.db") as backend:
        await backend.save(CheckpointState(job_id="job", total_sheets=1))
        await backend.claim_next_sheet("job")
        await backend.mark_sheet_status("job", 1, "failed", "it was SLOW")

        await backend.save_sheet("job", failed_sheet(1, "SLOW", exit_signal=15))

    assert failures(tmp_path / "x.db") == [(1, None, 15, "timeout", "SLOW", "it was SLOW")]


async def test_description_of_the_second_attempt_leaves_the_first_as_it_was(tmp_path: Path) -> None:
    async with SQLiteStateBackend(tmp_path / "x.db") as backend:
        await backend.save(CheckpointState(job_id="job", total_sheets=1))
        for attempt, code in ((1, "SLOW"), (2, "WRONG")):
            await backend.claim_next_sheet("job", max_attempts=2)
            await backend.record_execution("job", 1, attempt, exit_code=attempt)
            await backend.mark_sheet_status("job", 1, "failed", f"it was {code}")
            await backend.save_sheet("job", failed_sheet(attempt, code))

    assert failures(tmp_path / "x.db") == [
        (1, 1, None, "exit", "SLOW", "it was SLOW"),
        (2, 2, None, "exit", "WRONG", "it was WRONG"),
    ]


async def test_failed_sheet_that_is_cleared_for_another_try_leaves_the_row_as_it_was(
    tmp_path: Path,
) -> None:
    async with SQLiteStateBackend(tmp_path / "x.db") as backend:
        await backend.save(CheckpointState(job_id="job", total_sheets=1))
        await backend.claim_next_sheet("job")
        await backend.save_sheet("job", failed_sheet(1, "SLOW", exit_signal=15))

        await backend.claim_next_sheet("job", max_attempts=2)

    assert failures(tmp_path / "x.db") == [(1, None, 15, "timeout", "SLOW", "it was SLOW")]
