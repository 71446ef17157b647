"""What each write does, in the transaction it is given.

What lives here: one function for each operation that writes, and the table that finds it. They run
where the writer decides. What may not: committing, asyncio, and reading for its own sake.

A function raises an error of `jobkeep_protocol.errors` to refuse; what it changed before that is
undone by the committer, for this request alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from msgspec import Struct

from jobkeep_protocol.errors import RevisionConflict
from jobkeep_protocol.messages import (
    ClaimNextSheet,
    Delete,
    ImportHistory,
    ImportJob,
    MarkSheetStatus,
    Prune,
    RecordExecution,
    Save,
    Saved,
    SaveSheet,
    Shrink,
)
from jobkeep_protocol.request import Write as ClientWrite
from jobkeep_protocol.states import (
    CheckpointState,
    JobStatus,
    SheetState,
    SheetStatus,
    complete_job,
    complete_sheet,
    fail_sheet,
    skip_sheet,
    start_sheet,
    utc_now,
)
from jobkeep_protocol.transfer import KeptExecution
from jobkeep_protocol.values import check_sheet_num
from jobkeepd.processes import ProcessId
from jobkeepd.store.fits import check_text_fits
from jobkeepd.store.rows import CHANGING, JOBS, UNMOVED, to_text
from jobkeepd.store.transaction import Transaction

RequestT = TypeVar("RequestT")
Handler = Callable[[Transaction, Any], Any]

WRITES: dict[type[Any], Handler] = {}
"""The function for each type of request."""


class ReleaseProcess(Struct, frozen=True):
    """The daemon's own write: what a dead process was running is running no more."""

    process: ProcessId


class Released(Struct, frozen=True):
    """What `ReleaseProcess` found: jobs paused, and sheets made pending again."""

    jobs: list[str]
    sheets: list[tuple[str, int]]


def writes(kind: type[RequestT]) -> Callable[[Callable[[Transaction, RequestT], Any]], Handler]:
    """Register the function for a type of request."""

    def register(function: Callable[[Transaction, RequestT], Any]) -> Handler:
        WRITES[kind] = function
        return function

    return register


def jobs_changed_by(request: Any) -> Sequence[str]:
    """The jobs whose state a client's request may change."""
    if isinstance(request, RecordExecution | Shrink):
        return ()
    if isinstance(request, Prune):
        return request.job_ids if request.status else ()
    return (request.state.job_id if isinstance(request, Save | ImportJob) else request.job_id,)


FEW_SHEETS = 32

MAX_SHEETS_NOTED = 1_000
"""Sheets of one save that are told of; who watches looks at the job itself for more."""


def is_small(request: Any) -> bool:
    """Whether a request touches a few rows only, whatever is kept. The daemon's own do not."""
    if isinstance(request, Save):
        changed = len(request.sheets) + len(request.removed)
        return request.base is not None and changed <= FEW_SHEETS
    touches_many = Delete | Prune | Shrink | ImportJob | ImportHistory
    return isinstance(request, ClientWrite) and not isinstance(request, touches_many)


def has_text(request: Any) -> bool:
    """Whether what a request writes is, for the most part, text that is searched."""
    return isinstance(request, RecordExecution)


@writes(Save)
def save(tx: Transaction, request: Save) -> Saved | None:
    """Make the kept job equal to the state sent."""
    state = request.state
    kept = tx.one(_SELECT_KEPT, (state.job_id,))
    revision, sequence = kept[:2] if kept else (0, 0)
    if request.if_revision is not None and request.if_revision != revision:
        raise RevisionConflict(
            f"job {state.job_id!r} is at revision {revision}, not {request.if_revision}; "
            "load it again and apply your change to what you find",
            {"job_id": state.job_id, "kept": revision, "expected": request.if_revision},
        )
    if request.base is not None and request.base != sequence:
        return None
    removed: list[int] = request.removed
    if request.base is None and kept:
        staying = {sheet.sheet_num for sheet in request.sheets}
        found = tx.all("SELECT sheet_num FROM sheets WHERE job_id = ?", (state.job_id,))
        removed = [number for (number,) in found if number not in staying]
    state.revision = revision + 1
    state.updated_at = utc_now()
    sequence = store_job(tx, state, kept[2:] if kept else None)
    if removed:
        tx.remove_sheets(state.job_id, removed)
    tx.store_sheets(state.job_id, request.sheets)
    _note_save(tx, state, request.sheets, removed)
    return Saved(state.revision, state.updated_at, sequence)


