"""`SQLiteStateBackend`: the daemon's store inside one process, without a socket.

What lives here: the embedded face. Requests and replies go through the same bytes, operations and
store as in the daemon. What may not: anything that would behave differently from there.
"""

from __future__ import annotations

import asyncio
import itertools
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from jobkeep_protocol import calls
from jobkeep_protocol.backend import (
    ExecutionRecord,
    JobStatistics,
    JobSummary,
    StateBackend,
    highest_sheet,
)
from jobkeep_protocol.changes import SeenJobs
from jobkeep_protocol.errors import StorageError
from jobkeep_protocol.messages import (
    RecordExecution,
    Request,
    decode_reply,
    decode_request,
    encode_request,
    open_envelope,
)
from jobkeep_protocol.states import CheckpointState, SheetState
from jobkeepd.access import Peer
from jobkeepd.operations import Operations
from jobkeepd.store.connection import Durability
from jobkeepd.store.store import Store

T = TypeVar("T")


class SQLiteStateBackend(StateBackend[CheckpointState]):
    """A state backend on a database file of this process alone.

    For programs of one process and for tests. It takes the daemon's lock on the file, on first
    use: with several processes, run the daemon and use `jobkeep.AsyncClient`. Belongs to the event
    loop it is first used on; `async with` closes it at the end.
    """

    def __init__(self, db_path: str | Path, *, durability: Durability = "full") -> None:
        self.db_path = Path(db_path)
        self._durability: Durability = durability
        self._seen = SeenJobs()
        self._ids = itertools.count(1)
        self._store: Store | None = None
        self._operations: Operations | None = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> SQLiteStateBackend:
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def load(self, job_id: str) -> CheckpointState | None:
        return await self._run(calls.load(job_id, self._seen))

    async def save(self, state: CheckpointState, *, if_revision: int | None = None) -> int:
        saved = await self._run(calls.save(state, self._seen, if_revision))
        state.revision, state.updated_at = saved.revision, saved.updated_at
        return saved.revision

    async def delete(self, job_id: str) -> bool:
        return await self._run(calls.delete(job_id))

    async def list_jobs(self) -> list[CheckpointState]:
        return await self._run(calls.list_jobs())

    async def get_next_sheet(self, job_id: str) -> int | None:
        return await self._run(calls.get_next_sheet(job_id))

    async def mark_sheet_status(
        self, job_id: str, sheet_num: int, status: str, error_message: str | None = None
    ) -> None:
        await self._run(calls.mark_sheet_status(job_id, sheet_num, status, error_message))

    async def save_sheet(self, job_id: str, sheet: SheetState) -> int:
        return await self._run(calls.save_sheet(job_id, sheet))

    async def claim_next_sheet(self, job_id: str, *, max_attempts: int = 1) -> int | None:
        return await self._run(calls.claim_next_sheet(job_id, max_attempts))

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
        request = RecordExecution(
            job_id, sheet_num, attempt_num, prompt, output, exit_code, duration_seconds
        )
        return await self._run(calls.record_execution(request))

    async def get_execution_history(
        self,
        job_id: str,
        sheet_num: int | None = None,
        limit: int = 100,
        before_id: int | None = None,
    ) -> list[ExecutionRecord]:
        return await self._run(calls.get_execution_history(job_id, sheet_num, limit, before_id))

    async def get_execution_history_count(self, job_id: str, sheet_num: int | None = None) -> int:
        return await self._run(calls.get_execution_history_count(job_id, sheet_num))

    async def get_job_statistics(self, job_id: str) -> JobStatistics:
        return await self._run(calls.get_job_statistics(job_id))

    async def query_jobs(
        self,
        status: str | None = None,
        since: datetime | None = None,
        limit: int = 50,
        after: JobSummary | str | None = None,
    ) -> list[JobSummary]:
        return await self._run(calls.query_jobs(status, since, limit, after))

    async def infer_state_from_artifacts(
        self, job_id: str, workspace: str | Path, artifact_pattern: str
    ) -> int | None:
        del job_id  # the pattern says which files are the job's
        found = await asyncio.to_thread(lambda: list(Path(workspace).glob(artifact_pattern)))
        return highest_sheet(path.name for path in found)

    @property
    def supports_execution_history(self) -> bool:
        return True

    async def close(self) -> None:
        operations, self._operations = self._operations, None
        store, self._store = self._store, None
        self._seen.clear()  # the file may be another when it is opened again
        if operations is not None:
            await operations.close()
        if store is not None:
            await store.close()

    async def _run(self, call: calls.Call[T]) -> T:
        operations = await self._open()
        return await calls.run(call, lambda request: self._exchange(operations, request))

    async def _exchange(self, operations: Operations, request: Request[Any]) -> Any:
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        request_id, message = open_envelope(encode_request(next(self._ids), request))
        operations.dispatch(
            Peer.this_process(), b"", request_id, decode_request(message), answered.set_result
        )
        _, reply = open_envelope(await asyncio.shield(answered))
        return decode_reply(type(request), reply)

    async def _open(self) -> Operations:
        async with self._opening:
            if self._operations is None:
                self.db_path.parent.mkdir(parents=True, exist_ok=True)
                self._store = Store(self.db_path, self._durability, _ignore)
                self._operations = Operations(self._store)
                await self._operations.start()
            return self._operations


def _ignore(_: StorageError) -> None:
    """A database that failed: the writer has logged it, and refuses every write from now on."""
