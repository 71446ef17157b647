"""Counters are right whatever happens: any sequence of writes, compared with a full count."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobkeep_protocol.errors import InvalidRequest, JobkeepError
from jobkeep_protocol.messages import (
    ClaimNextSheet,
    Delete,
    MarkSheetStatus,
    RecordExecution,
    Save,
    SaveSheet,
)
from jobkeep_protocol.states import CheckpointState, JobStatus, SheetState, SheetStatus
from jobkeepd.backend import SQLiteStateBackend
from jobkeepd.processes import ProcessId
from jobkeepd.store import transaction as transaction_module
from jobkeepd.store import writes as writes_module
from jobkeepd.store.reads import _SELECT_NEXT_SHEET
from jobkeepd.store.rows import SHEETS, sequence_at
from jobkeepd.store.schema import INDEXES_AND_TRIGGERS, TABLES
from jobkeepd.store.transaction import Transaction
from jobkeepd.store.writes import WRITES, ReleaseProcess
from tests.daemon.counters import assert_counters_are_right

LARGEST = 7
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
PROCESSES = (ProcessId(101, 5, "boot"), ProcessId(102, 6, "boot"))

job_ids = st.sampled_from(["a", "b"])
numbers = st.integers(1, LARGEST)
statuses = st.sampled_from(
    [
        *(SheetStatus.PENDING, SheetStatus.READY, SheetStatus.IN_PROGRESS, SheetStatus.WAITING),
        *(SheetStatus.COMPLETED, SheetStatus.FAILED, SheetStatus.SKIPPED),
    ]
)
rules = st.none() | st.lists(st.sampled_from(["a", "b", "it's"]), max_size=3)
tokens = st.sampled_from([None, None, 0, 7, 2**40])
sheets = st.builds(
    SheetState,
    sheet_num=numbers,
    status=statuses,
    attempt_count=st.integers(0, 3),
    passed_validations=rules,
    failed_validations=rules,
    outcome_category=st.sampled_from([None, None, "", "good", "flaky"]),
    success_without_retry=st.booleans(),
    input_tokens=tokens,
    output_tokens=tokens,
    estimated_cost=st.sampled_from([None, None, 0.0, 0.25, 12.5]),
    learned_patterns=st.none() | st.lists(st.sampled_from(["p", "q", "é"]), max_size=3),
    confidence_score=st.sampled_from([None, 0.0, 0.1, 0.7]),
)
states = st.builds(
    CheckpointState,
    job_id=job_ids,
    total_sheets=st.integers(1, LARGEST),
    status=st.sampled_from(JobStatus),
    pid=st.sampled_from([None, 101, 102]),
    last_completed_sheet=st.integers(0, LARGEST),
)
records = st.builds(
    RecordExecution,
    job_id=job_ids,
    sheet_num=numbers,
    attempt_num=numbers,
    exit_code=st.sampled_from([None, 0, 1]),
    duration_seconds=st.sampled_from([None, 0.25]),
)
requests = st.one_of(
    st.builds(Save, state=states, sheets=st.lists(sheets, unique_by=lambda one: one.sheet_num)),
    st.builds(
        Save,
        state=states,
        sheets=st.lists(sheets, max_size=2, unique_by=lambda one: one.sheet_num),
        base=st.just(0),
        removed=st.lists(numbers, max_size=2, unique=True),
    ),
    st.builds(SaveSheet, job_id=job_ids, sheet=sheets),
    st.builds(MarkSheetStatus, job_id=job_ids, sheet_num=numbers, status=statuses),
    st.builds(ClaimNextSheet, job_id=job_ids, max_attempts=st.integers(1, 4)),
    records,
    records,
    st.builds(Delete, job_id=job_ids),
    st.builds(ReleaseProcess, process=st.sampled_from(PROCESSES)),
    st.builds(lambda job_id, number: (job_id, number), job_ids, numbers),
)


class Database:
    """The tables, in memory, and what applies requests to them."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.execute("PRAGMA foreign_keys = ON")
        self.connection.executescript(TABLES + INDEXES_AND_TRIGGERS)
        self.tx = Transaction(self.connection)

    def apply(self, request: Any, process: ProcessId | None = None, undone: bool = False) -> Any:
        """One request in a transaction; None when it is refused. Undone, or when refused, it is
        rolled back."""
        self.tx.process = process
        self.connection.execute("BEGIN")
        try:
            reply = WRITES[type(request)](self.tx, request)
        except JobkeepError:
            undone, reply = True, None
        self.connection.execute("ROLLBACK" if undone else "COMMIT")
        return reply

    def sequence(self, job_id: str) -> int | None:
        """What a delta save is based on."""
        found = self.connection.execute("SELECT sequence FROM jobs WHERE id = ?", (job_id,))
        return next((sequence for (sequence,) in found), None)

    def remove_oldest_attempt(self, job_id: str, sheet_num: int) -> None:
        """What keeps a history short does this; the job's figures stay."""
        self.connection.execute(
            "DELETE FROM execution_history WHERE id = (SELECT min(id) FROM execution_history "
            "WHERE job_id = ? AND sheet_num = ?)",
            (job_id, sheet_num),
        )

    def sheets(self, job_id: str) -> dict[int, SheetState]:
        """All sheets of a job."""
        found = self.connection.execute(
            f"SELECT {', '.join(SHEETS.columns)} FROM sheets WHERE job_id = ?",  # noqa: S608 # names of ours
            (job_id,),
        )
        return {row[0]: SHEETS.state(row) for row in found}