@writes(Delete)
def delete(tx: Transaction, request: Delete) -> bool:
    """Remove a job; its sheets, claims and history go with it by their foreign keys."""
    was_there = tx.remove_job(request.job_id)
    if was_there:
        tx.note("deleted", utc_now(), request.job_id)
    return was_there


@writes(MarkSheetStatus)
def mark_sheet_status(tx: Transaction, request: MarkSheetStatus) -> None:
    """Apply the transition that belongs to a status."""
    job = tx.progress(request.job_id)
    status_before = job.status
    check_sheet_num(request.sheet_num, job.total_sheets)
    sheet = tx.sheet(request.job_id, request.sheet_num)
    match request.status:
        case SheetStatus.IN_PROGRESS:
            start_sheet(job, sheet)
        case SheetStatus.COMPLETED:
            complete_sheet(job, sheet)
        case SheetStatus.FAILED:
            fail_sheet(job, sheet, request.error_message)
        case SheetStatus.SKIPPED:
            skip_sheet(job, sheet, request.error_message)
        case _:
            sheet.status = request.status
    if request.error_message:
        sheet.error_message = request.error_message
        check_text_fits(sheet, request.error_message)
    tx.store_sheets(request.job_id, [sheet])
    if request.status is SheetStatus.COMPLETED:
        (completed,) = tx.one("SELECT sheets_completed FROM jobs WHERE id = ?", (job.job_id,))
        if completed >= job.total_sheets:
            complete_job(job)
    tx.store_progress(job)
    _note_sheet(tx, job, sheet, status_before)


@writes(SaveSheet)
def save_sheet(tx: Transaction, request: SaveSheet) -> int:
    """Insert or replace one sheet."""
    job = tx.progress(request.job_id)
    check_sheet_num(request.sheet.sheet_num, job.total_sheets)
    tx.store_progress(job)  # first: a sheet without times of its own goes by the job's update
    tx.store_sheets(request.job_id, [request.sheet])
    tx.note_sheet("sheet", job, request.sheet)
    return job.revision


@writes(ClaimNextSheet)
def claim_next_sheet(tx: Transaction, request: ClaimNextSheet) -> int | None:
    """Give the first sheet that can be worked on to the process of the request."""
    job = tx.progress(request.job_id)
    status_before = job.status
    if job.status in {JobStatus.COMPLETED, JobStatus.CANCELLED}:
        return None
    number = _first_claimable(tx, job, request.max_attempts)
    if number is None:
        return None
    if job.status is not JobStatus.RUNNING:
        job.pid = None  # of whoever ran it before: now those run it who claim
    sheet = tx.sheet(request.job_id, number)
    start_sheet(job, sheet)
    tx.store_sheets(request.job_id, [sheet])
    tx.store_progress(job)
    _note_sheet(tx, job, sheet, status_before)
    _store_claimer(tx, request.job_id, number)
    return number


@writes(RecordExecution)
def record_execution(tx: Transaction, request: RecordExecution) -> int | None:
    """Keep an attempt, and count it with its job."""
    found = tx.one("SELECT total_sheets FROM jobs WHERE id = ?", (request.job_id,))
    if found is None:
        return None
    check_sheet_num(request.sheet_num, found[0])
    now = utc_now()
    execution_id = keep_execution(tx, request.job_id, request, now)
    tx.note(
        *("execution", now, request.job_id),
        sheet_num=request.sheet_num,
        execution_id=execution_id,
        attempt_num=request.attempt_num,
        exit_code=request.exit_code,
        duration_seconds=request.duration_seconds,
    )
    return execution_id


