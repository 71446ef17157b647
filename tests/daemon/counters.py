"""What the counters of a database must be, counted anew from its rows."""

from __future__ import annotations

import itertools
import sqlite3
from datetime import datetime
from typing import Any

from jobkeepd.store.reads import _SELECT_SHEET_COUNT
from jobkeepd.store.rows import sequence_at

_KEPT = (
    "SELECT id, total_sheets, sheets_completed, sheets_through, executions, "
    "executions_successful, executions_timed, executions_seconds FROM jobs"
)


def assert_counters_are_right(
    connection: sqlite3.Connection, *, are_attempts_removed: bool = False
) -> None:
    """Compare each counter with a count.

    With `are_attempts_removed` the figures of jobs count attempts that are not kept any more.
    """
    for job_id, total, *kept in connection.execute(_KEPT).fetchall():
        sheets = dict(
            connection.execute("SELECT sheet_num, status FROM sheets WHERE job_id = ?", (job_id,))
        )
        completed = sum(
            status == "completed" for number, status in sheets.items() if number <= total
        )
        through = next(number for number in itertools.count(1) if number not in sheets) - 1
        figures = connection.execute(
            "SELECT count(*), coalesce(sum(exit_code = 0), 0), count(duration_seconds), "
            "total(duration_seconds) FROM execution_history WHERE job_id = ?",
            (job_id,),
        ).fetchone()
        assert kept[:2] == [completed, through], job_id
        assert are_attempts_removed or kept[2:] == list(figures), job_id
    _assert_sheet_counts_are_right(connection)
    _assert_jobs_are_counted(connection)
    _assert_sequences_hold_their_moments(connection)


def _assert_sheet_counts_are_right(connection: sqlite3.Connection) -> None:
    counted = connection.execute(
        "SELECT job_id, sheet_num, count(*) FROM execution_history GROUP BY job_id, sheet_num"
    ).fetchall()
    for job_id, sheet_num, count in counted:
        kept = connection.execute(_SELECT_SHEET_COUNT, (job_id, sheet_num)).fetchone()
        assert kept == (count,), (job_id, sheet_num)
        ordinals: list[Any] = connection.execute(
            "SELECT ordinal FROM execution_history WHERE job_id = ? AND sheet_num = ? ORDER BY id",
            (job_id, sheet_num),
        ).fetchall()
        first = ordinals[0][0]
        assert [one for (one,) in ordinals] == list(range(first, first + count))


def _assert_jobs_are_counted(connection: sqlite3.Connection) -> None:
    kept = connection.execute("SELECT * FROM job_counts WHERE jobs <> 0 ORDER BY status").fetchall()
    counted = connection.execute(
        "SELECT status, count(*) FROM jobs GROUP BY status ORDER BY status"
    ).fetchall()
    assert kept == counted


def _assert_sequences_hold_their_moments(connection: sqlite3.Connection) -> None:
    for sequence, updated_at in connection.execute("SELECT sequence, updated_at FROM jobs"):
        assert sequence >= sequence_at(datetime.fromisoformat(updated_at))
