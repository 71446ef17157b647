"""The runner of `jobkeep run`: one job, some workers, from the plan to the outcome.

What lives here: the process in the foreground. It saves the plan, keeps workers going while there
is work, notices those that die, and leaves the job completed, failed or paused. What may not: doing
sheets (that is `worker`), deciding which there are (that is `plan`), printing (that is `report`).

Whatever happens to a process, the job can be resumed: the daemon watches the runner, and pauses
the job when it is gone; it watches the workers, and makes a sheet pending again when the worker
that claimed it is gone; and a worker ends when its runner does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from msgspec import Struct

from jobkeep import AsyncClient
from jobkeep.cli.attempt import GRACE_SECONDS, signal_name
from jobkeep.cli.crew import WorkerProcess
from jobkeep.cli.dialogue import Broken, Claimed, Done, Event, Failed, Parameters, Retrying
from jobkeep.cli.plan import Counts, Plan, command_of, give_back, item_of, make_plan
from jobkeep.cli.report import Report
from jobkeep_protocol.errors import (
    JobkeepError,
    JobNotFound,
    RevisionConflict,
    error_from_wire,
)
from jobkeep_protocol.states import (
    CheckpointState,
    JobStatus,
    SheetState,
    SheetStatus,
    complete_job,
    utc_now,
)

DEATHS_OF_A_SHEET = 3
"""After so many workers have died with it, a sheet is failed: it may well be what kills them."""

DEATHS_WITHOUT_A_SHEET = 3
"""After so many workers in a row have died before they claimed anything, none can work here."""

STRANGERS_SECONDS = 2 * GRACE_SECONDS
"""How long to wait for workers of an earlier runner, which end when they find it gone."""

STRANGERS_POLL_SECONDS = 0.1

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_DECIDED = frozenset({JobStatus.COMPLETED, JobStatus.CANCELLED})
"""In these nothing can be claimed, whoever has set them."""


class Order(Struct, frozen=True, kw_only=True):
    """What was asked for on the command line."""

    job_id: str
    command: list[str]
    items: list[str]
    workers: int
    attempts: int
    retry_failed: bool
    new_command: bool


class Held(NamedTuple):
    """What a worker is at: a sheet, which attempt at it, and since when (a monotonic time)."""

    sheet: SheetState
    attempt: int
    since: float


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of a run. `signal` is the one that stopped it, `completed_now` the number of items
    that this run completed."""

    status: JobStatus
    counts: Counts
    failed: list[SheetState]
    completed_now: int
    workers_lost: int
    duration_seconds: float
    signal: int | None = None


async def plan_for(client: AsyncClient[CheckpointState], order: Order) -> Plan:
    """The plan for an order, as things are now.

    Raises JobkeepError when another runner is at work, InvalidRequest for what `make_plan` refuses.
    """
    deadline = time.monotonic() + STRANGERS_SECONDS
    while (kept := await client.load(order.job_id)) is not None:
        _refuse_when_live(kept)
        is_held = any(one.status is SheetStatus.IN_PROGRESS for one in kept.sheets.values())
        if not is_held or time.monotonic() >= deadline:
            break
        await asyncio.sleep(STRANGERS_POLL_SECONDS)
    return make_plan(
        kept,
        order.job_id,
        order.command,
        order.items,
        retry_failed=order.retry_failed,
        new_command=order.new_command,
    )


def _refuse_when_live(state: CheckpointState) -> None:
    if state.status is JobStatus.RUNNING and state.pid not in {None, os.getpid()}:
        raise JobkeepError(
            f"job {state.job_id!r} is being run by process {state.pid}; wait for it with "
            "`jobkeep wait`, or stop it with Ctrl-C or SIGTERM"
        )