@pytest.fixture
def database() -> Iterator[Database]:
    """A database without jobs."""
    made = Database()
    with closing(made.connection):
        yield made


def _claimable(database: Database, request: ClaimNextSheet) -> int | None:
    """The sheet that is to be claimed, by looking at all of them."""
    found = database.connection.execute(
        "SELECT total_sheets, status FROM jobs WHERE id = ?", (request.job_id,)
    ).fetchone()
    if found is None or found[1] in {"completed", "cancelled"}:
        return None
    kept = database.sheets(request.job_id)
    for number in range(1, found[0] + 1):
        sheet = kept.get(number)
        if sheet is None or sheet.status in {SheetStatus.PENDING, SheetStatus.READY}:
            return number
        if sheet.status is SheetStatus.FAILED and sheet.attempt_count < request.max_attempts:
            return number
    return None


def _assert_next_sheet_is_right(database: Database, job_id: str) -> None:
    row = database.connection.execute(
        "SELECT total_sheets, last_completed_sheet FROM jobs WHERE id = ?", (job_id,)
    ).fetchone()
    if row is None:
        return
    total, last = row
    state = CheckpointState(job_id=job_id, total_sheets=total, last_completed_sheet=last)
    state.sheets = database.sheets(job_id)
    first = database.connection.execute(_SELECT_NEXT_SHEET, (job_id,)).fetchone()[-1]
    assert (first if first <= total else None) == state.get_next_sheet()


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(requests, st.sampled_from([None, *PROCESSES]), st.integers(0, 9)), max_size=40
    )
)
def test_counters_are_right_after_any_sequence_of_writes(steps: list[tuple[Any, Any, int]]) -> None:
    database = Database()
    with closing(database.connection):
        pruned = False
        for request, process, dice in steps:
            if isinstance(request, tuple):
                database.remove_oldest_attempt(*request)
                pruned = True
                continue
            if isinstance(request, Save) and request.base is not None:
                base = database.sequence(request.state.job_id)
                request = Save(request.state, request.sheets, base or 0, request.removed)
            expected = None
            if isinstance(request, ClaimNextSheet):
                expected = _claimable(database, request)
            reply = database.apply(request, process, undone=dice == 0)
            if isinstance(request, ClaimNextSheet):
                assert reply == expected
            _assert_next_sheet_is_right(database, "a")
            _assert_next_sheet_is_right(database, "b")
        assert_counters_are_right(database.connection, are_attempts_removed=pruned)


