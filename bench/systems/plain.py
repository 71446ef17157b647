"""plain: what programs do without a daemon, each process opening the SQLite file itself.

What lives here: a backend with a connection an operation and every sheet written at every save,
at the same durability as jobkeep (WAL, synchronous=FULL) and with the same columns, converted by
the same code: only who owns the file differs. What may not: anything cleverer than that.

It goes through aiosqlite, as an asynchronous program must: the same client style for every system.
Where there was another choice it is the one that favours this system: all sheets go in one call;
a write takes its lock at the beginning (BEGIN IMMEDIATE), so that it waits for it instead of
failing; sheets that a state has no more are not looked for; and the tables have no indexes beyond
their keys.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType

import aiosqlite

from bench.trial import System
from bench.workload import Connect
from jobkeep_protocol.states import CheckpointState
from jobkeepd.store.rows import JOBS, SHEETS

BUSY_SECONDS = 30.0
"""How long an operation waits for the others' locks before it fails with `database is locked`."""


@contextmanager
def serve(directory: Path) -> Iterator[Connect]:
    """A new database; there is nothing to run."""
    path = directory / "state.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_SCHEMA)
    yield partial(PlainStore, path)


class PlainStore:
    """One process's access to the file. Raises sqlite3.OperationalError when that is locked."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def __aenter__(self) -> PlainStore:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing is kept open between operations."""

    async def load(self, job_id: str) -> CheckpointState | None:
        async with _opened(self._path) as connection:
            jobs = await connection.execute_fetchall(_SELECT_JOB, (job_id,))
            sheets = await connection.execute_fetchall(_SELECT_SHEETS, (job_id,))
        if not jobs:
            return None
        state: CheckpointState = JOBS.state(next(iter(jobs)))
        state.sheets = {sheet.sheet_num: sheet for sheet in map(SHEETS.state, sheets)}
        return state

    async def save(self, state: CheckpointState) -> None:
        rows = [(state.job_id, *SHEETS.row(sheet)) for sheet in state.sheets.values()]
        async with _transaction(self._path) as connection:
            await connection.execute(_REPLACE_JOB, JOBS.row(state))
            await connection.executemany(_REPLACE_SHEET, rows)

    async def record_execution(
        self,
        job_id: str,
        sheet_num: int,
        attempt_num: int,
        prompt: str | None = None,
        output: str | None = None,
        exit_code: int | None = None,
        duration_seconds: float | None = None,
    ) -> int | None:
        async with _transaction(self._path) as connection:
            cursor = await connection.execute(
                "INSERT INTO execution_history (job_id, sheet_num, attempt_num, prompt, output, "
                "exit_code, duration_seconds) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (job_id, sheet_num, attempt_num, prompt, output, exit_code, duration_seconds),
            )
        return cursor.lastrowid

    async def get_execution_history_count(self, job_id: str) -> int:
        async with _opened(self._path) as connection:
            ((count,),) = await connection.execute_fetchall(
                "SELECT count(*) FROM execution_history WHERE job_id = ?", (job_id,)
            )
        return int(count)


@asynccontextmanager
async def _opened(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    async with aiosqlite.connect(path, timeout=BUSY_SECONDS, isolation_level=None) as connection:
        await connection.execute("PRAGMA synchronous = FULL")
        yield connection


@asynccontextmanager
async def _transaction(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    async with _opened(path) as connection:
        await connection.execute("BEGIN IMMEDIATE")
        yield connection
        await connection.commit()


_SCHEMA = f"""
CREATE TABLE jobs ({", ".join(JOBS.columns)}, PRIMARY KEY (id));
CREATE TABLE sheets (job_id, {", ".join(SHEETS.columns)}, PRIMARY KEY (job_id, sheet_num));
CREATE TABLE execution_history (
    id INTEGER PRIMARY KEY, job_id, sheet_num, attempt_num, prompt, output, exit_code,
    duration_seconds
);
"""
# S608: put together from the names of columns, which are constants; values are bound.
_SELECT_JOB = f"SELECT {', '.join(JOBS.columns)} FROM jobs WHERE id = ?"
_SELECT_SHEETS = f"SELECT {', '.join(SHEETS.columns)} FROM sheets WHERE job_id = ?"
_REPLACE_JOB = f"REPLACE INTO jobs VALUES (?{', ?' * (len(JOBS.columns) - 1)})"
_REPLACE_SHEET = f"REPLACE INTO sheets VALUES (?{', ?' * len(SHEETS.columns)})"

SYSTEM = System("plain", serve)
