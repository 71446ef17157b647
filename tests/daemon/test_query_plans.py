"""Cost follows change: no statement reads more because more is kept.

Every statement the store runs is recorded where SQLite gets it. Its plan must search; and the
steps that SQLite takes for an operation must be the same in a small file and in a large one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from jobkeep_protocol.messages import GetLearnedPatterns
from jobkeep_protocol.states import CheckpointState, JobStatus, SheetState, SheetStatus
from jobkeepd.backend import SQLiteStateBackend
from jobkeepd.processes import ProcessId
from jobkeepd.store import learning
from jobkeepd.store.applied import AppliedRequests
from jobkeepd.store.store import Store

SMALL, LARGE = 30, 600
"""Sheets of a job, other jobs, and attempts at a sheet."""

ALLOWED = {
    "SCAN CONSTANT ROW": ("SELECT", "no table"),
    "SCAN attempts": ("WITH RECURSIVE attempts", "numbers of attempts below the largest allowed"),
    "SCAN jobs USING INDEX idx_jobs_sequence": (
        "WHERE 1 ORDER BY sequence DESC LIMIT",
        "stops when it has the jobs asked for",
    ),
    "SCAN 2 CONSTANT ROWS": ("INSERT INTO sheet_counts", "once, when the table is made"),
    "SCAN sheet_counts": ("FROM sheet_counts", "one row for each of two statuses"),
    "SCAN (subquery-1)": ("FROM patterns", "the jobs that are named, ten at most"),
    "SCAN some": ("SELECT count(*) FROM (SELECT 1 FROM failures", "no more than MANY are counted"),
    "SCAN found": (") AS found ", "those asked for, or no more than MAX_LOOKED_AT or MAX_RANKED"),
    "USE TEMP B-TREE FOR ORDER BY": (") AS found ", "the same"),
    "SCAN search_failures VIRTUAL TABLE INDEX 192:M1": (
        "search_failures MATCH",
        "the index of the words; the newest first, until there are those asked for",
    ),
    "SCAN found VIRTUAL TABLE INDEX 1:": ("json_each", "the failures that were asked for"),
    "SCAN job_counts": ("FROM job_counts WHERE jobs > 0", "one row for each status"),
    "SCAN claims": ("UNION SELECT pid", "the processes that hold claims are what is asked for"),
    "SCAN workers": ("UNION SELECT pid", "the processes that work are what is asked for"),
    "UNION USING TEMP B-TREE": ("UNION SELECT pid", "each process once"),
    "SCAN applied_requests": (
        "DELETE FROM applied_requests WHERE applied_at <",
        "once an hour; an index would cost every write a page",
    ),
    "SCAN sqlite_master": ("FROM sqlite_master", "once, when the file is opened"),
    "SCAN counters": ("SELECT name FROM counters", "once, when the file is opened: three rows"),
    "SCAN pragma_module_list VIRTUAL TABLE INDEX 0:": (
        "FROM pragma_module_list",
        "once, when the index of the texts is made",
    ),
}
"""Lines of plans that read all there is: a part of the statement that may, and why."""

Statement: TypeAlias = tuple[str, Any]


class Filled(SQLiteStateBackend):
    """A backend with many jobs; `changing` is one of them, as it was saved last."""

    changing: CheckpointState


Operation: TypeAlias = Callable[[Filled], Awaitable[object]]


class Record:
    """What SQLite was given, and the steps it took."""

    def __init__(self) -> None:
        self.statements: list[Statement] = []
        self.steps = 0

    def step(self) -> int:
        """One step more; go on."""
        self.steps += 1
        return 0


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Record:
    """Of all connections that are opened from now on."""
    record = Record()
    connect = sqlite3.connect

    class Recording(sqlite3.Connection):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.set_progress_handler(record.step, 1)

        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            record.statements.append((sql, parameters))
            return super().execute(sql, parameters)

        def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
            rows = list(parameters)
            record.statements += [(sql, row) for row in rows[:1]]
            return super().executemany(sql, rows)

    def connect_recording(*arguments: Any, **options: Any) -> sqlite3.Connection:
        return connect(*arguments, factory=Recording, **options)

    monkeypatch.setattr(sqlite3, "connect", connect_recording)
    return record


# -- operations ---------------------------------------------------------------------------------


def _since(delta: timedelta) -> datetime:
    return datetime.now(UTC) + delta


async def _save_after_one_change(backend: Filled) -> object:
    backend.changing.sheets[3].attempt_count += 1
    return await backend.save(backend.changing)


async def _page_on(backend: Filled) -> object:
    return await backend.query_jobs(limit=3, after=(await backend.query_jobs(limit=3))[-1])


async def _page_on_after_a_change(backend: Filled) -> object:
    last = (await backend.query_jobs(limit=3))[-1]
    await backend.mark_sheet_status(last["id"], 1, SheetStatus.READY)
    return await backend.query_jobs(limit=3, after=last)


async def _grow(backend: Filled) -> object:
    await backend.save(CheckpointState(job_id="growing", total_sheets=9))
    await backend.save_sheet("growing", SheetState(sheet_num=1))
    return await backend.save(CheckpointState(job_id="growing", total_sheets=7))


async def _record_and_delete(backend: Filled) -> object:
    await backend.save(CheckpointState(job_id="new", total_sheets=2))
    await backend.claim_next_sheet("new")
    await backend.record_execution("new", 1, 1)
    return await backend.delete("new")


async def _learn(backend: Filled) -> object:
    sheet = SheetState(sheet_num=1, learned_patterns=["of all", "p 1"])
    await backend.save_sheet("learned-0", sheet)
    sheet.learned_patterns = ["of all", "p 2"]
    sheet.status = SheetStatus.FAILED
    await backend.save_sheet("learned-0", sheet)
    return await backend.save_sheet("learned-0", SheetState(sheet_num=1))


async def _all_reports(backend: Filled, **filters: Any) -> object:
    return [
        await ask(**filters)
        for ask in (
            *(backend.get_overview, backend.get_durations, backend.get_errors),
            *(backend.get_validations, backend.get_outcomes, backend.get_timeline),
        )
    ]


def _store(backend: Filled) -> Store:
    assert backend._store is not None
    return backend._store


OPERATIONS: dict[str, Operation] = {
    "load": lambda it: it.load("job-1"),
    "a job that comes and goes": _record_and_delete,
    "a job that grows and shrinks": _grow,
    "save_sheet": lambda it: it.save_sheet("big", SheetState(sheet_num=2)),
    "mark started": lambda it: it.mark_sheet_status("big", 2, SheetStatus.IN_PROGRESS),
    "mark completed": lambda it: it.mark_sheet_status("big", 2, SheetStatus.COMPLETED),
    "mark failed": lambda it: it.mark_sheet_status("big", 2, SheetStatus.FAILED),
    "mark ready": lambda it: it.mark_sheet_status("big", 2, SheetStatus.READY),
    "claim the last pending": lambda it: it.claim_next_sheet("big"),
    "claim the last failed": lambda it: it.claim_next_sheet("failed", max_attempts=3),
    "claim a missing": lambda it: it.claim_next_sheet("missing"),
    "claim nothing": lambda it: it.claim_next_sheet("waiting"),
    "next is pending": lambda it: it.get_next_sheet("changing"),
    "next is missing": lambda it: it.get_next_sheet("missing"),
    "next is failed": lambda it: it.get_next_sheet("failed"),
    "next is none": lambda it: it.get_next_sheet("waiting"),
    "record_execution": lambda it: it.record_execution("big", 1, 1, output="x"),
    "history": lambda it: it.get_execution_history("big", limit=3),
    "history of a sheet": lambda it: it.get_execution_history("big", 1, limit=3),
    "history before": lambda it: it.get_execution_history("big", limit=3, before_id=20),
    "history of a sheet before": lambda it: it.get_execution_history(
        "big", 1, limit=3, before_id=20
    ),
    "history count": lambda it: it.get_execution_history_count("big"),
    "history count of a sheet": lambda it: it.get_execution_history_count("big", 1),
    "statistics": lambda it: it.get_job_statistics("big"),
    "query_jobs": lambda it: it.query_jobs(limit=3),
    "query_jobs, the next page": _page_on,
    "query_jobs, the page after a job that changed": _page_on_after_a_change,
    "query_jobs of a status": lambda it: it.query_jobs(JobStatus.PENDING, limit=3),
    "query_jobs of a rare status": lambda it: it.query_jobs(JobStatus.FAILED, limit=3),
    "query_jobs since long ago": lambda it: it.query_jobs(since=_since(timedelta(-9)), limit=3),
    "query_jobs since now": lambda it: it.query_jobs(since=_since(timedelta(9)), limit=3),
    "query_jobs of a status since now": lambda it: it.query_jobs(
        JobStatus.PENDING, _since(timedelta(9)), limit=3
    ),
    "patterns": lambda it: it.get_learned_patterns(limit=3),
    "patterns, the next page": lambda it: it.call(GetLearnedPatterns(None, 1, 3, 2, "p 3")),
    "a pattern": lambda it: it.get_learned_patterns("of all"),
    "similar by code": lambda it: it.find_similar_outcomes(error_code="E1", limit=3),
    "similar by category": lambda it: it.find_similar_outcomes("crash", limit=3),
    "similar by exit code": lambda it: it.find_similar_outcomes(exit_code=7, limit=3),
    "similar by all of them": lambda it: it.find_similar_outcomes("crash", "E1", 7, limit=3),
    "a sheet with patterns": _learn,
    "jobs of each status": lambda it: _store(it).jobs_by_status(),
    "known processes": lambda it: _store(it).known_processes(),
    "release": lambda it: _store(it).release(ProcessId(1, 2, "boot")),
    "save after one change": _save_after_one_change,
}
REPORTS_OF_FEW: dict[str, Operation] = {
    "reports since now": lambda it: _all_reports(it, since=_since(timedelta(9))),
    "reports of a name since now": lambda it: _all_reports(
        it, name="*", since=_since(timedelta(9))
    ),
    "reports of one of many jobs": lambda it: _all_reports(it, job_id="job-1"),
    "reports of one of many jobs since": lambda it: _all_reports(
        it, job_id="job-1", since=_since(timedelta(-9))
    ),
}
"""Reports that are about little of what there is."""

REPORTS: dict[str, Operation] = REPORTS_OF_FEW | {
    "reports": lambda it: _all_reports(it),
    "reports of a name": lambda it: _all_reports(it, name="*"),
    "reports until": lambda it: _all_reports(it, until=_since(timedelta(9))),
    "reports since": lambda it: _all_reports(it, since=_since(timedelta(-9))),
    "reports of a job with all": lambda it: _all_reports(it, job_id="big"),
}
WHOLE_ANSWERS: dict[str, Operation] = {
    "similar by words": lambda it: it.find_similar_outcomes(text="It broke", limit=3),
    "similar by code and words": lambda it: it.find_similar_outcomes(
        error_code="E1", text="It broke", limit=3
    ),
    "similar by some of many words": lambda it: it.find_similar_outcomes(text="It was torn"),
    "load of a large job": lambda it: it.load("big"),
    "list_jobs": lambda it: it.list_jobs(),
    "save of a whole job": lambda it: it.save(_job("big", 5, SheetStatus.READY)),
}
"""What reads or writes all of something is as long as that is, and words are looked up in tables of
SQLite's own: only the plan counts."""


