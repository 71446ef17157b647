"""What the counters of a database must be, counted anew from its rows."""

from __future__ import annotations

import itertools
import json
import sqlite3
from datetime import datetime
from typing import Any

import pytest

from jobkeepd.store.invariants import (
    attempts_are_counted,
    figures_of_sheets_are_kept,
    rules_and_outcomes_are_counted,
)
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
        pruned = connection.execute(
            "SELECT coalesce(sum(executions), 0), coalesce(sum(successful), 0), "
            "coalesce(sum(timed), 0), total(seconds) FROM pruned_executions WHERE job_id = ?",
            (job_id,),
        ).fetchone()
        figures = [one + other for one, other in zip(figures, pruned, strict=True)]
        assert kept[:2] == [completed, through], job_id
        assert are_attempts_removed or kept[2:] == figures, job_id
    _assert_figures_of_reports_are_right(connection, are_attempts_removed=are_attempts_removed)
    _assert_sheet_counts_are_right(connection)
    _assert_jobs_are_counted(connection)
    _assert_patterns_are_counted(connection)
    _assert_sequences_hold_their_moments(connection)


def _assert_figures_of_reports_are_right(
    connection: sqlite3.Connection, *, are_attempts_removed: bool
) -> None:
    assert [*figures_of_sheets_are_kept(connection)] == []
    assert [*rules_and_outcomes_are_counted(connection)] == []
    if not are_attempts_removed:
        assert [*attempts_are_counted(connection)] == []


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


def _assert_patterns_are_counted(connection: sqlite3.Connection) -> None:
    """What `--check` searches for, here from the sheets themselves."""
    counted: dict[tuple[str, str], list[float]] = {}
    totals = {"completed": 0, "failed": 0}
    for job_id, status, confidence, patterns in connection.execute(
        "SELECT job_id, status, confidence_score, learned_patterns FROM sheets"
    ):
        if status in totals:
            totals[status] += 1
        for pattern in set(json.loads(patterns or "[]")):
            figures = counted.setdefault((job_id, pattern), [0] * 5)
            figures[0] += 1
            figures[1] += status == "completed"
            figures[2] += status == "failed"
            figures[3] += confidence is not None
            figures[4] += confidence or 0
    kept = {
        (job_id, pattern): figures
        for job_id, pattern, *figures in connection.execute(
            "SELECT job_id, pattern, sheets, completed, failed, confidences, confidence_total "
            "FROM pattern_jobs WHERE job_id <> ''"
        )
    }
    assert kept.keys() == counted.keys()
    assert all(kept[key] == pytest.approx(counted[key]) for key in kept)
    sums = connection.execute(
        "SELECT pattern, sheets, completed, failed, confidences, confidence_total, jobs "
        "FROM patterns ORDER BY pattern"
    ).fetchall()
    summed = connection.execute(
        "SELECT pattern, sum(sheets), sum(completed), sum(failed), sum(confidences), "
        "sum(confidence_total), sum(jobs) FROM pattern_jobs GROUP BY pattern ORDER BY pattern"
    ).fetchall()
    assert [row[0] for row in sums] == [row[0] for row in summed]
    assert [row[1:] for row in sums] == [pytest.approx(row[1:]) for row in summed]
    assert dict(connection.execute("SELECT status, sheets FROM sheet_counts")) == totals


def _assert_sequences_hold_their_moments(connection: sqlite3.Connection) -> None:
    for sequence, updated_at in connection.execute("SELECT sequence, updated_at FROM jobs"):
        assert sequence >= sequence_at(datetime.fromisoformat(updated_at))
