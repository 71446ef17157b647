"""Clients that stay busy for a time.

What lives here: worker processes that take one job after the other until they are stopped. What may
not: what they do with a job (that is `workload`), and watching somebody meanwhile.

Each deletes its job when that is done, so that the database stays as it is and what grows is
somebody's fault.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import TypeAlias

import uvloop
from msgspec import Struct

from bench.trial import processes
from bench.workload import run_jobs
from jobkeep import AsyncClient

SHEETS = 50
"""Of each job that is worked on."""

Results: TypeAlias = "SimpleQueue[tuple[int, list[str]]]"
"""What each client has done: its operations and its errors."""


class Done(Struct):
    """What the clients have done; complete when the load is over."""

    operations: int = 0
    errors: list[str] = []


@contextmanager
def busy_clients(socket: Path, clients: int) -> Iterator[Done]:
    """Run the load during the block."""
    stop = processes.Event()
    results: Results = processes.SimpleQueue()
    workers = [
        processes.Process(target=_work, args=(socket, f"busy-{number}", stop, results))
        for number in range(clients)
    ]
    done = Done()
    for worker in workers:
        worker.start()
    try:
        yield done
        stop.set()
        for _ in workers:
            operations, errors = results.get()
            done.operations += operations
            done.errors += errors
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _work(socket: Path, job_id: str, stop: Event, results: Results) -> None:
    """A worker process."""
    results.put(uvloop.run(_work_until(socket, job_id, stop)))


async def _work_until(socket: Path, job_id: str, stop: Event) -> tuple[int, list[str]]:
    operations, errors = 0, []
    async with AsyncClient(socket) as client:
        while not stop.is_set():
            timings = await run_jobs(client, [job_id], SHEETS)
            operations += len(timings.latencies)
            errors += timings.errors
            await client.delete(job_id)
    return operations, errors
