"""postgres-tuned: the fewest round trips to PostgreSQL that keep a job.

What lives here: what differs from `postgres`. It remembers what it last saved of each sheet and
sends only the sheets that changed since, and the job and its sheets are one statement.

- `save`: one round trip, one statement that commits by itself.
- `record_execution`: one round trip, as `postgres` does it.
- `load`: one round trip, one statement.

Each write is on disk when it is answered, as for `postgres`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec

from bench import postgres_server
from bench.systems.changes import Changes
from bench.systems.postgres import PostgresStore, decode_job, decode_sheet, job_row, serve_tables
from bench.trial import System
from bench.workload import Connect
from jobkeep_protocol.states import CheckpointState


class TunedPostgresStore(PostgresStore):
    """One process's connection to the server whose socket is in a directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._changes = Changes(msgspec.json.Encoder().encode)

    async def load(self, job_id: str) -> CheckpointState | None:
        rows = await self._connection.fetch(_LOAD, job_id)
        if not rows:
            return None
        (_, job), *sheets = rows
        state = decode_job(job)
        state.sheets = {number: decode_sheet(sheet) for number, sheet in sheets}
        return state

    async def save(self, state: CheckpointState) -> None:
        changed = self._changes.of(state)
        sheets = [sheet.decode() for sheet in changed.values()]
        await self._connection.execute(_SAVE, *job_row(state), list(changed), sheets)
        self._changes.are_saved(state, changed)


@contextmanager
def serve(directory: Path) -> Iterator[Connect]:
    """A new server."""
    with serve_tables(directory) as socket:
        yield partial(TunedPostgresStore, socket)


_LOAD = """
SELECT 0 AS sheet_num, state FROM jobs WHERE id = $1
UNION ALL SELECT sheet_num, state FROM sheets WHERE job_id = $1
ORDER BY sheet_num
"""
_SAVE = """
WITH job AS (
    INSERT INTO jobs (id, status, updated_at, state) VALUES ($1, $2, $3, $4)
    ON CONFLICT (id) DO UPDATE SET
        status = excluded.status, updated_at = excluded.updated_at, state = excluded.state
)
INSERT INTO sheets (job_id, sheet_num, state)
SELECT $1, number, sheet FROM unnest($5::integer[], $6::jsonb[]) AS changed (number, sheet)
ON CONFLICT (job_id, sheet_num) DO UPDATE SET state = excluded.state
"""

SYSTEM = System("postgres-tuned", serve, postgres_server.lacks)
