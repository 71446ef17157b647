"""Pruning: what is old is found, and removed in small batches.

What lives here: the rules of what may go, as a page of a preview and as a batch of a write, and
giving free pages back to the file system. What may not: how what went is counted (that is
`pruned`), and when the daemon prunes by itself (that is `retention`).

A preview reads kept sizes in an index, on a reader's connection. A batch goes from sheet to sheet
and takes the oldest attempts of each, so it reads no more than it removes and one look at each
sheet; whether a job is live is seen anew in each batch.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import aiosqlite

from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.messages import (
    PreviewPrune,
    Prune,
    PrunePage,
    PruneStep,
    Shrink,
    Shrunk,
)
from jobkeep_protocol.pruning import PrunedJob
from jobkeep_protocol.states import utc_now
from jobkeepd.store.patterns import keep_what_was_learned
from jobkeepd.store.pruned import count_attempts, count_failures, count_job
from jobkeepd.store.readers import Readers
from jobkeepd.store.reads import reads
from jobkeepd.store.rows import to_text
from jobkeepd.store.transaction import Transaction
from jobkeepd.store.writes import writes

JOBS_A_PAGE = 100
ATTEMPTS_A_PAGE = 200_000
"""What makes a page of a preview full, in few jobs or in many: a quarter of a second's reading."""

BEFORE_ALL_SHEETS = -1

BATCH_ROWS = 64
BATCH_BYTES = 128 * 1024
"""The most that one batch removes, unless a single attempt is larger: some milliseconds' work, with
the index of the texts too."""

BATCH_SHEETS = 1_024
"""The most sheets that a batch looks at."""

SHRINK_PAGES = 64
"""Pages that are given back at once, for each of which one or two others are written."""

NEVER = "~"
"""Later than every time as it is kept."""


# -- what would go --------------------------------------------------------------------------------


@reads(PreviewPrune)
async def preview_prune(readers: Readers, request: PreviewPrune) -> PrunePage:
    """The next jobs of which something would go."""
    _check_criteria(request.before, request.keep_last, request.status, request.max_bytes)
    async with readers.snapshot() as connection:
        before = request.before
        if request.max_bytes is not None and before is None:
            before = await _time_for(connection, request.max_bytes)
            if before is None:
                return PrunePage([])
        values = {
            "before": NEVER if before is None else _text(before),
            "keep": request.keep_last,
            "status": json.dumps(request.status),
            "after": request.after_job or "",
            "jobs": JOBS_A_PAGE,
        }
        statement = _SELECT_OLD_JOBS if request.status else _SELECT_PRUNABLE_JOBS
        ids, following = _page_of(await _all(connection, statement, values))
        values["ids"] = json.dumps(ids)
        jobs = await _parts_that_go(connection, request, values)
    return PrunePage(jobs, before, following)


def _page_of(found: list[tuple[str, int]]) -> tuple[list[str], str | None]:
    """The jobs of a page, of those that were found with how many attempts they had, and after which
    one the next page begins."""
    attempts = 0
    for place, (job_id, executions) in enumerate(found, 1):
        attempts += executions
        if attempts >= ATTEMPTS_A_PAGE or place == JOBS_A_PAGE:
            return [one for one, _ in found[:place]], job_id
    return [one for one, _ in found], None


async def _parts_that_go(
    connection: aiosqlite.Connection, request: PreviewPrune, values: dict[str, Any]
) -> list[PrunedJob]:
    whole = bool(request.status)
    attempts = {
        job_id: (count, size)
        for job_id, count, size in await _all(
            connection, _ALL_ATTEMPTS if whole else _SELECT_ATTEMPTS, values
        )
    }
    failures: dict[str, int] = {}
    if request.max_bytes is None:
        statement = _ALL_FAILURES if whole else _SELECT_FAILURES
        failures = dict(await _all(connection, statement, values))
    return [
        PrunedJob(job_id, whole, count, failures.get(job_id, 0), size)
        for job_id in json.loads(values["ids"])
        for count, size in [attempts.get(job_id, (0, 0))]
        if whole or count or job_id in failures
    ]