def _job(job_id: str, size: int, status: SheetStatus, last: SheetStatus | None = None) -> Any:
    sheets = {
        number: SheetState(sheet_num=number, status=status, attempt_count=3)
        for number in range(1, size + 1)
    }
    if last is not None:
        sheets[size].status, sheets[size].attempt_count = last, 1
    return CheckpointState(job_id=job_id, total_sheets=size, sheets=sheets)


async def _fill(backend: Filled, size: int) -> None:
    """Jobs in which what is looked for is at the end, and many beside them."""
    for number in range(size):
        await backend.save(CheckpointState(job_id=f"job-{number}", total_sheets=1))
    for number in range(size):
        state = CheckpointState(job_id=f"learned-{number}", total_sheets=2)
        state.mark_sheet_failed(2, "it broke", "crash", 7)
        state.sheets[2].error_code = "E1"
        state.sheets[2].learned_patterns = ["of all", f"p {number}"]
        await backend.save(state)
    await backend.save(_job("big", size, SheetStatus.COMPLETED, SheetStatus.PENDING))
    backend.changing = _job("changing", size, SheetStatus.IN_PROGRESS, SheetStatus.PENDING)
    await backend.save(backend.changing)
    await backend.save(_job("failed", size, SheetStatus.FAILED, SheetStatus.FAILED))
    await backend.save(_job("waiting", size, SheetStatus.WAITING))
    missing = _job("missing", size, SheetStatus.WAITING)
    del missing.sheets[size]
    await backend.save(missing)
    for sheet_num in (2, 1, 2):
        for _ in range(size):
            await backend.record_execution("big", sheet_num, 1, exit_code=0)


