"""One trial: a system, some worker processes, and what they measured.

What lives here: starting workers, letting them begin at the same moment, and collecting. What may
not: what they do (that is `workload`), and comparing trials (that is `figures`).

Each trial has a fresh store. Workers are processes forked from a clean one that has done its
imports. Each connects and takes a small job of its own first, which is not measured, so that what
happens once in a long life (preparing statements, say) is behind it; then they wait for each other
at a barrier.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from itertools import chain
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import NamedTuple

import uvloop
from msgspec import Struct

from bench.figures import percentile
from bench.workload import Connect, Timings, run_jobs, shortfall

CONNECT_SECONDS = 60.0
"""How long the workers wait for the last of them to be ready."""

SHOWN_ERRORS = 3

WARM_UP = "-warm-up"
"""How the job that is not measured ends."""

LEAST_JOBS = 4
"""Fewer workers than this take several jobs each, one after the other: else there would be too few
operations for a 99th percentile."""

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["bench.systems"])


class System(NamedTuple):
    """Something that keeps jobs. `serve` runs it on files of one directory, until its end.

    `lacks` says what is missing to run it in a directory, None for nothing.
    """

    name: str
    serve: Callable[[Path], AbstractContextManager[Connect]]
    lacks: Callable[[Path], str | None] = lambda _: None


class Trial(Struct, frozen=True):
    """What one system did under some workers. Latencies in seconds; `client` is the processor time
    of the workers, in seconds an operation.

    `errors` counts attempts that failed, workers that did not come back, and jobs that are not
    there in full afterwards; `first_errors` has the different texts of some.
    """

    system: str
    workers: int
    operations: int
    operations_per_second: float
    p50: float
    p99: float
    max: float
    client: float
    errors: int
    first_errors: list[str]


def run_trial(system: System, workers: int, sheets: int, directory: Path) -> Trial:
    """Run the workload in `workers` processes, each with its own jobs of `sheets` sheets."""
    directory.mkdir()
    each = max(1, LEAST_JOBS // workers)
    jobs = [[f"job-{worker}-{number}" for number in range(each)] for worker in range(workers)]
    with system.serve(directory) as connect:
        timings = run_workers(connect, jobs, sheets)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            missing = runner.run(_shortfalls(connect, list(chain(*jobs)), sheets))
    return summary(system.name, workers, timings, missing)


def summary(system: str, workers: int, timings: list[Timings], missing: list[str]) -> Trial:
    """The figures of a trial. Operations that failed are no operations."""
    errors = [error for one in timings for error in one.errors] + missing
    if len(timings) < workers:
        errors.insert(0, f"{workers - len(timings)} workers did not come back")
    latencies = sorted(latency for one in timings for latency in one.latencies)
    seconds = 0.0
    if timings:
        seconds = max(one.ended for one in timings) - min(one.began for one in timings)
    return Trial(
        system,
        workers,
        operations=len(latencies),
        operations_per_second=len(latencies) / seconds if seconds else 0.0,
        p50=percentile(latencies, 0.5),
        p99=percentile(latencies, 0.99),
        max=percentile(latencies, 1.0),
        client=sum(one.processor for one in timings) / max(1, len(latencies)),
        errors=len(errors),
        first_errors=list(dict.fromkeys(errors))[:SHOWN_ERRORS],
    )


def run_workers(connect: Connect, jobs: list[list[str]], sheets: int) -> list[Timings]:
    """Run the workload, a process for each list of jobs; gives the timings of those that came
    back."""
    barrier = processes.Barrier(len(jobs), timeout=CONNECT_SECONDS)
    started = []
    for mine in jobs:
        receiver, sender = processes.Pipe(duplex=False)
        worker = processes.Process(target=_work, args=(connect, mine, sheets, barrier, sender))
        worker.start()
        sender.close()  # the worker has its own, so that its death is an end of file here
        started.append((worker, receiver))
    timings = []
    try:
        for worker, receiver in started:
            with suppress(EOFError):  # its traceback is on standard error; it counts as missing
                timings.append(receiver.recv())
            worker.join()
            receiver.close()
    finally:
        for worker, _ in started:
            worker.terminate()  # which is nothing for one that has ended
    return timings


def _work(
    connect: Connect, jobs: list[str], sheets: int, barrier: Barrier, sender: Connection
) -> None:
    """A worker process."""

    async def work() -> Timings:
        async with connect() as store:
            warm_up = await run_jobs(store, [f"{jobs[0]}{WARM_UP}"], 1)
            barrier.wait()
            timings = await run_jobs(store, jobs, sheets)
            timings.errors[:0] = warm_up.errors
            return timings

    try:
        sender.send(uvloop.run(work()))
    except BaseException:
        barrier.abort()  # or the others would wait for this one
        raise


async def _shortfalls(connect: Connect, jobs: list[str], sheets: int) -> list[str]:
    async with connect() as store:
        found = [await shortfall(store, job_id, sheets) for job_id in jobs]
    return [one for one in found if one is not None]