async def _time_for(connection: aiosqlite.Connection, max_bytes: int) -> datetime | None:
    """The time before which attempts have to go, for the others to take no more than this; None
    when they take no more than that already, or nothing may go."""
    ((kept,),) = await _all(connection, _SELECT_KEPT_BYTES, {})
    if kept <= max_bytes:
        return None
    found = await _all(connection, _SELECT_TIME, {"wanted": kept - max_bytes})
    if not found:  # not all that is wanted may go: so all goes that may
        return utc_now()
    return datetime.fromisoformat(found[0][0]) + timedelta(microseconds=1)


async def _all(
    connection: aiosqlite.Connection, statement: str, values: dict[str, Any]
) -> list[Any]:
    return list(await connection.execute_fetchall(statement, values))


# -- one batch ------------------------------------------------------------------------------------


class _Batch:
    """What one batch has removed so far."""

    def __init__(self) -> None:
        self.jobs = 0
        self.attempts = 0
        self.failures = 0
        self.bytes = 0
        self.sheets = 0
        """How many it has looked at, or removed with their job."""

    @property
    def is_full(self) -> bool:
        return self.rows_left <= 0 or self.bytes >= BATCH_BYTES or self.sheets >= BATCH_SHEETS

    @property
    def rows_left(self) -> int:
        return BATCH_ROWS - self.attempts - self.failures

    def step(self, done: int, after_sheet: int = BEFORE_ALL_SHEETS) -> PruneStep:
        return PruneStep(self.jobs, self.attempts, self.failures, self.bytes, done, after_sheet)


@writes(Prune)
def prune(tx: Transaction, request: Prune) -> PruneStep:
    """Go through the jobs asked for until the batch is full."""
    _check_criteria(request.before, request.keep_last, request.status)
    batch = _Batch()
    after_sheet = request.after_sheet
    for place, job_id in enumerate(request.job_ids):
        if batch.is_full:
            return batch.step(place)
        if _may_go(tx, request, job_id):
            reached = _prune_job(tx, request, job_id, after_sheet, batch)
            if reached is not None:
                return batch.step(place, reached)
        after_sheet = BEFORE_ALL_SHEETS
    return batch.step(len(request.job_ids))


def _may_go(tx: Transaction, request: Prune, job_id: str) -> bool:
    """Whether the job is one of which something may go, as it is now."""
    values = {
        "job_id": job_id,
        "before": NEVER if request.before is None else _text(request.before),
        "keep": request.keep_last,
        "status": json.dumps(request.status),
    }
    statement = _SELECT_OLD_JOB if request.status else _SELECT_PRUNABLE_JOB
    return tx.connection.execute(statement, values).fetchone() is not None


def _prune_job(
    tx: Transaction, request: Prune, job_id: str, after_sheet: int, batch: _Batch
) -> int | None:
    """Take what goes of a job; gives after which sheet to go on when there is more, else None."""
    whole = bool(request.status)
    before = NEVER if whole or request.before is None else _text(request.before)
    keep = 0 if whole else request.keep_last or 0
    for sheet_num in _sheets(tx, job_id, after_sheet):
        if batch.is_full:
            return sheet_num - 1
        batch.sheets += 1
        is_done = _prune_attempts(tx, job_id, sheet_num, before, keep, batch)
        if is_done and (whole or request.with_failures):
            is_done = _prune_failures(tx, job_id, sheet_num, before, keep, batch)
        if not is_done:
            return sheet_num - 1
    if whole:
        _remove_job(tx, job_id, batch)
    return None


def _sheets(tx: Transaction, job_id: str, after: int) -> Iterator[int]:
    """The sheets of a job that attempts or failures are kept of, in their order."""
    while True:
        (number,) = tx.one(_SELECT_NEXT_SHEET, (job_id, after))
        if number is None:
            return
        yield number
        after = number