@pytest.fixture
async def fill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[[int], Awaitable[Filled]]]:
    """Opens a backend on a new file of a size; what is left open is closed at the end."""
    monkeypatch.setattr(learning, "MANY", SMALL)
    opened: list[Filled] = []

    async def open_filled(size: int) -> Filled:
        backend = Filled(tmp_path / f"{size}.db", durability="normal")
        opened.append(backend)
        await _fill(backend, size)
        return backend

    yield open_filled
    for backend in opened:
        await backend.close()


# -- plans --------------------------------------------------------------------------------------


def _reads_too_much(line: str, sql: str) -> bool:
    if not line.startswith("SCAN") and "TEMP B-TREE" not in line:
        return False
    fragment, _ = ALLOWED.get(line, (None, ""))
    return fragment is None or fragment not in sql


async def test_every_statement_searches(
    record: Record, fill: Callable[[int], Awaitable[Filled]], tmp_path: Path
) -> None:
    backend = await fill(5)
    for operation in (OPERATIONS | WHOLE_ANSWERS).values():
        await operation(backend)
    statements = {sql: values for sql, values in record.statements if _has_a_plan(sql)}
    looking = sqlite3.connect(tmp_path / "5.db")
    AppliedRequests(looking).expire()
    statements |= {sql: values for sql, values in record.statements if "applied_at <" in sql}

    found = {
        (line, " ".join(sql.split()))
        for sql, values in statements.items()
        for *_, line in looking.execute(f"EXPLAIN QUERY PLAN {sql}", values)
    }
    looking.close()

    assert len(statements) > 40
    assert {(line, sql) for line, sql in found if _reads_too_much(line, sql)} == set()
    assert {line for line, _ in found} >= set(ALLOWED) - {"SCAN sqlite_master"}