def keep_execution(
    tx: Transaction, job_id: str, attempt: RecordExecution | KeptExecution, at: datetime
) -> int | None:
    """Keep an attempt that was made at this time, and count it with its job; gives its id."""
    cursor = tx.connection.execute(
        _INSERT_EXECUTION,
        (
            job_id,
            attempt.sheet_num,
            attempt.attempt_num,
            attempt.prompt,
            attempt.output,
            attempt.exit_code,
            attempt.duration_seconds,
            to_text(at),
        ),
    )
    tx.run(
        "UPDATE jobs SET executions = executions + 1, "
        "executions_successful = executions_successful + ?, "
        "executions_exited = executions_exited + ?, "
        "executions_timed = executions_timed + ?, "
        "executions_seconds = min(executions_seconds + ?, ?) WHERE id = ?",
        (
            attempt.exit_code == 0,
            attempt.exit_code is not None,
            attempt.duration_seconds is not None,
            attempt.duration_seconds or 0.0,
            sys.float_info.max,  # a sum that is infinite would give an average that is no number
            job_id,
        ),
    )
    return cursor.lastrowid


@writes(ReleaseProcess)
def release_process(tx: Transaction, request: ReleaseProcess) -> Released:
    """Pause the jobs that a dead process was running; give back the sheets it had claimed."""
    found = tx.all(
        f"SELECT id FROM jobs WHERE {_OF_PROCESS} AND status = 'running'", request.process
    )
    jobs = [job_id for (job_id,) in found]
    for job_id in jobs:
        _pause(tx, job_id, None)
    claims = tx.take("claims", "job_id, sheet_num", _OF_PROCESS, request.process)
    for job_id, sheet_num in claims:
        _give_back(tx, job_id, sheet_num, request.process)
    worked_on = tx.take("workers", "job_id", _OF_PROCESS, request.process)
    abandoned = [job_id for (job_id,) in worked_on if _is_abandoned(tx, job_id)]
    for job_id in abandoned:
        _pause(tx, job_id, f"process {request.process.pid} was the last that worked on it")
    return Released(jobs + abandoned, claims)


def _note_save(
    tx: Transaction, state: CheckpointState, sheets: Sequence[SheetState], removed: Sequence[int]
) -> None:
    """Tell of a save: the job, then its sheets; of a large one not all of them."""
    tx.note_job("job", state)
    for sheet in sheets[:MAX_SHEETS_NOTED]:
        tx.note_sheet("sheet", state, sheet)
    at, job_id = state.updated_at, state.job_id
    for number in removed[: max(0, MAX_SHEETS_NOTED - len(sheets))]:
        tx.note("deleted", at, job_id, sheet_num=number)
    left_out = len(sheets) + len(removed) - MAX_SHEETS_NOTED
    if left_out > 0:
        what = f"{left_out} more sheets were saved or removed at once; look at the job itself"
        tx.note("missed", at, job_id, message=what)


def _note_sheet(
    tx: Transaction, job: CheckpointState, sheet: SheetState, status_before: JobStatus
) -> None:
    """Tell of a sheet, and of its job when that has another status now."""
    tx.note_sheet("sheet", job, sheet)
    if job.status is not status_before:
        tx.note_job("job", job)


def _pause(tx: Transaction, job_id: str, reason: str | None) -> None:
    """Nobody runs this job any more."""
    job = tx.progress(job_id)
    job.mark_zombie_detected(reason)
    tx.store_progress(job)
    tx.note_job("zombie", job)


def _give_back(tx: Transaction, job_id: str, sheet_num: int, claimer: ProcessId) -> None:
    """A sheet whose claimer is dead is pending again."""
    job = tx.progress(job_id)
    sheet = tx.sheet(job_id, sheet_num)
    sheet.status = SheetStatus.PENDING
    if job.current_sheet == sheet_num:
        job.current_sheet = None
    tx.store_sheets(job_id, [sheet])
    tx.store_progress(job)
    why = f"process {claimer.pid}, which had claimed it, is gone"
    tx.note_sheet("zombie", job, sheet, why)


def _is_abandoned(tx: Transaction, job_id: str) -> bool:
    """Whether a job says that it is running, and no process is left that could do so."""
    found = tx.one(
        "SELECT 1 FROM jobs WHERE id = ? AND status = 'running' AND pid IS NULL "
        "AND NOT EXISTS (SELECT 1 FROM workers WHERE job_id = jobs.id)",
        (job_id,),
    )
    return found is not None


