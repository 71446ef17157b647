"""Clients in processes of their own, as users have them: they reconnect and send again by
themselves.

What lives here: both ends of such a process: how a test starts, orders and kills it, and how it
opens its client and follows orders. What may not: what a client does with jobs (that is `load` and
`histories.client`).

An order is a line on the process's standard input, and is answered with a line on its standard
output once it is carried out:

    next    go on to the next generation of jobs
    rest    end what is under way, begin nothing more
    read    read back every job there can be

The process ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, cast, get_args

import uvloop

import jobkeep
from jobkeep import CheckpointState, StateBackend
from tests.contract.on_threads import OnThreads
from tests.faults.operations import OperationLog
from tests.support import PATIENCE, scaled

T = TypeVar("T")
Backend: TypeAlias = StateBackend[CheckpointState]
Face: TypeAlias = Literal["async", "blocking"]
Order: TypeAlias = Literal["next", "rest", "read"]

FACES: tuple[Face, ...] = get_args(Face)


# -- the test's end -----------------------------------------------------------------------------


class ClientProcess:
    """A process that runs `module` with a client of one kind. `log` has its operations."""

    def __init__(self, module: str, face: Face, name: str, socket: Path, timeout: float) -> None:
        self.log = socket.with_name(f"{name}.operations")
        self.died_at: int | None = None
        """When it was killed, by `time.monotonic_ns`."""
        self._errors = socket.with_name(f"{name}.errors")
        command = [sys.executable, "-X", "faulthandler", "-m", module, face, name]  # crashes speak
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [*command, str(socket), str(self.log), str(timeout)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    @property
    def failure(self) -> str | None:
        """Why it has ended by itself, None while it has not."""
        status = self._process.poll()
        if status is None:
            return None
        complaints = self._errors.read_text(encoding="utf-8")
        return f"{self.log.stem} ended by itself with status {status}: {complaints}"

    def order(self, order: Order) -> None:
        """Send an order without waiting for anything."""
        stdin = self._process.stdin
        assert stdin is not None, "it is a pipe"
        try:
            print(order, file=stdin, flush=True)
        except BrokenPipeError:
            self._process.wait(scaled(PATIENCE))
            raise AssertionError(self.failure) from None

    def wait_for(self, answer: str) -> None:
        """Wait until it says that it has carried out an order, or that it is `ready`."""
        stdout = self._process.stdout
        assert stdout is not None, "it is a pipe"
        line = stdout.readline()
        if not line:
            self._process.wait(scaled(PATIENCE))
        assert line == f"{answer}\n", self.failure or f"it said {line!r} and not {answer!r}"

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.died_at = time.monotonic_ns()
        self.clean_up()

    def leave(self) -> None:
        """Let it end, and hold it to an exit status of 0."""
        self._process.communicate(timeout=scaled(PATIENCE))
        assert self._process.returncode == 0, self.failure

    def clean_up(self) -> None:
        """Leave no process and no pipe behind."""
        self._process.kill()
        self._process.wait(scaled(PATIENCE))
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None, "both are pipes"
            with contextlib.suppress(BrokenPipeError):  # of an order that it did not read any more
                pipe.close()


# -- the process's own end ----------------------------------------------------------------------


class RecordingClient:
    """A client whose operations are logged. `generation` and `is_resting` follow the orders."""

    def __init__(self, name: str, log: OperationLog, backend: Backend) -> None:
        self.name = name
        self.backend = backend
        self.generation = 0
        self.is_resting = False
        self._log = log

    async def record(
        self,
        job_id: str,
        name: str,
        arguments: list[Any],
        call: Awaitable[T],
        shown: Callable[[T], Any] = lambda result: result,
    ) -> T:
        """See `OperationLog.record`."""
        return await self._log.record(self.task_name, job_id, name, arguments, call, shown)

    @property
    def task_name(self) -> str:
        """The name of the task that asks; no other task has it."""
        task = asyncio.current_task()
        assert task is not None, "operations are made by tasks"
        return f"{self.name}.{task.get_name()}"


Work: TypeAlias = Callable[[RecordingClient], Coroutine[Any, Any, None]]


def serve(work: Work, tasks: int, read_back: Work | None = None) -> None:
    """The whole life of a client process. So many tasks do `work`, until it is to rest."""
    face, name, socket, log, timeout = sys.argv[1:]
    opening = _open(cast("Face", face), Path(socket), float(timeout))
    with OperationLog(Path(log)) as operations:
        recording = partial(RecordingClient, name, operations)
        uvloop.run(_serve(opening, recording, work, tasks, read_back))


async def _serve(
    opening: AbstractAsyncContextManager[Backend],
    recording: Callable[[Backend], RecordingClient],
    work: Work,
    tasks: int,
    read_back: Work | None,
) -> None:
    async with opening as backend, asyncio.TaskGroup() as group:
        client = recording(backend)
        working = [group.create_task(work(client), name=str(number)) for number in range(tasks)]
        print("ready", flush=True)
        async for order in _orders():
            if order == "next":
                client.generation += 1
            elif order == "rest":
                client.is_resting = True
                await asyncio.gather(*working)
            elif order == "read" and read_back is not None:
                await read_back(client)
            print(order, flush=True)


@asynccontextmanager
async def _open(face: Face, socket: Path, timeout: float) -> AsyncIterator[Backend]:
    if face == "async":
        async with jobkeep.AsyncClient(socket, timeout=timeout) as client:
            yield client
    else:
        with jobkeep.Client(socket, timeout=timeout) as blocking:
            yield OnThreads(blocking)


async def _orders() -> AsyncIterator[str]:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    async for line in reader:
        yield line.decode().strip()