READ_BY_REPORTS = {
    "execution_history": "USING COVERING INDEX idx_history_",
    "kept": "USING INTEGER PRIMARY KEY (rowid=?)",  # the slowest, which are listed
    "sheets": "USING INDEX sqlite_autoindex_sheets_1 (job_id=?)",
    "failures": "USING ",
}
"""How a report may read a table that grows: never its rows one after the other."""


async def test_reports_read_no_row_that_they_can_do_without(
    record: Record, fill: Callable[[int], Awaitable[Filled]], tmp_path: Path
) -> None:
    backend = await fill(5)
    before = len(record.statements)
    for ask in REPORTS.values():
        await ask(backend)
    asked = {sql: values for sql, values in record.statements[before:] if _has_a_plan(sql)}
    looking = sqlite3.connect(tmp_path / "5.db")

    read = [
        (line, " ".join(sql.split()))
        for sql, values in asked.items()
        for *_, line in looking.execute(f"EXPLAIN QUERY PLAN {sql}", values)
        if line.startswith(("SCAN", "SEARCH"))
    ]
    looking.close()

    tables = {line.split()[1] for line, _ in read}
    assert tables >= set(READ_BY_REPORTS)
    for line, sql in read:
        how = READ_BY_REPORTS.get(line.split()[1], "")
        assert how in line, (line, sql)
        if ">= ?" in sql:  # since some time
            assert "SCAN jobs" not in line or "name GLOB ?" in sql, (line, sql)
            assert "SCAN execution_history" not in line, (line, sql)
            assert "SCAN failures" not in line, (line, sql)


def _has_a_plan(sql: str) -> bool:
    return sql.lstrip().startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH"))


# -- steps --------------------------------------------------------------------------------------


async def test_operations_take_as_many_steps_in_a_large_file_as_in_a_small_one(
    record: Record, fill: Callable[[int], Awaitable[Filled]]
) -> None:
    taken: dict[int, dict[str, int]] = {}
    for size in (SMALL, LARGE):
        backend = await fill(size)
        taken[size] = {}
        for name, operation in (OPERATIONS | REPORTS_OF_FEW).items():
            before = record.steps
            await operation(backend)
            taken[size][name] = record.steps - before

    grown = {
        name: (steps, taken[LARGE][name])
        for name, steps in taken[SMALL].items()
        if taken[LARGE][name] > steps + 60  # house-keeping may come in between
    }
    assert grown == {}
