"""From a request to its reply: authorise, name the processes, hand to the store.

What lives here: what happens to every request between the session and the store, and what follows
from the death of a process. What may not: bytes and sockets on the one side, SQL on the other.

A reply is a body, encoded, and is given to the caller of the exchange: for a write after the commit
that holds it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import Any, Protocol

from jobkeep_protocol.codec import encode_error, encode_reply
from jobkeep_protocol.errors import JobkeepError, PermissionDenied
from jobkeep_protocol.messages import (
    ClaimNextSheet,
    ConnectedClient,
    DaemonStatus,
    ImportJobs,
    KillClient,
    ListClients,
    Load,
    Monitor,
    ReadBackup,
    Save,
    SlowLog,
    StartBackup,
    StartExport,
    StartImport,
    Status,
    Watch,
    WriteImport,
)
from jobkeep_protocol.request import (
    Read,
    Request,
    Stream,
    Write,
    name_of,
)
from jobkeepd.access import Peer, check_role
from jobkeepd.accounts import Accounts, fields_of
from jobkeepd.exchange import Caller, Exchange
from jobkeepd.processes import Processes, ProcessId
from jobkeepd.store.applied import RequestKey
from jobkeepd.store.store import Store
from jobkeepd.turns import Turns

log = logging.getLogger(__name__)

READS_AT_ONCE = 8
"""More than there are connections that read, so that none of them has to wait for the loop; those
reads that wait for their turn beside them can still be given up."""

SWEEP_SECONDS = 30.0
"""How often all known processes are looked at again, should a death have gone unnoticed."""


class Inspector(Protocol):
    """Answers what is asked about the daemon as a whole."""

    async def status(self) -> DaemonStatus:
        """How the daemon is."""

    async def clients(self) -> list[ConnectedClient]:
        """Every connection."""

    def kill(self, connection_id: int, by: Peer) -> bool:
        """End a connection; False when there is none of this id."""


class Operations:
    """Answers requests out of one store. Belongs to the event loop it is made on.

    Without an `inspector` nothing can be asked about the daemon: there is none.
    """

    def __init__(
        self,
        store: Store,
        accounts: Accounts | None = None,
        inspector: Inspector | None = None,
    ) -> None:
        self.accounts = accounts or Accounts()
        self._store = store
        self._inspector = inspector
        self._processes = Processes(self._on_death)
        self._turns = Turns(READS_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._waits: dict[Caller, set[asyncio.Task[None]]] = {}
        """Streams that wait for something new, by who waits."""
        self._releases: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Find the processes that died while nobody watched; when this returns their jobs are
        paused and their sheets given back."""
        await self._sweep()
        self._sweeper = asyncio.create_task(self._sweep_for_ever())

    def dispatch(self, exchange: Exchange) -> None:
        """Answer a request; its caller gets the body of the answer, now or later, exactly once.

        A read whose turn comes when its caller is there no more is dropped, and not answered: a
        client that asks and leaves, again and again, would leave the daemon to work for nobody.
        """
        request, peer = exchange.request, exchange.caller.peer
        try:
            check_role(peer, request)
            if isinstance(request, Write):
                self._store.submit(
                    request,
                    RequestKey(exchange.caller.client_id, exchange.request_id),
                    self._process_named_by(request, peer),
                    partial(self._written, exchange),
                    exchange.size,
                )
            elif (known := self._known_reply(request)) is not None:
                self._finish(exchange, encode_reply(exchange.request_id, known))
            elif isinstance(request, Stream):
                self._start_to_wait(exchange)
            else:
                task = asyncio.create_task(self._read(exchange))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        except JobkeepError as error:
            if isinstance(error, PermissionDenied):
                log.warning("%s was denied: %s", peer, error, extra=fields_of(exchange))
            self._fail(exchange, error)

    def gave_up(self, caller: Caller) -> None:
        """This caller is there no more: nobody is to be told of anything new."""
        for task in self._waits.get(caller, ()):
            task.cancel()

    def end_waits(self) -> None:
        """The daemon ends: whoever waits for something new gets what there is."""
        self.accounts.monitor.end_waits()
        self._store.events.end_waits()

    async def drain(self) -> None:
        """Wait until everything dispatched has been answered."""
        self.end_waits()
        while under_way := self._tasks.union(self._releases, *self._waits.values()):
            await asyncio.wait(under_way)
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

    def _written(self, exchange: Exchange, outcome: bytes | JobkeepError) -> None:
        exchange.turn_came(*self._store.batch_times)
        if isinstance(outcome, JobkeepError):
            self._fail(exchange, outcome)
        else:
            self._finish(exchange, outcome)

    def _start_to_wait(self, exchange: Exchange) -> None:
        task = asyncio.create_task(self._wait(exchange))
        waits = self._waits.setdefault(exchange.caller, set())
        waits.add(task)

        def forget(task: asyncio.Task[None]) -> None:
            waits.discard(task)
            if not waits and self._waits.get(exchange.caller) is waits:
                del self._waits[exchange.caller]

        task.add_done_callback(forget)

    async def _wait(self, exchange: Exchange) -> None:
        """Answer a request that waits until there is something new, without a turn of its own."""
        body = await self._answer(exchange)
        exchange.wait_ended()
        self._finish(exchange, body)

    async def _read(self, exchange: Exchange) -> None:
        if isinstance(exchange.request, Load):
            await self._settle_deaths()  # which is a write: nobody else's read waits for it
        async with self._turns.turn_of(exchange.caller.peer.uid):
            if exchange.caller.is_open:
                now = time.monotonic()
                exchange.turn_came(now, now)
                self._finish(exchange, await self._answer(exchange))

    async def _answer(self, exchange: Exchange) -> bytes:
        """The body of the answer to a read."""
        request_id = exchange.request_id
        try:
            return encode_reply(request_id, await self._result_of(exchange))
        except JobkeepError as error:
            exchange.error = error
        except Exception as error:
            name = name_of(type(exchange.request))
            log.exception("a defect in %s", name, extra={"operation": name})
            exchange.error = JobkeepError(
                f"a defect of jobkeepd in {name} ({type(error).__name__}: {error}); its log has "
                "the details"
            )
        return encode_error(request_id, exchange.error)

    async def _result_of(self, exchange: Exchange) -> Any:
        match request := exchange.request:
            case StartBackup():
                return self._store.start_backup()
            case StartExport():
                return self._store.start_backup(request.job_ids)
            case ReadBackup():
                return await self._store.read_backup(request.backup_id, request.offset)
            case StartImport():
                return self._store.start_import()
            case WriteImport():
                return await self._store.write_import(
                    request.import_id, request.offset, request.data
                )
            case ImportJobs():
                return await self._store.import_jobs(request)
            case SlowLog():
                return self.accounts.slow.slowest(request.limit)
            case Monitor():
                return await self.accounts.monitor.page(request, self.accounts.last)
            case Watch():
                return await self._store.events.page(request)
            case Status():
                return await self._inspected().status()
            case ListClients():
                return await self._inspected().clients()
            case KillClient():
                return self._inspected().kill(request.connection_id, exchange.caller.peer)
        assert isinstance(request, Read), request
        return await self._store.read(request)

    def _inspected(self) -> Inspector:
        if self._inspector is None:
            raise JobkeepError("an embedded backend is no daemon; ask one")
        return self._inspector

    def _finish(self, exchange: Exchange, body: bytes) -> None:
        """Give the answer, and take it into account."""
        self.accounts.answered(exchange, body, exchange.caller.answer(exchange, body))

    def _fail(self, exchange: Exchange, error: JobkeepError) -> None:
        exchange.error = error
        self._finish(exchange, encode_error(exchange.request_id, error))

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
