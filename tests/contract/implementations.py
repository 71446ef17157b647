"""How each implementation of a backend is set up and torn down.

The two clients speak to a real daemon on a real socket, which runs on the loop of the test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import jobkeep
from jobkeep_protocol.backend import StateBackend
from jobkeep_protocol.states import CheckpointState
from jobkeepd import SQLiteStateBackend
from jobkeepd.daemon import Daemon
from jobkeepd.settings import Settings
from tests.contract.on_threads import OnThreads
from tests.daemon_process import accepts
from tests.support import scaled, wait_until_async

Backend = StateBackend[CheckpointState]


@asynccontextmanager
async def daemon_in_process(directory: Path) -> AsyncIterator[Path]:
    """A daemon on the running loop; gives its socket."""
    socket = directory / "jobkeep.sock"
    daemon = Daemon(Settings(db=str(directory / "state.db"), socket=str(socket)))
    running = asyncio.create_task(daemon.run())
    try:
        await wait_until_async(lambda: _accepts_or_ended(socket, running))
        yield socket
    finally:
        daemon.stop()
        await running


async def _accepts_or_ended(socket: Path, running: asyncio.Task[None]) -> bool:
    return running.done() or accepts(socket)


@asynccontextmanager
async def embedded(directory: Path) -> AsyncIterator[Backend]:
    """The store in this process."""
    async with SQLiteStateBackend(directory / "state.db") as backend:
        yield backend


@asynccontextmanager
async def asynchronous(directory: Path) -> AsyncIterator[Backend]:
    """The asynchronous client."""
    async with daemon_in_process(directory) as socket:
        client = jobkeep.AsyncClient(socket, timeout=scaled(20))
        async with client:
            yield client


@asynccontextmanager
async def blocking(directory: Path) -> AsyncIterator[Backend]:
    """The blocking client, each call on a thread."""
    async with daemon_in_process(directory) as socket:
        adapter = OnThreads(jobkeep.Client(socket, timeout=scaled(20)))
        try:
            yield adapter
        finally:
            await adapter.close()


IMPLEMENTATIONS: dict[str, Callable[[Path], AbstractAsyncContextManager[Backend]]] = {
    "embedded": embedded,
    "async-client": asynchronous,
    "client": blocking,
}
