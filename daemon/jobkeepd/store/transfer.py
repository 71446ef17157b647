"""The history of a job on its way into another database, and out of one.

What lives here: the rows of an export, and the writes of an import. What may not: files, and in
which order jobs come (that is `imports`).

An import is made of small writes, so that others go on meanwhile, and each says how many attempts
it expects to find: one that was broken off goes on where it was when it is begun again, and nothing
comes twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import msgspec

from jobkeep_protocol.codec import encode_part
from jobkeep_protocol.errors import JobNotFound
from jobkeep_protocol.messages import ExportHistory, ImportHistory, ImportJob
from jobkeep_protocol.states import CheckpointState, JobStatus, SheetState, SheetStatus
from jobkeep_protocol.transfer import ImportBegun, KeptExecution, KeptFailure, KeptHistory
from jobkeep_protocol.values import MAX_INTEGER, check_integer
from jobkeepd.store.readers import Readers, read_page
from jobkeepd.store.reads import reads
from jobkeepd.store.rows import JOBS, SHEETS, to_text
from jobkeepd.store.transaction import Transaction
from jobkeepd.store.writes import keep_execution, store_job, writes

BATCH_BYTES = 1024 * 1024
"""About as much as goes into one write of an import."""

BATCH_ROWS = 500

# -- out ------------------------------------------------------------------------------------------


@reads(ExportHistory)
async def export_history(readers: Readers, request: ExportHistory) -> KeptHistory:
    """One page of the history of a job."""
    statement = _SELECT_FAILURES if request.unrecorded else _SELECT_EXECUTIONS
    kept = _failure if request.unrecorded else _execution
    async with readers.connection() as connection:
        page = await read_page(
            connection,
            statement,
            (request.job_id, request.after),
            lambda row: encode_part(kept(row)),
            max_rows=readers.limits.max_page_rows,
        )
    last = page.keys[-1] if page.keys else request.after
    parts: tuple[list[Any], list[Any]] = (
        ([], page.parts) if request.unrecorded else (page.parts, [])
    )
    return KeptHistory(*parts, last, page.more)


def jobs_in(connection: sqlite3.Connection) -> list[str]:
    """The ids of all jobs, those updated last at the end."""
    return [job_id for (job_id,) in connection.execute("SELECT id FROM jobs ORDER BY sequence")]


def job_in(
    connection: sqlite3.Connection, job_id: str
) -> tuple[CheckpointState, list[SheetState]] | None:
    """A job and its sheets; None for one that is not there."""
    row = connection.execute(_SELECT_JOB, (job_id,)).fetchone()
    if row is None:
        return None
    sheets = connection.execute(_SELECT_SHEETS, (job_id,))
    return JOBS.state(row), [SHEETS.state(one) for one in sheets]


def executions_in(
    connection: sqlite3.Connection, job_id: str, after: int
) -> tuple[list[KeptExecution], int]:
    """Some attempts of a job, the oldest first, and where those after them begin."""
    found: list[KeptExecution] = []
    size = 0
    with closing(connection.execute(_SELECT_EXECUTIONS, (job_id, after))) as rows:
        for row in rows:
            found.append(_execution(row))
            after = row[0]
            size += len(found[-1].prompt or "") + len(found[-1].output or "")
            if size >= BATCH_BYTES or len(found) >= BATCH_ROWS:
                break
    return found, after


def failures_in(connection: sqlite3.Connection, job_id: str) -> list[KeptFailure]:
    """The failures of a job of which no attempt was recorded."""
    return [_failure(row) for row in connection.execute(_SELECT_FAILURES, (job_id, 0))]


def place_of(connection: sqlite3.Connection, job_id: str, count: int) -> int:
    """Where the attempts after the first so many of a job begin; behind all where there are fewer,
    since somebody has recorded more of it."""
    if not count:
        return 0
    row = connection.execute(_SELECT_PLACE, (job_id, count - 1)).fetchone()
    return int(row[0]) if row else MAX_INTEGER


def _execution(row: Sequence[Any]) -> KeptExecution:
    """What a row of `_SELECT_EXECUTIONS` holds."""
    _, sheet_num, attempt_num, at, prompt, output, exit_code, seconds, extra, failed, *_ = row
    return KeptExecution(
        sheet_num,
        attempt_num,
        datetime.fromisoformat(at),
        prompt,
        output,
        exit_code,
        seconds,
        None if extra is None else msgspec.json.decode(extra),
        None if failed is None else _failure((0, sheet_num, *row[9:])),
    )


def _failure(row: Sequence[Any]) -> KeptFailure:
    """What a row of `_SELECT_FAILURES` holds."""
    _, sheet_num, attempt_num, at, *columns = row
    return KeptFailure(sheet_num, attempt_num, datetime.fromisoformat(at), *columns)


# -- in -------------------------------------------------------------------------------------------


@writes(ImportJob)
def import_job(tx: Transaction, request: ImportJob) -> ImportBegun:
    """Keep a job as it was, or tell how much of its history is kept already."""
    state = request.state
    kept = tx.one(_SELECT_KEPT, (state.job_id,))
    _stop(state, request.sheets)
    if kept is not None and not request.replace:
        if kept[:2] != (to_text(state.created_at), to_text(state.updated_at)):
            return ImportBegun(None, "there is a job of this id already")
        return ImportBegun(kept[3])
    if kept is not None and kept[2] == JobStatus.RUNNING:
        return ImportBegun(None, "the job of this id is running")
    if kept is not None:
        tx.remove_job(state.job_id)
    store_job(tx, state)
    tx.store_sheets(state.job_id, request.sheets)
    # Those of sheets that are failed now were made by a trigger; all come with the history.
    tx.run("DELETE FROM failures WHERE job_id = ?", (state.job_id,))
    tx.note_job("job", state)
    return ImportBegun(0)


@writes(ImportHistory)
def import_history(tx: Transaction, request: ImportHistory) -> int:
    """Add to the history of a job."""
    row = tx.one("SELECT executions FROM jobs WHERE id = ?", (request.job_id,))
    if row is None:
        raise JobNotFound.named(request.job_id)
    (count,) = row
    if count != request.after:
        return int(count)
    for one in request.executions:
        check_integer("sheet_num", one.sheet_num, 0)  # the total may be less by now
        execution_id = keep_execution(tx, request.job_id, one, one.executed_at.astimezone(UTC))
        if one.extra is not None:
            extra = msgspec.json.encode(one.extra).decode()
            tx.run("INSERT INTO execution_extra VALUES (?, ?)", (execution_id, extra))
        if one.failure is not None:
            _keep_failure(tx, request.job_id, one.failure, execution_id)
    for failure in request.failures:
        _keep_failure(tx, request.job_id, failure, None)
    return int(count) + len(request.executions)


def _stop(state: CheckpointState, sheets: Sequence[SheetState]) -> None:
    """Whoever worked on a job in another database does not work on it here."""
    updated_at = state.updated_at
    if state.status is JobStatus.RUNNING:
        state.mark_zombie_detected("it was running in the database that it was imported from")
    state.updated_at = updated_at
    state.pid = None
    state.current_sheet = None
    for sheet in sheets:
        if sheet.status is SheetStatus.IN_PROGRESS:
            sheet.status = SheetStatus.PENDING


def _keep_failure(
    tx: Transaction, job_id: str, failure: KeptFailure, execution_id: int | None
) -> None:
    """Keep what is known of an attempt that failed. A trigger may have made its row, of less."""
    values = [getattr(failure, name) for name in _FAILURE_COLUMNS]
    key = (job_id, failure.sheet_num, failure.attempt_num)
    failed_at = to_text(failure.failed_at.astimezone(UTC))
    if execution_id is None:
        found = tx.one(_SELECT_UNRECORDED_FAILURE, (*key, failed_at))
    else:
        found = tx.one("SELECT id FROM failures WHERE execution_id = ?", (execution_id,))
    if found is not None:
        tx.run(_UPDATE_FAILURE, (execution_id, failed_at, *values, found[0]))
    else:
        tx.run(_INSERT_FAILURE, (*key, execution_id, failed_at, *values))


_FAILURE_COLUMNS = KeptFailure.__struct_fields__[3:]
_OF_FAILURE = ", ".join(f"failures.{name}" for name in _FAILURE_COLUMNS)

_SELECT_KEPT = "SELECT created_at, updated_at, status, executions FROM jobs WHERE id = ?"
_SELECT_JOB = f"SELECT {', '.join(JOBS.columns)} FROM jobs WHERE id = ?"
_SELECT_SHEETS = f"SELECT {', '.join(SHEETS.columns)} FROM sheets WHERE job_id = ?"
_SELECT_EXECUTIONS = f"""
SELECT attempt.id, attempt.sheet_num, attempt.attempt_num, executed_at, prompt, output,
    attempt.exit_code, duration_seconds, extra, failures.attempt_num, failed_at, {_OF_FAILURE}