def _store_claimer(tx: Transaction, job_id: str, sheet_num: int) -> None:
    """The process of this request holds the sheet, and works on the job as long as it lives."""
    pid, start, boot_id = tx.process or (0, None, None)
    tx.run(
        "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?, ?)",
        (job_id, sheet_num, pid, start, boot_id, to_text(utc_now())),
    )
    tx.run("INSERT OR REPLACE INTO workers VALUES (?, ?, ?, ?)", (job_id, pid, start, boot_id))


def store_job(
    tx: Transaction, state: CheckpointState, running: tuple[Any, ...] | None = None
) -> int:
    """Insert or update the job's row; gives its sequence. `running` has the row's status and
    process, None when there is no row."""
    sequence = tx.next_sequence(state.updated_at)
    process = tx.process if state.pid is not None else None
    start, boot_id = (process.start, process.boot_id) if process else (None, None)
    if running is None:
        tx.run(_INSERT_JOB, (*JOBS.row(state), sequence, start, boot_id))
    elif running == (str(state.status), state.pid, start, boot_id):
        tx.run(_UPDATE_UNMOVED, (*UNMOVED.row(state), sequence, state.job_id))
    else:
        tx.run(_UPDATE_JOB, (*CHANGING.row(state), sequence, start, boot_id, state.job_id))
    return sequence


def _first_claimable(tx: Transaction, job: CheckpointState, max_attempts: int) -> int | None:
    """The smallest sheet number that may be claimed, None when there is none."""
    (number,) = tx.one(_SELECT_CLAIMABLE, (job.job_id, max_attempts))
    return number if number <= job.total_sheets else None


def _updating(columns: Sequence[str]) -> str:
    return f"UPDATE jobs SET {', '.join(f'{name} = ?' for name in columns)} WHERE id = ?"


_INSERT_EXECUTION = (
    "INSERT INTO execution_history (job_id, sheet_num, attempt_num, prompt, output, exit_code, "
    "duration_seconds, executed_at, ordinal) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 1 + coalesce("
    "(SELECT ordinal FROM execution_history WHERE job_id = ?1 AND sheet_num = ?2 "
    "ORDER BY id DESC LIMIT 1), 0))"
)
_OF_PROCESS = "pid = ? AND process_start IS ? AND boot_id = ?"
_SELECT_KEPT = (
    "SELECT revision, sequence, status, pid, process_start, boot_id FROM jobs WHERE id = ?"
)
_INSERT_JOB = (
    f"INSERT INTO jobs ({', '.join(JOBS.columns)}, sequence, process_start, boot_id) "
    f"VALUES (?{', ?' * (len(JOBS.columns) + 2)})"
)
_UPDATE_JOB = _updating([*CHANGING.columns, "sequence", "process_start", "boot_id"])
_UPDATE_UNMOVED = _updating([*UNMOVED.columns, "sequence"])

_SELECT_CLAIMABLE = """
WITH RECURSIVE attempts(made) AS (
    SELECT min(attempt_count) FROM sheets WHERE job_id = ?1 AND status = 'failed'
    UNION ALL
    SELECT (SELECT min(attempt_count) FROM sheets
            WHERE job_id = ?1 AND status = 'failed' AND attempt_count > made)
    FROM attempts WHERE made < ?2
)
SELECT min(first) FROM (
    SELECT sheets_through + 1 AS first FROM jobs WHERE id = ?1
    UNION ALL
    SELECT min(sheet_num) FROM sheets WHERE job_id = ?1 AND status = 'pending'
        AND status IN ('pending', 'ready', 'failed')
    UNION ALL
    SELECT min(sheet_num) FROM sheets WHERE job_id = ?1 AND status = 'ready'
        AND status IN ('pending', 'ready', 'failed')
    UNION ALL
    SELECT (SELECT min(sheet_num) FROM sheets
            WHERE job_id = ?1 AND status = 'failed' AND attempt_count = made)
    FROM attempts WHERE made < ?2
)
"""
"""One search for each number of attempts below the largest allowed that a failed sheet has."""
