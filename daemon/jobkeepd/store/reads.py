"""What each read answers.

What lives here: one function for each operation that reads the database, and the table that finds
it. What may not: writing, and deciding what a reader may see.

Answers that can be large are put together from parts that are encoded one by one, so that their
size is known.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar

import aiosqlite
import msgspec

from jobkeep_protocol.backend import ExecutionRecord, JobStatistics, JobSummary
from jobkeep_protocol.codec import encode_part
from jobkeep_protocol.messages import (
    GetExecutionHistory,
    GetExecutionHistoryCount,
    GetJobStatistics,
    GetNextSheet,
    HistoryPage,
    JobsPage,
    ListJobs,
    Load,
    Loaded,
    QueryJobs,
    StatesPage,
)
from jobkeep_protocol.states import JobStatus, SheetStatus
from jobkeep_protocol.values import refused
from jobkeepd.processes import ProcessId
from jobkeepd.store.readers import MAX_PAGE_BYTES, Readers, read_page, read_state
from jobkeepd.store.rows import JOBS, SHEETS, sequence_at, to_text

RequestT = TypeVar("RequestT")
Handler = Callable[[Readers, Any], Awaitable[Any]]

READS: dict[type[Any], Handler] = {}
"""The function for each type of request."""

JOBS_A_PAGE = 25

_JOB_COLUMNS = ", ".join(JOBS.columns)
_SHEET_COLUMNS = ", ".join(f"sheets.{name}" for name in SHEETS.columns)
_SUMMARY_COLUMNS = tuple(JobSummary.__annotations__)
_RECORD_COLUMNS = tuple(ExecutionRecord.__annotations__)


def glob(pattern: str) -> str:
    """Shell wildcards as SQLite has them (https://www.sqlite.org/lang_expr.html#glob)."""
    return pattern.replace("[!", "[^")


def reads(
    kind: type[RequestT],
) -> Callable[[Callable[[Readers, RequestT], Awaitable[Any]]], Handler]:
    """Register the function for a type of request."""

    def register(function: Callable[[Readers, RequestT], Awaitable[Any]]) -> Handler:
        READS[kind] = function
        return function

    return register


@reads(Load)
async def load(readers: Readers, request: Load) -> Loaded | None:
    """One page of a job."""
    async with readers.snapshot() as connection:
        row = await _one(connection, _SELECT_JOB, request.job_id)
        if row is None:
            return None
        page = await read_state(
            connection,
            f"SELECT 0, {_SHEET_COLUMNS} FROM sheets WHERE job_id = ? AND sheet_num > ? "
            "ORDER BY sheet_num",
            (request.job_id, request.after_sheet or 0),
            _sheet_part,
        )
    state = _job_part(row) if request.after_sheet is None else None
    return _loaded(state, page.parts, row[0], page.more)


@reads(ListJobs)
async def list_jobs(readers: Readers, request: ListJobs) -> StatesPage:
    """One page of jobs: one statement for the jobs, one for the sheets of all of them."""
    sequences: dict[int, int] = {}

    def job_part(row: Any) -> msgspec.Raw:
        sequences[row[0]] = row[1]
        return encode_part(JOBS.state(row[2:]))

    async with readers.snapshot() as connection:
        jobs = await read_page(
            connection,
            _SELECT_JOBS,
            (request.after, JOBS_A_PAGE),
            job_part,
            max_rows=readers.limits.max_page_rows,
        )
        if not jobs.keys:
            return StatesPage([])
        sheets = await read_page(
            connection,
            _SELECT_SHEETS,
            (request.after, jobs.keys[-1]),
            _sheet_part,
            max_rows=math.inf,
        )
    if jobs.bytes + sheets.bytes > MAX_PAGE_BYTES:
        # Let the client ask for the sheets by themselves.
        first = Loaded(jobs.parts[0], [], sequences[jobs.keys[0]], more=True)
        return StatesPage([first], jobs.keys[0])
    next_after = jobs.keys[-1]
    last_complete = next_after
    if sheets.more:
        next_after, last_complete = sheets.keys[-1], sheets.keys[-1] - 1
    sheets_of: dict[int, list[Any]] = {}
    for place, part in zip(sheets.keys, sheets.parts, strict=True):
        sheets_of.setdefault(place, []).append(part)
    states = [
        _loaded(state, sheets_of[place], sequences[place], more=place > last_complete)
        for place, state in zip(jobs.keys, jobs.parts, strict=True)
        if place in sheets_of
    ]
    has_next = sheets.more or jobs.more or len(jobs.keys) == JOBS_A_PAGE
    return StatesPage(states, next_after if has_next else None)


@reads(QueryJobs)
async def query_jobs(readers: Readers, request: QueryJobs) -> JobsPage:
    """One page of summaries."""
    conditions = ["1"]
    values: list[Any] = []
    if request.status is not None:
        conditions.append("status = ?")
        values.append(str(request.status))
    if request.since is not None:
        conditions.append("sequence >= ? AND updated_at >= ?")
        values += (sequence_at(request.since), to_text(request.since))
    async with readers.connection() as connection:
        if request.after_id is not None:
            conditions.append("sequence < ?")
            values.append(await _sequence_of(connection, request))
        page = await read_page(
            connection,
            f"SELECT {', '.join(_SUMMARY_COLUMNS)} FROM jobs WHERE {' AND '.join(conditions)} "
            "ORDER BY sequence DESC LIMIT ?",
            (*values, request.limit),
            lambda row: encode_part(dict(zip(_SUMMARY_COLUMNS, row, strict=True))),
            max_rows=readers.limits.max_page_rows,
        )
    return JobsPage(page.parts, page.more and len(page.parts) < request.limit)


async def _sequence_of(connection: aiosqlite.Connection, request: QueryJobs) -> int:
    """Where the page after a job begins, also when the job has changed since it was seen."""
    row = await _one(
        connection, "SELECT sequence, updated_at FROM jobs WHERE id = ?", request.after_id
    )
    if row is not None and request.after_updated_at in {None, row[1]}:
        return int(row[0])
    try:
        return sequence_at(datetime.fromisoformat(request.after_updated_at or ""))
    except (ValueError, TypeError) as error:
        raise refused(
            "after", request.after_id, "the id of a kept job, or a summary of one"
        ) from error


@reads(GetJobStatistics)
async def get_job_statistics(readers: Readers, request: GetJobStatistics) -> JobStatistics | None:
    """The figures kept with the job: no history is read."""
    async with readers.connection() as connection:
        row = await _one(
            connection,
            "SELECT total_sheets, last_completed_sheet, total_retry_count, executions, "
            "executions_successful, executions_timed, executions_seconds FROM jobs WHERE id = ?",
            request.job_id,
        )
    if row is None:
        return None
    total, completed, retries, executions, successful, timed, seconds = row
    return {
        "total_sheets": total,
        "completed_sheets": completed,
        "success_rate": completed / total * 100,
        "total_retries": retries,
        "total_executions": executions,
        "successful_executions": successful,
        "avg_duration_seconds": seconds / timed if timed else None,
    }


@reads(GetNextSheet)
async def get_next_sheet(readers: Readers, request: GetNextSheet) -> int | None:
    """What `CheckpointState.get_next_sheet` gives, without reading the sheets."""
    async with readers.connection() as connection:
        row = await _one(connection, _SELECT_NEXT_SHEET, request.job_id)
    if row is None:
        return 1
    status, total, current, current_status, number = row
    if status in {JobStatus.COMPLETED, JobStatus.CANCELLED}:
        return None
    if current is not None and current_status == SheetStatus.IN_PROGRESS:
        return int(current)
    return int(number) if number <= total else None


@reads(GetExecutionHistory)
async def get_execution_history(readers: Readers, request: GetExecutionHistory) -> HistoryPage:
    """One page of attempts."""
    conditions = ["job_id = ?"]
    values: list[Any] = [request.job_id]
    for condition, value in (("sheet_num = ?", request.sheet_num), ("id < ?", request.before_id)):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    async with readers.connection() as connection:
        page = await read_page(
            connection,
            f"SELECT {', '.join(_RECORD_COLUMNS)} FROM execution_history "
            f"WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?",
            (*values, request.limit),
            lambda row: encode_part(dict(zip(_RECORD_COLUMNS, row, strict=True))),
            max_rows=readers.limits.max_page_rows,
        )
    return HistoryPage(page.parts, page.more and len(page.parts) < request.limit)


@reads(GetExecutionHistoryCount)
async def get_execution_history_count(readers: Readers, request: GetExecutionHistoryCount) -> int:
    """The counter kept with the job, or the ordinals of the newest and oldest of one sheet."""
    statement = _SELECT_COUNT
    values: list[Any] = [request.job_id]
    if request.sheet_num is not None:
        statement, values = _SELECT_SHEET_COUNT, [request.job_id, request.sheet_num]
    async with readers.connection() as connection:
        row = await _one(connection, statement, *values)
    return 0 if row is None or row[0] is None else int(row[0])


async def jobs_by_status(readers: Readers) -> dict[str, int]:
    """How many jobs there are of each status that has any."""
    async with readers.patient().connection() as connection:
        rows = await connection.execute_fetchall(
            "SELECT status, jobs FROM job_counts WHERE jobs > 0 ORDER BY status"
        )
    return {str(status): int(count) for status, count in rows}


async def claims_by_process(readers: Readers) -> dict[int, int]:
    """How many sheets each process holds, by its pid."""
    async with readers.patient().connection() as connection:
        rows = await connection.execute_fetchall("SELECT pid, count(*) FROM claims GROUP BY pid")
    return {int(pid): int(count) for pid, count in rows}


async def known_processes(readers: Readers) -> list[ProcessId]:
    """The processes that, as far as is known here, run jobs, hold claims or work on jobs."""
    async with readers.patient().connection() as connection:
        rows = await connection.execute_fetchall(
            "SELECT pid, process_start, boot_id FROM jobs "
            "WHERE status = 'running' AND pid IS NOT NULL AND boot_id IS NOT NULL "
            "UNION SELECT pid, process_start, boot_id FROM claims WHERE boot_id IS NOT NULL "
            "UNION SELECT pid, process_start, boot_id FROM workers WHERE boot_id IS NOT NULL"
        )
    return [ProcessId(*row) for row in rows]


def _job_part(row: Any) -> msgspec.Raw:
    return encode_part(JOBS.state(row[1:]))


def _sheet_part(row: Any) -> msgspec.Raw | None:
    return None if row[1] is None else encode_part(SHEETS.state(row[1:]))


def _loaded(state: Any, parts: list[Any], sequence: int, more: bool) -> Loaded:
    """A page; without its sheets, to be asked for again, when it would not fit in a frame."""
    sheets = [part for part in parts if part is not None]
    total = sum(memoryview(part).nbytes for part in (state, *sheets) if part is not None)
    if total > MAX_PAGE_BYTES and state is not None:
        return Loaded(state, [], sequence, more=True)
    return Loaded(state, sheets, sequence, more)


async def _one(connection: aiosqlite.Connection, statement: str, *values: Any) -> Any:
    rows = list(await connection.execute_fetchall(statement, values))
    return rows[0] if rows else None


_SELECT_JOB = f"SELECT sequence, {_JOB_COLUMNS} FROM jobs WHERE id = ?"
_SELECT_JOBS = (
    f"SELECT rowid, sequence, {_JOB_COLUMNS} FROM jobs WHERE rowid > ? ORDER BY rowid LIMIT ?"
)
"""By the place of their rows, which a job keeps however often it changes: so a list ends."""

_SELECT_SHEETS = (
    f"SELECT jobs.rowid, {_SHEET_COLUMNS} FROM jobs LEFT JOIN sheets ON sheets.job_id = jobs.id "
    "WHERE jobs.rowid > ? AND jobs.rowid <= ? ORDER BY jobs.rowid, sheet_num"
)
_SELECT_COUNT = (
    "SELECT executions - coalesce((SELECT sum(executions) FROM pruned_executions "
    "WHERE job_id = jobs.id), 0) FROM jobs WHERE id = ?"
)
_ORDINAL = "SELECT ordinal FROM execution_history WHERE job_id = ?1 AND sheet_num = ?2 ORDER BY id"
_SELECT_SHEET_COUNT = f"SELECT 1 + ({_ORDINAL} DESC LIMIT 1) - ({_ORDINAL} LIMIT 1)"
_OPEN = "job_id = jobs.id AND status IN ('pending', 'ready', 'failed') AND status"
_SELECT_NEXT_SHEET = f"""
SELECT status, total_sheets, current_sheet,
    (SELECT status FROM sheets WHERE job_id = jobs.id AND sheet_num = current_sheet),
    (SELECT min(first) FROM (
        SELECT min(sheet_num) AS first FROM sheets
            WHERE {_OPEN} = 'pending' AND sheet_num > last_completed_sheet
        UNION ALL SELECT min(sheet_num) FROM sheets
            WHERE {_OPEN} = 'ready' AND sheet_num > last_completed_sheet
        UNION ALL SELECT min(sheet_num) FROM sheets
            WHERE {_OPEN} = 'failed' AND sheet_num > last_completed_sheet
        UNION ALL SELECT CASE
            WHEN sheets_through >= last_completed_sheet THEN sheets_through + 1
            WHEN NOT EXISTS (SELECT 1 FROM sheets
                WHERE job_id = jobs.id AND sheet_num = last_completed_sheet + 1)
            THEN last_completed_sheet + 1
            ELSE (SELECT sheet_num + 1 FROM sheets AS present
                WHERE job_id = jobs.id AND sheet_num > last_completed_sheet AND NOT EXISTS (
                    SELECT 1 FROM sheets
                    WHERE job_id = jobs.id AND sheet_num = present.sheet_num + 1)
                ORDER BY sheet_num LIMIT 1) END))
FROM jobs WHERE id = ?
"""
