"""Retention: how fast `prune` is, what it gives back, and what it does to writers meanwhile.

What lives here: sixteen writers on a file that was filled, alone, beside a client that prunes it as
fast as it can, beside a daemon that does so by its own settings, and beside a process that only
computes; each on a copy of the file. What may not: the data (that is `past`), and the writers
(those are of `readers`).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import uvloop
from msgspec import Struct
from msgspec.structs import replace

from bench.budgets import Comparison, Round, p99, throughput
from bench.daemon import running_daemon
from bench.past import DAYS, fill
from bench.progress import say
from bench.readers import ALONE, COMPUTING, TIMEOUT, WRITERS, Read, Reading, beside, compute
from bench.report import ratio_lines, ratios_of, table
from jobkeep import AsyncClient

QUICK, FULL = 50_000, 200_000
"""Executions that are kept before anything is removed."""

PRUNING, BY_ITSELF = "while pruning", "by its settings"
DAY = 86_400.0
KEPT_DAYS = 7
"""What is older goes."""


class Turn(Struct, frozen=True):
    """What writers work beside: a process of its own, or settings of the daemon."""

    name: str
    read: Read | None = None
    settings: dict[str, str] = {}


COMPARISONS = [
    Comparison(f"{what} of {WRITERS} writers, {name} / alone", pair(name, ALONE, WRITERS))
    for what, pair in (("operations/s", throughput), ("p99", p99))
    for name in (PRUNING, BY_ITSELF, COMPUTING)
]


class Pruned(Struct, frozen=True):
    """What pruning with nobody else took, and what became of the file."""

    executions: int
    preview_seconds: float
    seconds: float
    attempts: int
    bytes_before: int
    bytes_after: int


class Result(Struct, frozen=True):
    """Pruning with nobody else, and the rounds beside writers."""

    pruned: Pruned
    rounds: list[Round]
    readings: list[Reading]


def measure(executions: int, rounds: int, sheets: int, directory: Path) -> Result:
    """Pruning alone, and then what writers do beside it, in rounds."""
    say(f"filling: {executions:,} executions")
    filled = directory / "filled.db"
    fill(filled, executions)
    say("pruning with nobody else")
    pruned = _prune_alone(filled, directory / "pruned")
    measured, readings = [], []
    for number in range(rounds):
        say(f"writers: round {number + 1} of {rounds}")
        trials = []
        for turn in TURNS:
            place = _copy(filled, directory / turn.name)
            with running_daemon(place, search="on", **turn.settings) as socket:
                trial, reading = beside(socket, turn.name, turn.read, number, sheets)
            trials.append(trial)
            readings += reading
            shutil.rmtree(place)  # or a long run would fill the disk
        measured.append(Round(trials))
    return Result(pruned, measured, readings)


def text(result: Result) -> str:
    """What was found, for people."""
    alone = result.pruned
    before, after = (size / 2**20 for size in (alone.bytes_before, alone.bytes_after))
    return "\n".join(
        [
            f"alone: {alone.attempts:,} of {alone.executions:,} attempts went in "
            f"{alone.seconds:.1f} s ({alone.attempts / alone.seconds:,.0f}/s), the preview took "
            f"{alone.preview_seconds:.2f} s; the file went from {before:.0f} to {after:.0f} MiB",
            "",
            *table(result.rounds),
            "",
            *(
                f"{one.name}: {one.rows / one.seconds:,.0f} attempts/s went"
                for one in result.readings
                if one.name == PRUNING
            ),
            "",
            *ratio_lines(ratios_of(COMPARISONS, result.rounds)),
        ]
    )


async def prune_on(socket: Path) -> AsyncIterator[int]:
    """Prune from the oldest on, four hours at a time; gives how many attempts went."""
    async with AsyncClient(socket, timeout=TIMEOUT) as client:
        for part in range(6 * DAYS, 0, -1):
            yield (await client.prune(older_than=part * DAY / 6)).attempts


TURNS = (
    Turn(ALONE),
    Turn(PRUNING, prune_on),
    Turn(BY_ITSELF, settings={"prune_attempts_older_than": f"{KEPT_DAYS}d"}),
    Turn(COMPUTING, compute),
)


def _prune_alone(filled: Path, directory: Path) -> Pruned:
    place = _copy(filled, directory)
    with running_daemon(place, search="on") as socket:
        pruned = uvloop.run(_prune(socket, filled.stat().st_size))
    return replace(pruned, bytes_after=(place / "state.db").stat().st_size)


async def _prune(socket: Path, size: int) -> Pruned:
    async with AsyncClient(socket, timeout=TIMEOUT) as client:
        kept = (await client.get_overview()).executions
        began = time.perf_counter()
        await client.prune(older_than=KEPT_DAYS * DAY, dry_run=True)
        looked = time.perf_counter()
        result = await client.prune(older_than=KEPT_DAYS * DAY)
        seconds = time.perf_counter() - looked
    return Pruned(kept, looked - began, seconds, result.attempts, size, size)


def _copy(filled: Path, directory: Path) -> Path:
    """A directory with a copy of the file that was filled."""
    directory.mkdir()
    shutil.copyfile(filled, directory / "state.db")
    return directory
