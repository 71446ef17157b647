"""The model of a job, on histories of one client made by hand: what it must have been told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from jobkeepd import SQLiteStateBackend
from tests.faults.client_process import RecordingClient
from tests.faults.histories.client import work
from tests.faults.histories.linearizability import find_violation
from tests.faults.histories.model import OPERATIONS, Job, step
from tests.faults.histories.run import by_job, violations
from tests.faults.operations import REFUSED, Operation, OperationLog, read_log
from tests.support import wait_until_async

Told = tuple[str, list[Any], Any]
"""An operation, its arguments and its result."""

NEW = [0, "text", "pending", None, 0, 0, [["pending", 0], None, ["failed", 2]]]
SAVED: Told = ("save", [NEW, None], 1)
NOT_FOUND = [REFUSED, "job_not_found", {"job_id": "job"}]


def conflict(kept: int) -> list[Any]:
    """A refusal that names the revision it has found."""
    return [REFUSED, "revision_conflict", {"job_id": "job", "kept": kept, "expected": 9}]


def loaded(revision: int, *fields: Any) -> Told:
    """A load that has found this."""
    return "load", [], [revision, *fields]


def fits(*told: Told) -> bool:
    """Whether one client can have been told this, one thing after the other."""
    history = [
        Operation(
            by="a",
            job_id="job",
            name=name,
            arguments=arguments,
            invoked=2 * place,
            returned=2 * place + 1,
            result=result,
        )
        for place, (name, arguments, result) in enumerate(told)
    ]
    return find_violation(history, Job(), step) is None


@pytest.mark.parametrize(
    "told",
    [
        pytest.param([SAVED, loaded(1, *NEW[1:])], id="saved and loaded"),
        pytest.param([("load", [], None), ("delete", [], False)], id="no job"),
        pytest.param([SAVED, ("delete", [], True), ("load", [], None), SAVED], id="made anew"),
        pytest.param([("save", [NEW, 0], 1), ("save", [NEW, 9], conflict(1))], id="conflict"),
        pytest.param([("mark_sheet_status", [1, "ready"], NOT_FOUND)], id="nothing to mark"),
        pytest.param([("record_execution", [1], None)], id="nothing to record for"),
        pytest.param(
            [
                *(SAVED, ("mark_sheet_status", [3, "failed"], None)),
                loaded(2, "text", "pending", None, 0, 1, [["pending", 0], None, ["failed", 2]]),
            ],
            id="failed",
        ),
        pytest.param(
            [
                SAVED,
                *(("mark_sheet_status", [number, "completed"], None) for number in (3, 1, 2)),
                loaded(4, "text", "completed", None, 3, 0, [["completed", n] for n in (0, 0, 2)]),
                ("claim_next_sheet", [3], None),
            ],
            id="completed",
        ),
        pytest.param(
            [
                *(SAVED, ("claim_next_sheet", [1], 1), ("claim_next_sheet", [1], 2)),
                *(("claim_next_sheet", [1], None), ("claim_next_sheet", [3], 3)),
                loaded(4, "text", "running", 3, 0, 0, [["in_progress", n] for n in (1, 1, 3)]),
            ],
            id="claimed",
        ),
        pytest.param(
            [SAVED, ("save_sheet", [2, "ready", 5], 2), ("claim_next_sheet", [1], 1)], id="a sheet"
        ),
        pytest.param(
            [
                *(SAVED, ("record_execution", [1], 5), ("record_execution", [3], 8)),
                ("get_execution_history_count", [None], 2),
                ("get_execution_history_count", [3], 1),
                loaded(1, *NEW[1:]),
            ],
            id="recorded",
        ),
    ],
)
def test_what_the_contracts_promise_fits(told: list[Told]) -> None:
    assert fits(*told)


@pytest.mark.parametrize(
    "told",
    [
        pytest.param([SAVED, loaded(2, *NEW[1:])], id="another revision"),
        pytest.param([SAVED, loaded(1, "other", *NEW[2:])], id="another text"),
        pytest.param([SAVED, ("load", [], None)], id="the job is gone"),
        pytest.param([SAVED, SAVED], id="the same revision twice"),
        pytest.param([SAVED, ("save", [NEW, 0], 2)], id="a conflict that was not seen"),
        pytest.param([SAVED, ("save", [NEW, 1], conflict(2))], id="a conflict with nobody"),
        pytest.param([SAVED, ("save", [NEW, 9], conflict(2))], id="a conflict with another"),
        pytest.param([SAVED, ("mark_sheet_status", [1, "ready"], NOT_FOUND)], id="it is there"),
        pytest.param([SAVED, *[("claim_next_sheet", [1], 1)] * 2], id="a sheet given twice"),
        pytest.param([SAVED, ("claim_next_sheet", [1], 2)], id="a sheet left out"),
        pytest.param([SAVED, ("claim_next_sheet", [1], None)], id="no sheet although there is one"),
        pytest.param([SAVED, *[("record_execution", [1], 5)] * 2], id="an id given twice"),
        pytest.param([SAVED, ("record_execution", [1], None)], id="a record without an id"),
        pytest.param(
            [SAVED, ("record_execution", [1], 5), ("get_execution_history_count", [1], 2)],
            id="a record too many",
        ),
        pytest.param([("delete", [], True)], id="nothing was there to delete"),
    ],
)
def test_what_the_contracts_rule_out_does_not_fit(told: list[Told]) -> None:
    assert not fits(*told)


async def test_model_is_told_what_a_backend_tells_its_only_user(tmp_path: Path) -> None:
    path = tmp_path / "operations"
    async with SQLiteStateBackend(tmp_path / "state.db") as backend:
        with OperationLog(path) as log:
            client = RecordingClient("only", log, backend)
            working = asyncio.create_task(work(client))
            await wait_until_async(lambda: _has_begun(log, 500))
            client.is_resting = True
            await working

    operations = read_log(path)

    assert violations(by_job(operations)) == []
    assert {one.name for one in operations} == set(OPERATIONS)


async def _has_begun(log: OperationLog, operations: int) -> bool:
    return log.begun >= operations