@settings(max_examples=500)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([SheetStatus.FAILED, SheetStatus.COMPLETED, *SheetStatus]),
            st.integers(0, 5),
        ),
        min_size=1,
        max_size=LARGEST,
    ),
    st.integers(1, 6),
    st.integers(0, LARGEST),
)
def test_first_sheet_is_found_among_those_of_a_job_without_gaps(
    kept: list[tuple[SheetStatus, int]], max_attempts: int, last: int
) -> None:
    database = Database()
    with closing(database.connection):
        state = CheckpointState(job_id="a", total_sheets=LARGEST, last_completed_sheet=last)
        database.apply(
            Save(
                state,
                [
                    SheetState(sheet_num=number, status=status, attempt_count=attempts)
                    for number, (status, attempts) in enumerate(kept, 1)
                ],
            )
        )
        request = ClaimNextSheet("a", max_attempts=max_attempts)

        _assert_next_sheet_is_right(database, "a")
        assert database.apply(request, undone=True) == _claimable(database, request)


def test_large_job_that_grows_in_any_order_has_no_gap_in_the_end(database: Database) -> None:
    order = list(range(1, 201))
    random.Random(1).shuffle(order)  # noqa: S311 # no secret
    database.apply(Save(CheckpointState(job_id="a", total_sheets=200), []))

    for number in order:
        database.apply(SaveSheet("a", SheetState(sheet_num=number, status=SheetStatus.COMPLETED)))

    assert_counters_are_right(database.connection)
    assert database.apply(ClaimNextSheet("a")) is None


# -- the order of updates -----------------------------------------------------------------------


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the clock of the store, in seconds since BEGAN."""

    def set_to(seconds: int) -> None:
        now = BEGAN + timedelta(seconds=seconds)
        for module in (transaction_module, writes_module):
            monkeypatch.setattr(module, "utc_now", lambda: now)

    return set_to


@pytest.mark.parametrize("seconds", [[1, 2, 3], [1, 1, 1], [3, 2, 1], [9, 1, 5]])
def test_jobs_are_in_the_order_of_their_updates_whatever_the_clock_says(
    database: Database, set_clock: Callable[[int], None], seconds: list[int]
) -> None:
    for job_id, moment in zip("abc", seconds, strict=True):
        set_clock(moment)
        database.apply(Save(CheckpointState(job_id=job_id, total_sheets=1), []))

    rows = database.connection.execute("SELECT id FROM jobs ORDER BY sequence").fetchall()

    assert "".join(job_id for (job_id,) in rows) == "abc"
    assert_counters_are_right(database.connection)


def test_sequence_is_the_moment_of_the_update(
    database: Database, set_clock: Callable[[int], None]
) -> None:
    set_clock(5)
    saved = database.apply(Save(CheckpointState(job_id="a", total_sheets=1), []))
    assert saved.sequence == sequence_at(saved.updated_at)


@pytest.mark.parametrize(
    ("since", "found"), [(0, "cba"), (4, "ca"), (5, "ca"), (6, "a"), (9, "a"), (10, "")]
)
async def test_since_is_compared_with_the_time_of_the_update_though_the_clock_went_back(
    tmp_path: Path, set_clock: Callable[[int], None], since: int, found: str
) -> None:
    async with SQLiteStateBackend(tmp_path / "state.db") as backend:
        for job_id, moment in zip("abc", [9, 1, 5], strict=True):
            set_clock(moment)
            await backend.save(CheckpointState(job_id=job_id, total_sheets=1))

        jobs = await backend.query_jobs(since=BEGAN + timedelta(seconds=since))

    assert "".join(job["id"] for job in jobs) == found


@pytest.mark.parametrize("updated_at", ["yesterday", "2026-01-01T00:00:00"])
async def test_page_after_what_was_never_a_summary_is_refused(
    tmp_path: Path, updated_at: str
) -> None:
    async with SQLiteStateBackend(tmp_path / "state.db") as backend:
        await backend.save(CheckpointState(job_id="a", total_sheets=1))
        (summary,) = await backend.query_jobs()
        summary["updated_at"] = updated_at

        with pytest.raises(InvalidRequest, match="after is 'a'; expected the id of a kept job"):
            await backend.query_jobs(after=summary)