class Runner:
    """One run of one job. Belongs to the event loop it runs on."""

    def __init__(self, client: AsyncClient[CheckpointState], order: Order, report: Report) -> None:
        self._client = client
        self._order = order
        self._report = report
        self._parameters = Parameters(
            str(client.socket), order.job_id, order.command, order.attempts
        )
        self._crew: set[WorkerProcess] = set()
        self._deaths: Counter[int] = Counter()
        self._barren_deaths = 0
        self._signs_of_life = 0
        self._workers_lost = 0
        self._signal: int | None = None
        self._error: JobkeepError | None = None

    async def run(self) -> Outcome:
        """Do what was ordered; gives the outcome, also of a run that was stopped by a signal.

        Raises JobkeepError when it cannot go on; the job can be resumed then too.
        """
        started = time.monotonic()
        self._plan = await self._begin()
        completed_before = self._plan.counts().completed
        with self._signals(), self._report:
            self._report.begin(self._plan.counts())
            await self._work()
            if self._error is not None:
                await self._leave_paused_if_possible(self._error)
                raise self._error
            status = await self._end()
        return Outcome(
            status=status,
            counts=self._plan.counts(),
            failed=self._plan.failed(),
            completed_now=self._plan.counts().completed - completed_before,
            workers_lost=self._workers_lost,
            duration_seconds=time.monotonic() - started,
            signal=self._signal,
        )

    # -- the job ------------------------------------------------------------------------------

    async def _begin(self) -> Plan:
        """Save the plan as what this process is running now."""
        while True:
            plan = await plan_for(self._client, self._order)
            state = plan.state
            state.status = JobStatus.RUNNING
            state.started_at = state.started_at or utc_now()
            state.completed_at = None
            state.current_sheet = None
            state.error_message = None
            state.set_running_pid()
            with contextlib.suppress(RevisionConflict):  # somebody was faster: look again
                await self._client.save(state, if_revision=state.revision)
                return plan

    async def _settled(self) -> CheckpointState:
        """The kept job, once no worker is left: what one has held is pending.

        The daemon has seen to that, save for workers whose processes it may not see. Raises
        JobNotFound and JobkeepError when other programs have taken away what was planned.
        """
        while True:
            state = await self._client.load(self._order.job_id)
            if state is None:
                raise JobNotFound.named(self._order.job_id)
            if lost := [number for number in self._plan.listed if number not in state.sheets]:
                raise self._changed_by_others(f"sheet {lost[0]} is gone")
            if not give_back(state.sheets[number] for number in self._plan.listed):
                return state
            with contextlib.suppress(RevisionConflict):
                await self._client.save(state, if_revision=state.revision)
                return state

    async def _end(self) -> JobStatus:
        """Save the outcome; gives the job's status."""
        while True:
            self._plan.state = state = await self._settled()
            counts = self._plan.counts()
            if state.status in _DECIDED and counts.remaining:
                return state.status  # not by us
            if counts.remaining:
                state.mark_job_paused()
            elif counts.failed:
                state.mark_job_failed(f"{counts.failed} of {counts.total} items failed")
            else:
                state.pid = None
                state.updated_at = utc_now()
                complete_job(state)
            with contextlib.suppress(RevisionConflict):
                await self._client.save(state, if_revision=state.revision)
                return state.status

    async def _leave_paused_if_possible(self, reason: JobkeepError) -> None:
        # Where it is not, the daemon pauses the job as soon as this process has ended.
        with contextlib.suppress(JobkeepError):
            state = await self._settled()
            state.mark_job_paused()
            state.error_message = str(reason)
            await self._client.save(state, if_revision=state.revision)

    # -- the workers --------------------------------------------------------------------------

    async def _work(self) -> None:
        """Have workers do what remains, until nothing does or the run is to stop.

        A round ends when no worker finds anything to claim. Another is needed when a worker died
        with a sheet just when the others were leaving.
        """
        while not self._is_stopping and (remaining := len(self._plan.remaining())):
            signs_of_life = self._signs_of_life
            slots = min(self._order.workers, remaining)
            await asyncio.gather(*(self._keep_one_going() for _ in range(slots)))
            if self._is_stopping:
                return
            self._plan.state = await self._settled()
            if self._plan.state.status in _DECIDED:
                return
            if self._signs_of_life == signs_of_life:
                self._give_up(
                    self._changed_by_others(f"{remaining} items remain but none can be claimed")
                )

    async def _keep_one_going(self) -> None:
        """Have one worker at work, another when it dies, until there is nothing to claim."""
        while not self._is_stopping:
            try:
                if await self._employ(self._hire()):
                    return
            except JobkeepError as error:
                self._give_up(error)

    def _hire(self) -> WorkerProcess:
        try:
            return WorkerProcess(self._parameters)
        except OSError as error:
            raise JobkeepError(
                f"a worker cannot be started: {error.strerror}; try a smaller -j"
            ) from error

    async def _employ(self, worker: WorkerProcess) -> bool:
        """One worker from its start to its end; says whether it ended of its own accord."""
        self._crew.add(worker)
        if self._is_stopping:
            worker.stop()
        held: Held | None = None
        try:
            async for event in worker.events():
                sheet = self._on_event(worker, event)
                held = Held(sheet, sheet.attempt_count, time.monotonic()) if sheet else None
            status = await worker.ended()
        finally:
            self._crew.discard(worker)
        if status == 0 or self._is_stopping:
            return True
        how = f"was killed by {signal_name(-status)}" if status < 0 else f"ended with {status}"
        await self._on_death(worker.pid, how, held)
        return False

    def _on_event(self, worker: WorkerProcess, event: Event) -> SheetState | None:
        """Act upon what a worker says; gives the sheet that it holds now."""
        if isinstance(event, Broken):
            self._give_up(error_from_wire(event.code, event.message, {}))
            return None
        sheet = self._plan.state.sheets.get(event.sheet_num)
        if sheet is None or item_of(sheet) is None:
            self._give_up(self._changed_by_others(f"sheet {event.sheet_num} has no item"))
            return None
        self._barren_deaths = 0
        self._signs_of_life += 1
        match event:
            case Claimed():
                self._plan.state.mark_sheet_started(sheet.sheet_num)
                worker.give(sheet)
            case Retrying():
                sheet.attempt_count += 1
                self._report.retrying(sheet, event.message)
            case Done():
                self._report.done(sheet)
                return None
            case Failed():
                self._report.failed(sheet, event.message)
                return None
        return sheet

    async def _on_death(self, pid: int, how: str, held: Held | None) -> None:
        """A worker is gone that should not be. The daemon makes its sheet pending again."""
        self._workers_lost += 1
        self._signs_of_life += 1
        if held is None:
            self._report.worker_lost(pid, how, None)
            self._barren_deaths += 1
            if self._barren_deaths >= DEATHS_WITHOUT_A_SHEET:
                raise JobkeepError(f"workers end before they do anything: the last one {how}")
        elif await self._is_over(held):
            self._report.worker_lost(pid, how, None)
        else:
            self._report.worker_lost(pid, how, held.sheet)
            await self._on_lost(held, pid, how)

    async def _is_over(self, held: Held) -> bool:
        """Whether the worker had ended this attempt, and died before it could say so."""
        state = await self._client.load(self._order.job_id)
        if state is None:
            raise JobNotFound.named(self._order.job_id)
        kept = state.sheets.get(held.sheet.sheet_num)
        if kept is None or kept.attempt_count != held.attempt:
            return False
        if kept.status is SheetStatus.COMPLETED:
            self._report.done(kept)
        elif kept.status is SheetStatus.FAILED:
            self._report.failed(kept, kept.error_message or "")
        return kept.status.is_terminal

    async def _on_lost(self, held: Held, pid: int, how: str) -> None:
        """Keep the attempt that a dead worker could not, and count it against its sheet."""
        job_id, number = self._order.job_id, held.sheet.sheet_num
        count = await self._client.get_execution_history_count(job_id, number)
        await self._client.record_execution(
            job_id,
            number,
            count + 1,
            prompt=shlex.join(command_of(self._order.command, held.sheet)),
            output=f"[jobkeep: worker {pid} {how} during this attempt]\n",
            duration_seconds=time.monotonic() - held.since,
        )
        self._deaths[number] += 1
        if self._deaths[number] >= DEATHS_OF_A_SHEET:
            reason = f"{self._deaths[number]} workers died with this item; the last one {how}"
            await self._client.mark_sheet_status(job_id, number, SheetStatus.FAILED, reason)
            self._report.failed(held.sheet, reason)

    def _changed_by_others(self, what: str) -> JobkeepError:
        return JobkeepError(
            f"another program has changed job {self._order.job_id!r}: {what}; see `jobkeep show`"
        )

    # -- stopping -----------------------------------------------------------------------------

    @property
    def _is_stopping(self) -> bool:
        return self._signal is not None or self._error is not None

    def _give_up(self, error: JobkeepError) -> None:
        """This run cannot go on: the first error is the one to tell."""
        self._error = self._error or error
        for worker in self._crew:
            worker.stop()

    def _on_signal(self, signum: int) -> None:
        """First let the workers stop their commands, then kill them; the third ends this process,
        whose job the daemon pauses."""
        is_second = self._signal is not None
        self._signal = self._signal or signum
        self._report.stopping(is_second)
        if not is_second:
            for worker in self._crew:
                worker.stop()
            return
        self._leave_signals()
        for worker in self._crew:
            worker.kill()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for signum in _SIGNALS:
            loop.add_signal_handler(signum, self._on_signal, signum)
        try:
            yield
        finally:
            self._leave_signals()

    def _leave_signals(self) -> None:
        """Signals do what they do in any process."""
        loop = asyncio.get_running_loop()
        for signum in _SIGNALS:
            loop.remove_signal_handler(signum)
