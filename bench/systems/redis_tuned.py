"""redis-tuned: the fewest and smallest requests to Redis that keep a job.

What lives here: what differs from `redis`. It remembers what it last saved of each sheet and sends
only the sheets that changed since, a job is one hash, and there is nothing by which jobs could be
listed or attempts counted by sheet.

- `save`: one round trip and one command. HSET the job and the sheets that changed.
- `record_execution`: one round trip and one command. RPUSH the attempt.
- `load`: one round trip and one command. HGETALL the job.

Each is on disk when it is answered, as for `redis`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench import redis_server
from bench.systems.changes import Changes
from bench.systems.redis import RedisStore, Value, decode_job, decode_sheet, encode
from bench.trial import System
from bench.workload import Connect
from jobkeep_protocol.changes import without_sheets
from jobkeep_protocol.states import CheckpointState

JOB = b"job"


class TunedRedisStore(RedisStore):
    """One process's connection to the server at a socket."""

    def __init__(self, socket: Path) -> None:
        super().__init__(socket)
        self._changes = Changes(encode)

    async def load(self, job_id: str) -> CheckpointState | None:
        found = await self._redis.hgetall(f"job:{job_id}")
        if not found:
            return None
        state = decode_job(found.pop(JOB))
        state.sheets = {int(number): decode_sheet(sheet) for number, sheet in found.items()}
        return state

    async def save(self, state: CheckpointState) -> None:
        changed = self._changes.of(state)
        fields: dict[Value, Value] = {JOB: encode(without_sheets(state))}
        fields |= dict(changed.items())
        await self._redis.hset(f"job:{state.job_id}", mapping=fields)
        self._changes.are_saved(state, changed)

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
        record = encode((sheet_num, attempt_num, prompt, output, exit_code, duration_seconds))
        return int(await self._redis.rpush(f"history:{job_id}", record))


@contextmanager
def serve(directory: Path) -> Iterator[Connect]:
    """A new server."""
    with redis_server.running_redis(directory) as socket:
        yield partial(TunedRedisStore, socket)


SYSTEM = System("redis-tuned", serve, redis_server.lacks)
