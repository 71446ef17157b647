"""`SQLiteStateBackend`: the daemon's store inside one process, without a socket.

What lives here: the embedded face. Requests and replies go through the same bytes, operations and
store as in the daemon. What may not: anything that would behave differently from there.
"""

from __future__ import annotations

import asyncio
import itertools
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from jobkeep_protocol import calls, messages
from jobkeep_protocol.backend import highest_sheet
from jobkeep_protocol.codec import (
    decode_reply,
    decode_request,
    encode_request,
    open_envelope,
)
from jobkeep_protocol.errors import StorageError
from jobkeep_protocol.face import AsyncFace, OwnStateCalls
from jobkeep_protocol.request import Request, Stream
from jobkeep_protocol.states import CheckpointState
from jobkeepd.access import Peer, command_of
from jobkeepd.durable import make_directory
from jobkeepd.exchange import Exchange
from jobkeepd.operations import Operations
from jobkeepd.store.connection import Durability
from jobkeepd.store.store import Store

T = TypeVar("T")


class SQLiteStateBackend(AsyncFace[CheckpointState]):
    """A state backend on a database file of this process alone.

    For programs of one process and for tests. It takes the daemon's lock on the file, on first
    use: with several processes, run the daemon and use `jobkeep.AsyncClient`. Belongs to the event
    loop it is first used on; `async with` closes it at the end. Without `search` no text is
    indexed, and the index that the file may have is dropped.
    """

    def __init__(
        self, db_path: str | Path, *, durability: Durability = "full", search: bool = True
    ) -> None:
        self.db_path = Path(db_path)
        self._search = search
        self._durability: Durability = durability
        self._states = OwnStateCalls()
        self._ids = itertools.count(1)
        self._store: Store | None = None
        self._operations: Operations | None = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> SQLiteStateBackend:
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def call(self, request: Request[T]) -> T:
        """Send one request of `jobkeep_protocol.messages` and give its reply; those about a daemon
        raise JobkeepError."""
        operations = await self._open()
        reply = await calls.run(calls.ask(request), partial(self._exchange, operations))
        if isinstance(request, Stream) and operations is not self._operations:
            raise StorageError(f"{self.db_path} was closed while it was watched")
        return reply

    async def infer_state_from_artifacts(
        self, job_id: str, workspace: str | Path, artifact_pattern: str
    ) -> int | None:
        del job_id  # the pattern says which files are the job's
        found = await asyncio.to_thread(lambda: list(Path(workspace).glob(artifact_pattern)))
        return highest_sheet(path.name for path in found)

    async def backup(self, path: str | Path) -> int:
        await self._open()
        assert self._store is not None, "it has just been opened"
        return await self._store.copy_to(Path(path))

    async def close(self) -> None:
        async with self._opening:
            operations, self._operations = self._operations, None
            store, self._store = self._store, None
            self._states.forget()  # the file may be another when it is opened again
            if operations is not None:
                await operations.close()
            if store is not None:
                await store.close()

    async def _run(self, call: calls.Call[T]) -> T:
        operations = await self._open()
        return await calls.run(call, partial(self._exchange, operations))

    async def _exchange(self, operations: Operations, request: Request[Any]) -> Any:
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        body = encode_request(next(self._ids), request)
        request_id, message = open_envelope(body)
        decoded = decode_request(message)
        caller = _ThisProcess(answered)
        operations.dispatch(Exchange(caller, request_id, decoded, len(body), len(body)))
        _, reply = open_envelope(await asyncio.shield(answered))
        return decode_reply(type(request), reply)

    async def _open(self) -> Operations:
        async with self._opening:
            if self._operations is None:
                make_directory(self.db_path.parent)
                self._store = Store(self.db_path, self._durability, _ignore, search=self._search)
                self._operations = Operations(self._store)
                await self._operations.start()
            return self._operations


class _ThisProcess:
    """The caller of one request that came over no socket."""

    client_id = b""
    connection_id = 0
    dialect: messages.Dialect = "binary"
    is_open = True

    def __init__(self, answered: asyncio.Future[bytes]) -> None:
        self.peer = Peer.this_process()
        self._answered = answered

    @property
    def command(self) -> str:
        return command_of(self.peer.pid)

    def answer(self, exchange: Exchange, body: bytes) -> int:
        del exchange  # there is one for each caller
        self._answered.set_result(body)
        return len(body)


def _ignore(_: StorageError) -> None:
    """A database that failed: the writer has logged it, and refuses every write from now on."""