def _prune_attempts(
    tx: Transaction, job_id: str, sheet_num: int, before: str, keep: int, batch: _Batch
) -> bool:
    """Take the oldest attempts of a sheet; gives whether none is left that goes."""
    newest = tx.one(_SELECT_NEWEST, (job_id, sheet_num))
    if newest is None:
        return True
    last, count = None, 0
    is_done = False
    oldest_first = tx.connection.execute(_SELECT_OLDEST, (job_id, sheet_num))
    for number, ordinal, executed_at, size in oldest_first:
        if executed_at >= before or ordinal > newest[0] - keep:
            is_done = True
            break
        if batch.rows_left - count <= 0 or (batch.bytes and batch.bytes + size > BATCH_BYTES):
            break
        last, count = number, count + 1
        batch.bytes += size
    else:
        is_done = True
    oldest_first.close()
    if last is not None:
        count_attempts(tx.connection, job_id, sheet_num, last)
        tx.run(_DELETE_OLDEST, (job_id, sheet_num, last))
        batch.attempts += count
    return is_done


def _prune_failures(
    tx: Transaction, job_id: str, sheet_num: int, before: str, keep: int, batch: _Batch
) -> bool:
    """Take old failures of a sheet; gives whether none is left that goes."""
    room = max(batch.rows_left, 0)
    found = tx.all(_SELECT_OLD_FAILURES, (job_id, sheet_num, before, keep, room + 1))
    ids = json.dumps([number for (number,) in found[:room]])
    if found and room:
        count_failures(tx.connection, job_id, ids)
        tx.run("DELETE FROM failures WHERE id IN (SELECT value FROM json_each(?))", (ids,))
        batch.failures += len(found[:room])
    return len(found) <= room


def _remove_job(tx: Transaction, job_id: str, batch: _Batch) -> None:
    """The job goes, with its sheets; its attempts and failures are gone."""
    (sheets,) = tx.one("SELECT count(*) FROM sheets WHERE job_id = ?", (job_id,))
    keep_what_was_learned(tx.connection, job_id)
    count_job(tx.connection, job_id)
    tx.remove_job(job_id)
    tx.note("deleted", utc_now(), job_id, message="pruned")
    batch.jobs += 1
    batch.sheets += sheets


def _check_criteria(
    before: datetime | None,
    keep_last: int | None,
    status: Sequence[str],
    max_bytes: int | None = None,
) -> None:
    """Refuse to prune without a criterion, and with criteria that say nothing together."""
    if status and before is None:
        raise InvalidRequest("jobs are pruned by their age too: give a time beside their status")
    if max_bytes is not None and (keep_last is not None or status):
        raise InvalidRequest("max_bytes is a criterion of its own: give it alone")
    if before is None and keep_last is None and max_bytes is None:
        raise InvalidRequest(
            "nothing says what to prune: give an age, how many attempts of each sheet to keep, or "
            "how many bytes of prompts and outputs"
        )


# -- room -----------------------------------------------------------------------------------------


@writes(Shrink)
def shrink(tx: Transaction, _: Shrink) -> Shrunk:
    """Move some of the last pages of the file to where room is free, and cut the file there."""
    (page_bytes,) = tx.one("PRAGMA page_size")
    before = _pages(tx.connection)
    for _page in range(SHRINK_PAGES):  # Python's module steps such a statement once: one page
        tx.run("PRAGMA incremental_vacuum(1)")
    after = _pages(tx.connection)
    (free,) = tx.one("PRAGMA freelist_count")
    return Shrunk((before - after) * page_bytes, more=after < before and free > 0)


def _pages(connection: sqlite3.Connection) -> int:
    (count,) = connection.execute("PRAGMA page_count").fetchone()
    return int(count)


def _text(moment: datetime) -> str:
    return to_text(moment.astimezone(UTC))


