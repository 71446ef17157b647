"""What one worker does, and how long each of its operations took.

What lives here: the workload, in terms of `Store`, and its timings. What may not: any system, and
how workers are started (that is `trial`).

The workload: load the job; then for each sheet mark it started and save, record an execution with
10 kB of output, mark it completed and save. Three operations a sheet, and one.
"""

from __future__ import annotations

import random
import string
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias, TypeVar

from msgspec import Struct

from jobkeep_protocol.states import CheckpointState, SheetStatus

T = TypeVar("T")

OUTPUT_CHARACTERS = 10_000
ATTEMPTS = 10
"""How often an operation is tried before it is given up."""

_CHARACTERS = string.ascii_letters + string.digits + " \n"
_TEXT = "".join(
    random.Random(1).choices(_CHARACTERS, k=2 * OUTPUT_CHARACTERS)  # noqa: S311 # no secret
)
"""What outputs are cut from: text that no store can compress to nothing."""


class Store(Protocol):
    """What the workload needs of a system: the part of the backend API that it calls."""

    async def load(self, job_id: str) -> CheckpointState | None:
        """The kept job, None when there is none."""

    async def save(self, state: CheckpointState) -> object:
        """Keep the job; on disk when this returns."""

    async def record_execution(
        self,
        job_id: str,
        sheet_num: int,
        attempt_num: int,
        prompt: str | None = None,
        output: str | None = None,
        exit_code: int | None = None,
        duration_seconds: float | None = None,
    ) -> object:
        """Keep one attempt; on disk when this returns."""

    async def get_execution_history_count(self, job_id: str) -> int:
        """How many attempts are kept of the job."""


Connect: TypeAlias = Callable[[], AbstractAsyncContextManager[Store]]
"""How a worker process gets its store. It is pickled on its way there."""


class Timings(Struct):
    """What a worker measured. Times are `time.monotonic()`, which all processes share.

    `latencies` has the seconds of each operation that succeeded, its failed attempts included.
    `processor` is the processor time of the worker itself, in seconds.
    """

    began: float = 0.0
    ended: float = 0.0
    processor: float = 0.0
    latencies: list[float] = []
    errors: list[str] = []
    """Every attempt that failed, and why."""

    async def timed(self, operation: Callable[[], Awaitable[T]]) -> T | None:
        """Run one operation, again when it fails; None when it was given up."""
        began = time.perf_counter()
        for _ in range(ATTEMPTS):
            try:
                result = await operation()
            except Exception as error:  # noqa: BLE001 # whatever a system raises is a figure here
                self.errors.append(f"{type(error).__name__}: {error}")
            else:
                self.latencies.append(time.perf_counter() - began)
                return result
        return None


def output_of(sheet_num: int) -> str:
    """The output recorded for a sheet; another one for its neighbours."""
    start = sheet_num % OUTPUT_CHARACTERS
    return _TEXT[start : start + OUTPUT_CHARACTERS]


async def run_jobs(store: Store, jobs: Sequence[str], sheets: int) -> Timings:
    """Take jobs from their beginning to their end, one after the other, measuring every
    operation."""
    timings, used = Timings(began=time.monotonic()), time.process_time()
    for job_id in jobs:
        await _run_job(store, job_id, sheets, timings)
    timings.ended, timings.processor = time.monotonic(), time.process_time() - used
    return timings


async def _run_job(store: Store, job_id: str, sheets: int, timings: Timings) -> None:
    state = await timings.timed(lambda: store.load(job_id))
    if state is None:
        state = CheckpointState(job_id=job_id, job_name=job_id, total_sheets=sheets)
    job = state
    job.set_running_pid()
    for number in range(1, sheets + 1):
        job.mark_sheet_started(number)
        await timings.timed(lambda: store.save(job))
        await timings.timed(lambda: _record(store, job, number))  # noqa: B023 # awaited at once
        job.mark_sheet_completed(number, execution_duration_seconds=0.5)
        await timings.timed(lambda: store.save(job))


async def shortfall(store: Store, job_id: str, sheets: int) -> str | None:
    """What `run_jobs` should have left behind and did not; None when everything is there."""
    state = await store.load(job_id)
    if state is None:
        return f"job {job_id} is not there"
    completed = sum(one.status is SheetStatus.COMPLETED for one in state.sheets.values())
    recorded = await store.get_execution_history_count(job_id)
    if (completed, recorded) != (sheets, sheets):
        return f"job {job_id} has {completed} sheets and {recorded} records, and not {sheets}"
    return None


async def _record(store: Store, job: CheckpointState, sheet_num: int) -> object:
    return await store.record_execution(
        job.job_id,
        sheet_num,
        job.sheets[sheet_num].attempt_count,
        prompt=f"work on sheet {sheet_num} of {job.job_name}",
        output=output_of(sheet_num),
        exit_code=0,
        duration_seconds=0.5,
    )
