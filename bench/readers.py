"""Long reads beside short writes: what they do to each other.

What lives here: sixteen writers with nobody else, with one client that lists a thousand jobs again
and again, and with one that pages through a long history, by turns on one daemon. What may not: the
workload of the writers (that is `workload`).

A reader also takes its part of the processor from the writers, whatever the daemon does. So there
is a fourth turn, in which a process decodes a job again and again and asks the daemon for nothing:
what that costs the writers is not the daemon's fault. It is shown beside the budgets.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import TypeAlias

import msgspec
import uvloop
from msgspec import Struct

from bench.budgets import Budget, Comparison, Round, Verdict, judge, p99
from bench.daemon import running_daemon
from bench.fill import job_of, keep_jobs, record
from bench.progress import say
from bench.report import table, verdict_line
from bench.trial import WARM_UP, Trial, processes, run_workers, summary
from jobkeep import AsyncClient, CheckpointState

WRITERS = 16
KEPT_JOBS, KEPT_SHEETS = 1_000, 100
TIMEOUT = 120.0

ALONE, LISTING, PAGING = "alone", "while listing", "while paging"
COMPUTING = "while computing"
BUDGETS = tuple(
    Budget(
        f"p99 of {WRITERS} writers, {name} / alone",
        "at most",
        2,
        p99(name, ALONE, WRITERS),
        beside=Comparison(COMPUTING, p99(COMPUTING, ALONE, WRITERS)),
    )
    for name in (LISTING, PAGING)
)

Read: TypeAlias = Callable[[Path], AsyncIterator[int]]
"""Reads for ever; gives after each request how many rows it had."""
Counts: TypeAlias = "SimpleQueue[tuple[float, int]]"


class Reading(Struct, frozen=True):
    """What a reader got done beside the writers."""

    name: str
    seconds: float
    rows: int


class Result(Struct, frozen=True):
    """The rounds, with what the readers got done in each; `verdicts` follow from them."""

    records: int
    rounds: list[Round]
    readings: list[Reading]
    verdicts: list[Verdict]


def measure(rounds: int, sheets: int, records: int, directory: Path) -> Result:
    """Everything in rounds; the history has `records` records."""
    measured, readings = [], []
    with running_daemon(directory) as socket:
        say(f"filling: {KEPT_JOBS} jobs, {records} records")
        uvloop.run(_fill(socket, records))
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            trials = []
            for name, read in READS.items():
                trial, reading = beside(socket, name, read, number, sheets)
                trials.append(trial)
                readings += reading
            measured.append(Round(trials))
    return Result(records, measured, readings, judge(BUDGETS, measured))


def text(result: Result) -> str:
    """What was found, for people."""
    return "\n".join(
        [
            f"{WRITERS} writers; one reader lists {KEPT_JOBS} jobs of {KEPT_SHEETS} sheets, one "
            f"pages through {result.records} records; {len(result.rounds)} rounds",
            "",
            *table(result.rounds),
            "",
            *(
                f"{one.name}: the reader got {one.rows / one.seconds:,.0f} rows/s"
                for one in result.readings
            ),
            "",
            "Budgets:",
            *map(verdict_line, result.verdicts),
        ]
    )


async def list_jobs(socket: Path) -> AsyncIterator[int]:
    """List all jobs, again and again."""
    async with AsyncClient(socket, timeout=TIMEOUT) as client:
        while True:
            yield len(await client.list_jobs())


async def page_history(socket: Path) -> AsyncIterator[int]:
    """Page through the history from its end to its beginning, again and again."""
    async with AsyncClient(socket, timeout=TIMEOUT) as client:
        before_id: int | None = None
        while True:
            page = await client.get_execution_history("long", limit=1_000, before_id=before_id)
            before_id = page[-1]["id"] if page else None
            yield len(page)


async def compute(socket: Path) -> AsyncIterator[int]:
    """Decode a job again and again, as one that lists does."""
    del socket  # the daemon is not asked
    job = msgspec.msgpack.encode(job_of("job", KEPT_SHEETS))
    decode = msgspec.msgpack.Decoder(CheckpointState).decode
    while True:
        decode(job)
        yield 1


READS: dict[str, Read | None] = {
    ALONE: None,
    LISTING: list_jobs,
    PAGING: page_history,
    COMPUTING: compute,
}


def beside(
    socket: Path, name: str, read: Read | None, number: int, sheets: int
) -> tuple[Trial, list[Reading]]:
    """The trial `number` of the writers, with a reader or without."""
    jobs = [[f"{name}-{number}-{writer}"] for writer in range(WRITERS)]
    connect = partial(AsyncClient, socket)
    readings: list[Reading] = []
    if read is None:
        timings = run_workers(connect, jobs, sheets)
    else:
        with _reader(socket, read) as counts:
            timings = run_workers(connect, jobs, sheets)
        readings.append(Reading(name, *counts[0]))
    uvloop.run(_delete(socket, [f"{one}{end}" for (one,) in jobs for end in ("", WARM_UP)]))
    return summary(name, WRITERS, timings, missing=[]), readings


@contextmanager
def _reader(socket: Path, read: Read) -> Iterator[list[tuple[float, int]]]:
    """A process that reads during the block; afterwards the list has its seconds and its rows."""
    began, stop = processes.Event(), processes.Event()
    counts: Counts = processes.SimpleQueue()
    process = processes.Process(target=_read, args=(socket, read, began, stop, counts))
    process.start()
    found: list[tuple[float, int]] = []
    try:
        while not began.wait(1.0):
            if not process.is_alive():
                raise RuntimeError("the reader ended before it began; see what it said above")
        yield found
        stop.set()
        found.append(counts.get())
    finally:
        process.terminate()
        process.join()


def _read(socket: Path, read: Read, began: Event, stop: Event, counts: Counts) -> None:
    """The process of the reader."""

    async def run() -> tuple[float, int]:
        rows, start = 0, time.monotonic()
        began.set()
        async for more in read(socket):
            rows += more
            if stop.is_set():
                break
        return time.monotonic() - start, rows

    counts.put(uvloop.run(run()))


async def _fill(socket: Path, records: int) -> None:
    async with AsyncClient(socket, timeout=TIMEOUT) as client:
        await keep_jobs(client, KEPT_JOBS, KEPT_SHEETS)
        await client.save(job_of("long", 100))
        await record(client, "long", records)


async def _delete(socket: Path, jobs: Sequence[str]) -> None:
    """Every trial finds what the first one found."""
    async with AsyncClient(socket, timeout=TIMEOUT) as client:
        deletions: list[Awaitable[bool]] = [client.delete(job_id) for job_id in jobs]
        await asyncio.gather(*deletions)
