"""What the daemon takes of the memory while clients are busy, and whether that grows.

What lives here: the daemon's memory as the kernel counts it, over time. What may not: the load
(that is `load`).

RSS is judged: all pages of the process that are in memory, those that it shares with others (the
interpreter, libraries) counted in full. PSS, shown beside it, counts of each shared page its part.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import uvloop
from msgspec import Struct

from bench.budgets import MEMORY
from bench.daemon import running_daemon
from bench.fill import keep_jobs
from bench.load import busy_clients
from bench.progress import say
from jobkeep import AsyncClient

MEGABYTE = 1e6
CLIENTS = 16
KEPT_JOBS, KEPT_SHEETS = 1_000, 100
WARM_UP_FRACTION = 0.2
"""The part of the samples at the beginning that the slope leaves out."""


SHORT_MINUTES = 10


class Sample(Struct, frozen=True):
    """The memory of the daemon, in bytes, and the seconds since the load began."""

    seconds: float
    rss: int
    pss: int


class Endurance(Struct, frozen=True):
    """What came of a long load. `slope` in bytes an hour, over the samples after the warm-up."""

    minutes: float
    operations: int
    errors: list[str]
    slope: float
    samples: list[Sample]


def measure(seconds: float, directory: Path) -> dict[str, float]:
    """The most that a daemon with a thousand jobs takes under load, in megabytes."""
    samples, _, _ = _watch(seconds, 0.2, directory)
    return {
        MEMORY: max(one.rss for one in samples) / MEGABYTE,
        "PSS of the same": max(one.pss for one in samples) / MEGABYTE,
    }


def endure(minutes: float, directory: Path) -> Endurance:
    """Load for a long time."""
    samples, operations, errors = _watch(minutes * 60, min(5.0, minutes), directory)
    return Endurance(minutes, operations, errors, slope(samples), samples)


def text(found: Endurance) -> str:
    """What came of it, for people."""
    first, last = found.samples[0], found.samples[-1]
    highest = max(one.rss for one in found.samples)
    return "\n".join(
        [
            f"{CLIENTS} clients busy for {found.minutes:g} minutes, with {KEPT_JOBS} jobs of "
            f"{KEPT_SHEETS} sheets kept: {found.operations} operations, "
            f"{len(found.errors)} errors",
            *(f"  {error}" for error in dict.fromkeys(found.errors[:3])),
            f"RSS of the daemon: {first.rss / MEGABYTE:.1f} MB at the beginning, "
            f"{last.rss / MEGABYTE:.1f} at the end, {highest / MEGABYTE:.1f} at most",
            f"Slope after the warm-up: {found.slope / MEGABYTE:+.2f} MB an hour"
            + (
                ", which says little after so short a time" if found.minutes < SHORT_MINUTES else ""
            ),
        ]
    )


def slope(samples: Sequence[Sample]) -> float:
    """The growth of RSS in bytes an hour: the line through what comes after the warm-up. 0 for
    fewer than two samples."""
    steady = samples[int(len(samples) * WARM_UP_FRACTION) :]
    if len(steady) < 2:
        return 0.0
    times = [one.seconds for one in steady]
    return statistics.linear_regression(times, [one.rss for one in steady]).slope * 3600


def _watch(seconds: float, interval: float, directory: Path) -> tuple[list[Sample], int, list[str]]:
    place = directory / "memory"
    place.mkdir()
    with running_daemon(place) as socket:
        pid = uvloop.run(_fill(socket))
        say(f"{CLIENTS} clients busy for {seconds:.0f} s")
        with busy_clients(socket, CLIENTS) as done:
            samples = list(_samples(pid, seconds, interval))
    return samples, done.operations, done.errors


def _samples(pid: int, seconds: float, interval: float) -> Iterator[Sample]:
    process = psutil.Process(pid)
    began = time.monotonic()
    while (since := time.monotonic() - began) < seconds:
        found = process.memory_full_info()
        yield Sample(since, found.rss, found.pss)
        time.sleep(interval)


async def _fill(socket: Path) -> int:
    """Have the daemon keep its jobs; gives its process."""
    async with AsyncClient(socket) as client:
        await keep_jobs(client, KEPT_JOBS, KEPT_SHEETS)
        return (await client.status()).pid
