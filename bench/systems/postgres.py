"""postgres: a server, and a backend as somebody would write it for PostgreSQL.

What lives here: `PostgresStore`, its tables and its statements. What may not: anything that only a
program which knows its own changes would do (that is `postgres_tuned`).

States are the JSON of the same Structs that jobkeep sends as msgpack, in `jsonb` columns. One
connection a process, one request at a time, with asyncpg, which prepares each statement once.

- `save`: four round trips. BEGIN; upsert the job; upsert all its sheets with `executemany`, which
  sends them together; COMMIT. Sheets that a state has no more are not looked for.
- `record_execution`: one round trip, an INSERT that commits by itself.
- `load`: two round trips, the job and its sheets.

Each write is on disk when it is answered (`synchronous_commit`). Where there was a choice it is the
one that favours this system: the tables have no foreign keys, and no indexes beyond their keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType

import asyncpg
import msgspec

from bench import postgres_server
from bench.trial import System
from bench.workload import Connect
from jobkeep_protocol.changes import without_sheets
from jobkeep_protocol.states import CheckpointState, SheetState

_encode = msgspec.json.Encoder().encode
decode_job = msgspec.json.Decoder(CheckpointState).decode
decode_sheet = msgspec.json.Decoder(SheetState).decode


class PostgresStore:
    """One process's connection to the server whose socket is in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def __aenter__(self) -> PostgresStore:
        self._connection = await connect(self._directory)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._connection.close()

    async def load(self, job_id: str) -> CheckpointState | None:
        job = await self._connection.fetchval("SELECT state FROM jobs WHERE id = $1", job_id)
        sheets = await self._connection.fetch(
            "SELECT sheet_num, state FROM sheets WHERE job_id = $1", job_id
        )
        if job is None:
            return None
        state = decode_job(job)
        state.sheets = {number: decode_sheet(sheet) for number, sheet in sheets}
        return state

    async def save(self, state: CheckpointState) -> None:
        sheets = [(state.job_id, number, encode(one)) for number, one in state.sheets.items()]
        async with self._connection.transaction():
            await self._connection.execute(_UPSERT_JOB, *job_row(state))
            await self._connection.executemany(_UPSERT_SHEET, sheets)

    async def record_execution(
        self,
        job_id: str,
        sheet_num: int,
        attempt_num: int,
        prompt: str | None = None,
        output: str | None = None,
        exit_code: int | None = None,
        duration_seconds: float | None = None,
    ) -> int:
        values = (job_id, sheet_num, attempt_num, prompt, output, exit_code, duration_seconds)
        return int(await self._connection.fetchval(_RECORD, *values))

    async def get_execution_history_count(self, job_id: str) -> int:
        return int(
            await self._connection.fetchval(
                "SELECT count(*) FROM execution_history WHERE job_id = $1", job_id
            )
        )


async def connect(directory: Path) -> asyncpg.Connection[asyncpg.Record]:
    """A connection to the server whose socket is in a directory."""
    owner = postgres_server.OWNER
    return await asyncpg.connect(host=str(directory), user=owner, database="postgres")


def encode(state: CheckpointState | SheetState) -> str:
    """A state as JSON text, which asyncpg takes for `jsonb`."""
    return _encode(state).decode()


def job_row(state: CheckpointState) -> tuple[object, ...]:
    """The values of `jobs`. The job alone: its sheets have rows of their own."""
    return (state.job_id, str(state.status), state.updated_at, encode(without_sheets(state)))


@contextmanager
def serve_tables(directory: Path) -> Iterator[Path]:
    """The directory with the socket of a new server that has the tables."""

    async def create() -> None:
        connection = await connect(socket)
        try:
            await connection.execute(_SCHEMA)
        finally:
            await connection.close()

    with postgres_server.running_postgres(directory) as socket:
        asyncio.run(create())
        yield socket


@contextmanager
def serve(directory: Path) -> Iterator[Connect]:
    """A new server."""
    with serve_tables(directory) as socket:
        yield partial(PostgresStore, socket)


_SCHEMA = """
CREATE TABLE jobs (
    id text PRIMARY KEY, status text NOT NULL, updated_at timestamptz NOT NULL, state jsonb NOT NULL
);
CREATE TABLE sheets (
    job_id text, sheet_num integer, state jsonb NOT NULL, PRIMARY KEY (job_id, sheet_num)
);
CREATE TABLE execution_history (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, job_id text NOT NULL,
    sheet_num integer NOT NULL, attempt_num integer NOT NULL, prompt text, output text,
    exit_code integer, duration_seconds double precision,
    executed_at timestamptz NOT NULL DEFAULT now()
);
"""
_UPSERT_JOB = """
INSERT INTO jobs (id, status, updated_at, state) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO UPDATE SET
    status = excluded.status, updated_at = excluded.updated_at, state = excluded.state
"""
_UPSERT_SHEET = """
INSERT INTO sheets (job_id, sheet_num, state) VALUES ($1, $2, $3)
ON CONFLICT (job_id, sheet_num) DO UPDATE SET state = excluded.state
"""
_RECORD = """
INSERT INTO execution_history
    (job_id, sheet_num, attempt_num, prompt, output, exit_code, duration_seconds)
VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id
"""

SYSTEM = System("postgres", serve, postgres_server.lacks)
