"""From a request to its reply: authorise, name the processes, hand to the store.

What lives here: what happens to every request between the session and the store, and what follows
from the death of a process. What may not: bytes and sockets on the one side, SQL on the other.

A reply is a body, encoded, and is given to the caller's `reply`: for a write after the commit that
holds it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from jobkeep_protocol.codec import encode_error, encode_reply
from jobkeep_protocol.errors import JobkeepError, PermissionDenied
from jobkeep_protocol.messages import (
    ClaimNextSheet,
    DaemonStatus,
    Load,
    ReadBackup,
    Save,
    StartBackup,
    Status,
)
from jobkeep_protocol.request import (
    Read,
    Request,
    Write,
    operation_name,
)
from jobkeepd.access import Peer, check_role
from jobkeepd.processes import Processes, ProcessId
from jobkeepd.store.applied import RequestKey
from jobkeepd.store.store import Store
from jobkeepd.turns import Turns

log = logging.getLogger(__name__)

Reply = Callable[[bytes], None]

READS_AT_ONCE = 8
"""More than there are connections that read, so that none of them has to wait for the loop; those
reads that wait for their turn beside them can still be given up."""

SWEEP_SECONDS = 30.0
"""How often all known processes are looked at again, should a death have gone unnoticed."""


def _always() -> bool:
    return True


class Operations:
    """Answers requests out of one store. Belongs to the event loop it is made on.

    `status` gives the reply to a status request.
    """

    def __init__(self, store: Store, status: Callable[[], Any] | None = None) -> None:
        self._store = store
        self._status = status
        self._processes = Processes(self._on_death)
        self._turns = Turns(READS_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._releases: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Find the processes that died while nobody watched; when this returns their jobs are
        paused and their sheets given back."""
        await self._sweep()
        self._sweeper = asyncio.create_task(self._sweep_for_ever())

    def dispatch(
        self,
        peer: Peer,
        client_id: bytes,
        request_id: int,
        request: Request[Any],
        reply: Reply,
        size: int,
        is_wanted: Callable[[], bool] = _always,
    ) -> None:
        """Answer a request whose body had `size` bytes; `reply` gets the body of the answer, now or
        later, exactly once.

        A read whose turn comes when its answer `is_wanted` no more is dropped, and not answered:
        a client that asks and leaves, again and again, would leave the daemon to work for nobody.
        """
        if log.isEnabledFor(logging.DEBUG):
            reply = _and_log(reply, peer, request)
        try:
            check_role(peer, request)
            if isinstance(request, Write):
                self._store.submit(
                    request,
                    RequestKey(client_id, request_id),
                    self._process_named_by(request, peer),
                    partial(_written, request_id, reply),
                    size,
                )
            elif (known := self._known_reply(request)) is not None:
                reply(encode_reply(request_id, known))
            else:
                task = asyncio.create_task(self._read(peer, request_id, request, reply, is_wanted))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        except JobkeepError as error:
            if isinstance(error, PermissionDenied):
                log.warning("%s was denied: %s", peer, error, extra=_fields(peer, request))
            reply(encode_error(request_id, error))

    async def drain(self) -> None:
        """Wait until everything dispatched has been answered."""
        while self._tasks or self._releases:
            await asyncio.wait(self._tasks | self._releases)
        await self._store.drain()

    async def close(self) -> None:
        """Finish what was dispatched and watch nothing any more. The store stays open."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        self._processes.close()
        await self.drain()

    def _known_reply(self, request: Request[Any]) -> Any:
        """The reply to a read that can be answered at once, else None."""
        assert isinstance(request, Read), request
        known = self._store.known(request)
        if known is None:
            return None
        self._processes.report_deaths()
        return None if self._releases else known

    async def _read(
        self,
        peer: Peer,
        request_id: int,
        request: Request[Any],
        reply: Reply,
        is_wanted: Callable[[], bool],
    ) -> None:
        if isinstance(request, Load):
            await self._settle_deaths()  # which is a write: nobody else's read waits for it
        async with self._turns.turn_of(peer.uid):
            if is_wanted():
                reply(await self._answer(request_id, request))

    async def _answer(self, request_id: int, request: Request[Any]) -> bytes:
        """The body of the answer to a read."""
        name = operation_name(type(request).__name__)
        try:
            return encode_reply(request_id, await self._result_of(request))
        except JobkeepError as error:
            return encode_error(request_id, error)
        except Exception as error:
            log.exception("a defect in %s", name, extra={"operation": name})
            return encode_error(
                request_id,
                JobkeepError(
                    f"a defect of jobkeepd in {name} ({type(error).__name__}: {error}); its log "
                    "has the details"
                ),
            )

    async def _result_of(self, request: Request[Any]) -> Any:
        match request:
            case Status():
                return await self._describe()
            case StartBackup():
                return self._store.start_backup()
            case ReadBackup():
                return await self._store.read_backup(request.backup_id, request.offset)
        assert isinstance(request, Read), request
        return await self._store.read(request)

    async def _describe(self) -> DaemonStatus:
        if self._status is None:
            raise JobkeepError("an embedded backend has no status; ask a daemon")
        status: DaemonStatus = await self._status()
        return status

    # -- processes ----------------------------------------------------------------------------

    def _process_named_by(self, request: Request[Any], peer: Peer) -> ProcessId | None:
        """The process whose death concerns what this request writes."""
        if isinstance(request, Save):
            pid = request.state.pid or 0  # also of a job that is not running yet
            if pid > 0 and peer.shares_pids:
                return self._processes.watch(pid)
        elif isinstance(request, ClaimNextSheet) and peer.pid:
            return self._processes.watch(peer.pid)
        return None

    def _on_death(self, process: ProcessId) -> None:
        task = asyncio.create_task(self._release(process))
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)

    async def _release(self, process: ProcessId) -> None:
        try:
            released = await self._store.release(process)
        except JobkeepError as error:
            log.error("what process %d was running is not released: %s", process.pid, error)
            return
        for job_id in released.jobs:
            log.warning(
                "job %r is paused: its process %d is gone",
                job_id,
                process.pid,
                extra={"job": job_id, "client_pid": process.pid},
            )
        for job_id, sheet_num in released.sheets:
            log.warning(
                "sheet %d of job %r is pending again: process %d, which had claimed it, is gone",
                sheet_num,
                job_id,
                process.pid,
                extra={"job": job_id, "sheet": sheet_num, "client_pid": process.pid},
            )

    async def _settle_deaths(self) -> None:
        """What died by now is on disk when this returns."""
        self._processes.report_deaths()
        if self._releases:
            await asyncio.wait(self._releases)

    async def _sweep(self) -> None:
        for process in await self._store.known_processes():
            self._processes.resume(process)
        await self._settle_deaths()

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self._sweep()
            except JobkeepError as error:
                log.error("looking for dead processes failed, and is tried again: %s", error)


def _written(request_id: int, reply: Reply, outcome: bytes | JobkeepError) -> None:
    if isinstance(outcome, JobkeepError):
        outcome = encode_error(request_id, outcome)
    reply(outcome)


def _fields(peer: Peer, request: Request[Any]) -> dict[str, Any]:
    """What log lines about a request can be found by."""
    state = getattr(request, "state", request)
    return {
        **peer.fields,
        "operation": operation_name(type(request).__name__),
        "job": getattr(state, "job_id", None),
    }


def _and_log(reply: Reply, peer: Peer, request: Request[Any]) -> Reply:
    """The same reply, and a log line that says how long it took."""
    began = time.monotonic()

    def answer(body: bytes) -> None:
        fields = {**_fields(peer, request), "duration": round(time.monotonic() - began, 6)}
        log.debug(
            "%s of %s by uid %d, pid %d: %d bytes after %g s",
            fields["operation"],
            "no job" if fields["job"] is None else f"job {fields['job']!r}",
            peer.uid,
            peer.pid,
            len(body),
            fields["duration"],
            extra=fields,
        )
        reply(body)

    return answer
