"""One job as a value: what each operation of a history makes of it, and what it must answer.

What lives here: the model, written anew from the contracts in `StateBackend` and `CheckpointState`.
What may not: the code it is a model of, but for the names of statuses.

The model in `tests/contract/test_machine.py` keeps whole states, changes them in place by the
methods under test, and knows all operations. A search for an order needs values that are small and
can be hashed, and only what a history can show.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from jobkeep import CheckpointState
from tests.faults.operations import REFUSED, Operation

SHEETS = 3
"""Every job of a history has so many."""


class Sheet(NamedTuple):
    """What a history shows of a sheet."""

    status: str
    attempts: int


class Job(NamedTuple):
    """What a history shows of a job. One that is not there has revision 0, and nothing else.

    `text` is whatever the last save said. `records` has the number of attempts of each sheet.
    """

    revision: int = 0
    text: str = ""
    status: str = ""
    current: int | None = None
    last_completed: int = 0
    retries: int = 0
    sheets: tuple[Sheet | None, ...] = (None,) * SHEETS
    records: tuple[int, ...] = (0,) * SHEETS
    newest_record: int = 0
    """The id of the newest record there ever was, known or not to be of this job now."""


View = list[Any]
"""A state as it is in a log: the fields of `Job` from `revision` to `sheets`."""


def view(state: CheckpointState) -> View:
    """What a log keeps of a state."""
    sheets = [state.sheets.get(number) for number in range(1, SHEETS + 1)]
    return [
        state.revision,
        state.description or "",
        str(state.status),
        state.current_sheet,
        state.last_completed_sheet,
        state.total_retry_count,
        [None if one is None else [str(one.status), one.attempt_count] for one in sheets],
    ]


def step(job: Job, operation: Operation) -> Job | None:
    """The job after an operation, None when that could not have answered as it did.

    An operation without a known end may have answered anything.
    """
    after, answer = OPERATIONS[operation.name](job, *operation.arguments)
    if operation.returned is None:
        return after
    given = _without_facts(operation.result)
    if answer == NEW_RECORD:
        is_new = isinstance(given, int) and given > job.newest_record
        return after._replace(newest_record=given) if is_new else None
    return after if given == answer else None


def _without_facts(result: Any) -> Any:
    """A result; of a refusal's facts only the revision that was found."""
    if isinstance(result, list) and result[0] == REFUSED:
        _, code, facts = result
        return [REFUSED, code, facts.get("kept")]
    return result


NEW_RECORD = "an id larger than any before"

Answered = tuple[Job, Any]


def _load(job: Job) -> Answered:
    sheets = [None if sheet is None else list(sheet) for sheet in job.sheets]
    return job, [*job[:6], sheets] if job.revision else None


def _save(job: Job, saved: View, if_revision: int | None) -> Answered:
    if if_revision is not None and if_revision != job.revision:
        return job, [REFUSED, "revision_conflict", job.revision]
    _, text, status, current, last_completed, retries, sheets = saved
    after = job._replace(
        revision=job.revision + 1,
        text=text,
        status=status,
        current=current,
        last_completed=last_completed,
        retries=retries,
        sheets=tuple(None if sheet is None else Sheet(*sheet) for sheet in sheets),
    )
    return after, after.revision


def _delete(job: Job) -> Answered:
    return Job(newest_record=job.newest_record), job.revision > 0


def _mark(job: Job, number: int, status: str) -> Answered:
    if not job.revision:
        return job, NOT_FOUND
    sheet = job.sheets[number - 1] or MISSING
    match status:
        case "in_progress":
            return _start(job, number), None
        case "completed":
            job = job._replace(current=None, last_completed=max(job.last_completed, number))
        case "failed":
            job = job._replace(current=None, retries=job.retries + 1)
        case "skipped":
            job = job._replace(current=None)
    after = _with_sheet(job, number, sheet._replace(status=status))
    if status == "completed" and all(one and one.status == "completed" for one in after.sheets):
        after = after._replace(status="completed")
    return after, None


def _save_sheet(job: Job, number: int, status: str, attempts: int) -> Answered:
    if not job.revision:
        return job, NOT_FOUND
    after = _with_sheet(job, number, Sheet(status, attempts))
    return after, after.revision


def _claim(job: Job, max_attempts: int) -> Answered:
    if not job.revision:
        return job, NOT_FOUND
    if job.status in {"completed", "cancelled"}:
        return job, None
    for number, sheet in enumerate(job.sheets, 1):
        status, attempts = sheet or MISSING
        if status in {"pending", "ready"} or (status == "failed" and attempts < max_attempts):
            return _start(job, number), number
    return job, None


def _record(job: Job, number: int) -> Answered:
    if not job.revision:
        return job, None
    records = _replaced(job.records, number, job.records[number - 1] + 1)
    return job._replace(records=records), NEW_RECORD


def _count(job: Job, number: int | None) -> Answered:
    return job, sum(job.records) if number is None else job.records[number - 1]


def _start(job: Job, number: int) -> Job:
    sheet = job.sheets[number - 1] or MISSING
    begun = Sheet("in_progress", sheet.attempts + 1)
    return _with_sheet(job._replace(status="running", current=number), number, begun)


def _with_sheet(job: Job, number: int, sheet: Sheet) -> Job:
    sheets = _replaced(job.sheets, number, sheet)
    return job._replace(revision=job.revision + 1, sheets=sheets)


def _replaced(values: tuple[Any, ...], number: int, value: Any) -> tuple[Any, ...]:
    return (*values[: number - 1], value, *values[number:])


MISSING = Sheet("pending", 0)
"""What a sheet that is not there is like when something is done with it."""

NOT_FOUND = [REFUSED, "job_not_found", None]

OPERATIONS: dict[str, Callable[..., Answered]] = {
    "load": _load,
    "save": _save,
    "delete": _delete,
    "mark_sheet_status": _mark,
    "save_sheet": _save_sheet,
    "claim_next_sheet": _claim,
    "record_execution": _record,
    "get_execution_history_count": _count,
}
