"""The asynchronous client.

What lives here: one connection on an event loop, shared by all tasks. What may not: anything the
blocking client needs too (that is in `core`, `states` and the protocol's `calls`).
"""

from __future__ import annotations

import asyncio
import math
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, cast, overload

from jobkeep.address import find_socket
from jobkeep.backup_file import BackupFile
from jobkeep.core import (
    DEFAULT_TIMEOUT,
    Backoff,
    Pipeline,
    Ticket,
    check_timeout,
    is_passing,
    patience,
    timed_out,
    unreachable,
)
from jobkeep.states import TypedStateCalls
from jobkeep_protocol import calls
from jobkeep_protocol.backend import (
    StateT,
    highest_sheet,
)
from jobkeep_protocol.errors import DaemonUnavailable, JobkeepError
from jobkeep_protocol.face import AsyncFace
from jobkeep_protocol.messages import (
    DaemonStatus,
    ReadBackup,
    StartBackup,
    Status,
)
from jobkeep_protocol.request import Request
from jobkeep_protocol.states import CheckpointState

T = TypeVar("T")

_inherited: list[Any] = []
"""Connections of a parent process: kept, and never touched, in a forked child."""


class AsyncClient(AsyncFace[StateT]):
    """A state backend over a daemon's socket, for asyncio.

    `socket` is a path or `unix:///path`; without it the usual places are looked at (`address`).
    `state_type` may be a pydantic model, a dataclass or a Struct of your own. `timeout` is in
    seconds, for each call as a whole, connecting and sending again included.

    It connects on first use, or on `async with`. All tasks of a process share one connection and
    any number of them may call at the same time. A daemon that was never reached raises
    DaemonUnavailable at once; one that goes away is waited for until the timeout, and what was
    unanswered is sent again and applied once. In a forked child, and on another event loop, the
    client connects anew.
    """

    @overload
    def __init__(
        self: AsyncClient[CheckpointState],
        socket: str | os.PathLike[str] | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None: ...

    @overload
    def __init__(
        self,
        socket: str | os.PathLike[str] | None = None,
        *,
        state_type: type[StateT],
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None: ...

    def __init__(
        self,
        socket: str | os.PathLike[str] | None = None,
        *,
        state_type: type[Any] = CheckpointState,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        self.socket = find_socket(socket)
        self.timeout = check_timeout(timeout)
        self._states: TypedStateCalls[StateT] = TypedStateCalls(state_type)
        self._link: _Link | None = None

    async def __aenter__(self) -> AsyncClient[StateT]:
        await self._usable_link().connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def infer_state_from_artifacts(
        self, job_id: str, workspace: str | Path, artifact_pattern: str
    ) -> int | None:
        del job_id  # the pattern says which files are the job's
        found = await asyncio.to_thread(lambda: list(Path(workspace).glob(artifact_pattern)))
        return highest_sheet(path.name for path in found)

    async def backup(self, path: str | Path) -> int:
        with BackupFile(path) as file:
            request: ReadBackup | None = ReadBackup(await self.call(StartBackup()))
            while request is not None:
                piece = await self.call(request)
                await asyncio.to_thread(file.write, piece.data)
                request = request.following(piece)
            await asyncio.to_thread(file.complete)
        return file.size

    async def status(self) -> DaemonStatus:
        """How the daemon is."""
        return await self.call(Status())

    async def call(self, request: Request[T]) -> T:
        """Send one request of `jobkeep_protocol.messages` and give its reply.

        For operations that have no method of their own, and for pages one at a time:
        `request.following(reply)` is the request for what comes after a reply, None after the
        last. A stream waits for its `wait_seconds` beyond the client's timeout. Raises the error
        that the daemon answers, and what every method raises. To cancel it takes nothing back: a
        request that was sent may be done all the same.
        """
        return await self._run(calls.ask(request), patience(request, self.timeout))

    async def close(self) -> None:
        link, self._link = self._link, None
        if link is not None and link.is_ours:
            await link.close()

    async def _run(self, call: calls.Call[T], seconds: float | None = None) -> T:
        """Run a call, for so many seconds or for the timeout."""
        link = self._usable_link()
        timeout = self.timeout if seconds is None else seconds
        deadline = link.loop.time() + timeout
        return await calls.run(call, lambda request: link.exchange(request, deadline, timeout))

    def _usable_link(self) -> _Link:
        link = self._link
        if link is None or not link.is_ours:
            if link is not None:
                _inherited.append(link)
            self._states.forget()
            link = self._link = _Link(self.socket, self._states.forget)
        return link


class _TooLateError(Exception):
    """The deadline of a call has come."""


class _Link(asyncio.Protocol):
    """The connection of one process on one loop, made again whenever it is lost.

    One timer serves the deadlines of all calls: starting and cancelling one for each call costs
    more than sending its request.
    """

    def __init__(self, path: Path, on_connect: Callable[[], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._path = path
        self._on_connect = on_connect
        self._pipeline = Pipeline()
        self._waiting_for_slot: deque[asyncio.Future[None]] = deque()
        self._deadlines: dict[asyncio.Future[None], float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = math.inf
        self._transport: asyncio.Transport | None = None
        self._closed: asyncio.Future[None] = self.loop.create_future()
        self._connecting: asyncio.Task[JobkeepError | None] | None = None
        self._was_connected = False
        self._is_closed = False
        self._backoff = Backoff()

    @property
    def is_ours(self) -> bool:
        """Whether this process, on the loop that runs now, made it."""
        return self._pid == os.getpid() and self.loop is asyncio.get_running_loop()

    async def connect(self) -> None:
        """Connect now. Raises DaemonUnavailable or PermissionDenied."""
        if self._transport is None:
            error = await asyncio.shield(self._start_connecting())
            if error is not None:
                raise error

    async def exchange(self, request: Request[Any], deadline: float, timeout: float) -> Any:
        """Send a request, as often as it takes, and give its reply."""
        ticket: Ticket | None = None
        try:
            while not self._pipeline.free_slots:
                await self._slot_given_back(deadline)
            ticket = self._start(request)
            await self._wait(ticket.waiter, deadline)
        except _TooLateError:
            is_connected = self._transport is not None
            raise timed_out(request, self._path, timeout, is_connected) from None
        finally:
            if ticket is None:
                self._offer_slots()  # to somebody else, if one had been given to this task
            elif not ticket.is_done:
                self._pipeline.abandon(ticket)
        return ticket.result()

    async def close(self) -> None:
        """Close the connection. What is unanswered stays so, and its callers are told."""
        self._is_closed = True
        self._give_up(DaemonUnavailable("the client was closed by another task"))
        if self._timer is not None:
            self._timer.cancel()  # the loop would keep all of this until then
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._transport is not None:
            self._transport.close()
            await self._closed

    # -- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._closed = self.loop.create_future()
        self._was_connected = True
        self._on_connect()
        self._transport.write(self._pipeline.connection_made())

    def data_received(self, data: bytes) -> None:
        try:
            done = self._pipeline.receive_data(data)
        except JobkeepError as error:
            self._give_up(error)
            return
        self._backoff.reset()
        for ticket in done:
            _wake(ticket)
        self._offer_slots()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # whatever it was, what is unanswered is sent again
        self._transport = None
        self._closed.set_result(None)
        self._pipeline.connection_lost()
        self._offer_slots()
        if self._pipeline.is_waiting and not self._is_closed:
            self._start_connecting()

    # -- inside -------------------------------------------------------------------------------

    def _start(self, request: Request[Any]) -> Ticket:
        if self._is_closed:
            raise DaemonUnavailable("the client was closed by another task")
        ticket = self._pipeline.start(request)
        ticket.waiter = self.loop.create_future()
        if self._transport is None:
            self._start_connecting()
        elif not self._transport.is_closing():  # else it is sent again on the next connection
            self._transport.write(ticket.frame)
        return ticket

    def _start_connecting(self) -> asyncio.Task[JobkeepError | None]:
        if self._connecting is None or self._connecting.done():
            self._connecting = self.loop.create_task(self._connect())
        return self._connecting

    async def _connect(self) -> JobkeepError | None:
        """Connect, as long as that may help; gives the error that every caller is told if not."""
        if self._was_connected:
            await asyncio.sleep(self._backoff.next_delay())
        while True:
            try:
                await self.loop.create_unix_connection(lambda: self, os.fspath(self._path))
            except OSError as error:
                unavailable = unreachable(self._path, error)
                is_final = not self._was_connected and not is_passing(error)
                if is_final or not self._pipeline.is_waiting:
                    self._give_up(unavailable)
                    return unavailable
            else:
                return None
            await asyncio.sleep(self._backoff.next_delay())

    def _give_up(self, error: JobkeepError) -> None:
        for ticket in self._pipeline.fail_all(error):
            _wake(ticket)
        self._offer_slots()
        if self._transport is not None:
            self._transport.close()

    async def _wait(self, waiter: asyncio.Future[None], deadline: float) -> None:
        """Wait until `waiter` is done. Raises _TooLateError at the deadline."""
        self._deadlines[waiter] = deadline
        if deadline < self._wakes_at:
            self._wake_at(deadline)
        try:
            await waiter
        finally:
            del self._deadlines[waiter]

    def _wake_at(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_at = deadline
        self._timer = self.loop.call_at(deadline, self._end_waits)

    def _end_waits(self) -> None:
        """End the waits whose deadline has come; wake up again for the next one."""
        due, self._wakes_at = self._wakes_at, math.inf
        for waiter, deadline in self._deadlines.items():
            if deadline <= due and not waiter.done():
                waiter.set_exception(_TooLateError)
        later = [deadline for deadline in self._deadlines.values() if deadline > due]
        if later:
            self._wake_at(min(later))

    async def _slot_given_back(self, deadline: float) -> None:
        waiter: asyncio.Future[None] = self.loop.create_future()
        self._waiting_for_slot.append(waiter)
        await self._wait(waiter, deadline)

    def _offer_slots(self) -> None:
        """Wake as many of those that wait as there are slots; some have given up meanwhile."""
        free = self._pipeline.free_slots
        while free and self._waiting_for_slot:
            waiter = self._waiting_for_slot.popleft()
            if not waiter.done():
                waiter.set_result(None)
                free -= 1


def _wake(ticket: Ticket) -> None:
    if not ticket.waiter.done():
        ticket.waiter.set_result(None)
