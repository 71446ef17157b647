"""redis: a server, and a backend as somebody would write it for Redis.

What lives here: `RedisStore` and its keys. What may not: anything that only a program which knows
its own changes would do (that is `redis_tuned`).

States are the JSON of the same Structs that jobkeep sends as msgpack. One connection a process, one
request at a time, with redis-py and its C parser.

- `save`: one round trip. MULTI; SET the job; HSET all its sheets; ZADD the job to the jobs by time
  of update; EXEC. Sheets that a state has no more are not looked for.
- `record_execution`: one round trip. MULTI; RPUSH the attempt; HINCRBY the sheet's count; EXEC.
- `load`: one round trip. MULTI; GET the job; HGETALL its sheets; EXEC.

Each is on disk when it is answered (`appendfsync always`), and whole or not at all (MULTI).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

import msgspec
from redis.asyncio import Redis

from bench import redis_server
from bench.trial import System
from bench.workload import Connect
from jobkeep_protocol.changes import without_sheets
from jobkeep_protocol.states import CheckpointState, SheetState

Value: TypeAlias = "bytes | bytearray | memoryview[int] | str | int | float"
"""What redis-py takes for a field and for a value."""

JOBS = "jobs"
encode = msgspec.json.Encoder().encode
decode_job = msgspec.json.Decoder(CheckpointState).decode
decode_sheet = msgspec.json.Decoder(SheetState).decode


class RedisStore:
    """One process's connection to the server at a socket."""

    def __init__(self, socket: Path) -> None:
        self._redis = Redis(unix_socket_path=str(socket), single_connection_client=True)

    async def __aenter__(self) -> RedisStore:
        await self._redis.initialize()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._redis.aclose()

    async def load(self, job_id: str) -> CheckpointState | None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.get(f"job:{job_id}")
            pipe.hgetall(f"sheets:{job_id}")
            job, sheets = await pipe.execute()
        if job is None:
            return None
        state = decode_job(job)
        state.sheets = {int(number): decode_sheet(sheet) for number, sheet in sheets.items()}
        return state

    async def save(self, state: CheckpointState) -> None:
        job = without_sheets(state)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(f"job:{state.job_id}", encode(job))
            if state.sheets:
                sheets: Mapping[Value, Value] = {
                    number: encode(sheet) for number, sheet in state.sheets.items()
                }
                pipe.hset(f"sheets:{state.job_id}", mapping=sheets)
            pipe.zadd(JOBS, {state.job_id: state.updated_at.timestamp()})
            await pipe.execute()

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
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.rpush(f"history:{job_id}", record)
            pipe.hincrby(f"attempts:{job_id}", str(sheet_num))
            length, _ = await pipe.execute()
        return int(length)

    async def get_execution_history_count(self, job_id: str) -> int:
        return int(await self._redis.llen(f"history:{job_id}"))


@contextmanager
def serve(directory: Path) -> Iterator[Connect]:
    """A new server."""
    with redis_server.running_redis(directory) as socket:
        yield partial(RedisStore, socket)


SYSTEM = System("redis", serve, redis_server.lacks)
