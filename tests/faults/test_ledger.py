"""What the ledger calls wrong, on logs made by hand."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from jobkeep import SheetState
from jobkeepd.store.schema import INDEXES_AND_TRIGGERS, TABLES
from tests.contract.jobs import new_job
from tests.faults.ledger import (
    Told,
    unsound,
    wrong_claims,
    wrong_own_jobs,
    wrong_queues,
    wrong_records,
)
from tests.faults.load import QUEUE_SHEETS, output_of, own_state
from tests.faults.operations import Operation

OWN = "own/a"
QUEUE = "queue/0"


def operation(job_id: str, name: str, *arguments: Any, at: int = 1, **end: Any) -> Operation:
    """An operation that was answered with `result`; without one its end is not known."""
    returned = at + 1 if "result" in end else None
    return Operation(
        by="a",
        job_id=job_id,
        name=name,
        arguments=list(arguments),
        invoked=at,
        returned=returned,
        **end,
    )


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """An empty database with a queue."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(TABLES + INDEXES_AND_TRIGGERS)
        yield connection


# -- records ------------------------------------------------------------------------------------

RECORDED = operation(QUEUE, "record_execution", 1, 1, "a/1", result=7)
LOST = operation(QUEUE, "record_execution", 1, 1, "a/1")
ROW = (7, QUEUE, 1, 1, "a/1", output_of("a/1"), 0, 0.5)


def keep(connection: sqlite3.Connection, *rows: tuple[Any, ...]) -> None:
    """Put attempts into the history."""
    connection.executemany(
        "INSERT INTO execution_history (id, job_id, sheet_num, attempt_num, prompt, output, "
        "exit_code, duration_seconds, executed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, '')",
        rows,
    )


@pytest.mark.parametrize(
    ("one", "rows"), [(RECORDED, [ROW]), (LOST, [ROW]), (LOST, [])], ids=["told", "lost", "never"]
)
def test_records_that_are_there_once_are_right(
    connection: sqlite3.Connection, one: Operation, rows: list[tuple[Any, ...]]
) -> None:
    keep(connection, *rows)

    assert list(wrong_records([one], connection)) == []


@pytest.mark.parametrize(
    ("made", "rows"),
    [
        pytest.param([RECORDED], [], id="acknowledged and not there"),
        pytest.param([RECORDED], [ROW, (8, *ROW[1:])], id="acknowledged and there twice"),
        pytest.param([LOST], [ROW, (8, *ROW[1:])], id="perhaps applied, and twice"),
        pytest.param([RECORDED], [(8, *ROW[1:])], id="another id"),
        pytest.param([RECORDED], [(*ROW[:5], "x", *ROW[6:])], id="another output"),
        pytest.param([], [ROW], id="nobody's"),
    ],
)
def test_records_that_are_not_what_was_told_are_wrong(
    connection: sqlite3.Connection, made: list[Operation], rows: list[tuple[Any, ...]]
) -> None:
    keep(connection, *rows)

    assert len(list(wrong_records(made, connection))) == 1


# -- jobs with one writer -----------------------------------------------------------------------

SAVES = [operation(OWN, "save", number, result=number) for number in (1, 2)]


@pytest.mark.parametrize("kept", [2, 3])
def test_own_job_may_be_as_the_save_without_an_answer_left_it(kept: int) -> None:
    made = [*SAVES, operation(OWN, "save", 3)]

    assert list(wrong_own_jobs(made, {OWN: own_state(OWN, kept)})) == []


@pytest.mark.parametrize(
    ("made", "kept"),
    [
        pytest.param(SAVES, 1, id="an acknowledged save is lost"),
        pytest.param(SAVES, 3, id="a save of nobody"),
        pytest.param([SAVES[0], operation(OWN, "save", 2, result=3)], 2, id="a revision too many"),
    ],
)
def test_own_job_that_is_not_as_it_was_saved_is_wrong(made: list[Operation], kept: int) -> None:
    assert len(list(wrong_own_jobs(made, {OWN: own_state(OWN, kept)}))) == 1


def test_own_job_with_another_content_is_wrong() -> None:
    state = own_state(OWN, 2)
    state.sheets[5] = SheetState(sheet_num=5)

    assert len(list(wrong_own_jobs(SAVES, {OWN: state}))) == 1


# -- queues -------------------------------------------------------------------------------------

MADE = operation(QUEUE, "save", 0, result=1)
CLAIM = operation(QUEUE, "claim_next_sheet", result=1, at=10)
MARK = operation(QUEUE, "mark_sheet_status", 1, "completed", result=None, at=20)


def queue(revision: int, *completed: int) -> dict[str, Any]:
    """The queue as it is kept."""
    state = new_job(QUEUE, QUEUE_SHEETS, revision=revision)
    for number in completed:
        state.mark_sheet_completed(number)
    return {QUEUE: state}


def test_queue_changed_once_by_each_change_is_right() -> None:
    nothing = operation(QUEUE, "claim_next_sheet", result=None)

    assert list(wrong_queues([Told([MADE, CLAIM, MARK, nothing])], queue(3, 1))) == []


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param(queue(4, 1), id="a change too many"),
        pytest.param(queue(2, 1), id="a change too few"),
        pytest.param(queue(3), id="a completed sheet is lost"),
        pytest.param(queue(3, 1, 2), id="a sheet that nobody completed"),
        pytest.param({QUEUE: None}, id="it is not there"),
    ],
)
def test_queue_that_is_not_what_was_told_is_wrong(kept: dict[str, Any]) -> None:
    assert len(list(wrong_queues([Told([MADE, CLAIM, MARK])], kept))) == 1


def test_queue_that_a_killed_client_had_a_sheet_of_may_have_more_changes() -> None:
    assert list(wrong_queues([Told([MADE, CLAIM], died_at=15)], queue(4))) == []


# -- claims -------------------------------------------------------------------------------------

LATER_CLAIM = operation(QUEUE, "claim_next_sheet", result=1, at=30)


def test_sheet_of_a_dead_client_may_be_claimed_again() -> None:
    assert list(wrong_claims([Told([CLAIM], died_at=25), Told([LATER_CLAIM])])) == []


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(Told([CLAIM]), id="the client lives"),
        pytest.param(Told([CLAIM], died_at=40), id="the client lived then"),
        pytest.param(Told([CLAIM, MARK], died_at=25), id="the sheet is completed"),
    ],
)
def test_sheet_given_to_two_is_wrong(first: Told) -> None:
    assert len(list(wrong_claims([first, Told([LATER_CLAIM])]))) == 1


# -- the file -----------------------------------------------------------------------------------


def test_counter_that_is_off_by_one_is_wrong(connection: sqlite3.Connection) -> None:
    assert list(unsound(connection)) == []

    connection.execute("INSERT INTO job_counts VALUES ('failed', 1)")

    assert len(list(unsound(connection))) == 1


def test_row_without_its_job_is_wrong(connection: sqlite3.Connection) -> None:
    keep(connection, ROW)

    assert any("foreign_key_check" in one for one in unsound(connection))