_IS_LIVE = """(
    jobs.status = 'running'
    OR (jobs.pid NOTNULL AND jobs.status NOT IN ('completed', 'failed', 'cancelled'))
    OR EXISTS (SELECT 1 FROM claims WHERE claims.job_id = jobs.id)
    OR EXISTS (SELECT 1 FROM workers WHERE workers.job_id = jobs.id))
"""
_KEPT_LAST = """
WITH kept_last(status, sequence) AS MATERIALIZED (
    SELECT value, (
        SELECT sequence FROM jobs WHERE status = value
        ORDER BY sequence DESC LIMIT 1 OFFSET max(:keep, 1) - 1)
    FROM json_each(:status))
"""
_IS_OLD = f"""
jobs.status IN (SELECT value FROM json_each(:status)) AND jobs.updated_at < :before
AND (coalesce(:keep, 0) = 0 OR jobs.sequence < (
    SELECT sequence FROM kept_last WHERE kept_last.status = jobs.status))
AND NOT {_IS_LIVE}
"""
_SELECT_OLD_JOBS = f"""
{_KEPT_LAST}
SELECT id, executions FROM jobs WHERE id > :after AND {_IS_OLD} ORDER BY id LIMIT :jobs
"""
_SELECT_OLD_JOB = f"{_KEPT_LAST} SELECT 1 FROM jobs WHERE id = :job_id AND {_IS_OLD}"
_SELECT_PRUNABLE_JOBS = (
    f"SELECT id, executions FROM jobs WHERE id > :after AND NOT {_IS_LIVE} ORDER BY id LIMIT :jobs"
)
_SELECT_PRUNABLE_JOB = f"SELECT 1 FROM jobs WHERE id = :job_id AND NOT {_IS_LIVE}"

_OF_THESE_JOBS = "job_id IN (SELECT value FROM json_each(:ids))"
_HISTORY = "execution_history INDEXED BY idx_history_job_sheet"
_SELECT_ATTEMPTS = f"""
SELECT job_id, count(*), sum(bytes) FROM (
    SELECT job_id, bytes, ordinal, max(ordinal) OVER sheet AS newest,
        max(executed_at >= :before) OVER (
            sheet ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS stays
    FROM {_HISTORY} WHERE {_OF_THESE_JOBS}
    WINDOW sheet AS (PARTITION BY job_id, sheet_num))
WHERE NOT stays AND ordinal <= newest - coalesce(:keep, 0) GROUP BY job_id
"""
_ALL_ATTEMPTS = (
    f"SELECT job_id, count(*), sum(bytes) FROM {_HISTORY} WHERE {_OF_THESE_JOBS} GROUP BY job_id"
)
_SELECT_FAILURES = f"""
SELECT job_id, count(*) FROM (
    SELECT job_id, failed_at,
        row_number() OVER (PARTITION BY job_id, sheet_num ORDER BY id DESC) AS place
    FROM failures WHERE {_OF_THESE_JOBS})
WHERE failed_at < :before AND place > coalesce(:keep, 0) GROUP BY job_id
"""
_ALL_FAILURES = f"SELECT job_id, count(*) FROM failures WHERE {_OF_THESE_JOBS} GROUP BY job_id"
_SELECT_KEPT_BYTES = (
    "SELECT coalesce(sum(bytes), 0) FROM execution_history INDEXED BY idx_history_time"
)
_SELECT_TIME = f"""
SELECT executed_at FROM (
    SELECT executed_at, sum(bytes) OVER (ORDER BY executed_at) AS gone
    FROM execution_history INDEXED BY idx_history_time
    WHERE job_id NOT IN (SELECT id FROM jobs WHERE {_IS_LIVE}))
WHERE gone >= :wanted ORDER BY executed_at LIMIT 1
"""

_SELECT_NEXT_SHEET = f"""
SELECT min(number) FROM (
    SELECT min(sheet_num) AS number FROM {_HISTORY} WHERE job_id = ?1 AND sheet_num > ?2
    UNION ALL SELECT min(sheet_num) FROM failures WHERE job_id = ?1 AND sheet_num > ?2)
"""
_SELECT_NEWEST = (
    f"SELECT ordinal FROM {_HISTORY} WHERE job_id = ? AND sheet_num = ? ORDER BY id DESC LIMIT 1"
)
_SELECT_OLDEST = (
    f"SELECT id, ordinal, executed_at, bytes FROM {_HISTORY} "
    "WHERE job_id = ? AND sheet_num = ? ORDER BY id"
)
_DELETE_OLDEST = f"DELETE FROM {_HISTORY} WHERE job_id = ? AND sheet_num = ? AND id <= ?"
_SELECT_OLD_FAILURES = """
SELECT id FROM failures WHERE job_id = ?1 AND sheet_num = ?2 AND failed_at < ?3
    AND (?4 = 0 OR id < (
        SELECT id FROM failures WHERE job_id = ?1 AND sheet_num = ?2
        ORDER BY id DESC LIMIT 1 OFFSET ?4 - 1))
ORDER BY id LIMIT ?5
"""