FROM execution_history AS attempt
    LEFT JOIN execution_extra ON execution_extra.execution_id = attempt.id
    LEFT JOIN failures ON failures.execution_id = attempt.id
WHERE attempt.job_id = ? AND attempt.id > ? ORDER BY attempt.id
"""
_SELECT_FAILURES = f"""
SELECT id, sheet_num, attempt_num, failed_at, {_OF_FAILURE}
FROM failures WHERE job_id = ? AND id > ? AND NOT EXISTS (
    SELECT 1 FROM execution_history WHERE id = failures.execution_id)
ORDER BY id
"""
_SELECT_PLACE = "SELECT id FROM execution_history WHERE job_id = ? ORDER BY id LIMIT 1 OFFSET ?"
_SELECT_UNRECORDED_FAILURE = """
SELECT id FROM failures INDEXED BY idx_failures_time
WHERE job_id = ? AND sheet_num = ? AND attempt_num = ? AND failed_at = ? AND execution_id IS NULL
"""
_UPDATE_FAILURE = (
    f"UPDATE failures SET execution_id = ?, failed_at = ?, "
    f"{', '.join(f'{name} = ?' for name in _FAILURE_COLUMNS)} WHERE id = ?"
)
_INSERT_FAILURE = (
    "INSERT INTO failures (job_id, sheet_num, attempt_num, execution_id, failed_at, "
    f"{', '.join(_FAILURE_COLUMNS)}) VALUES (?, ?, ?, ?, ?{', ?' * len(_FAILURE_COLUMNS)})"
)
