"""Reports: what they take as the data grows, and what they do to writers meanwhile.

What lives here: the questions, asked by turns of a daemon for each number of executions; and
writers on the largest of them, alone, beside a client that asks for one report after the other, and
beside a process that only computes. What may not: the data (that is `past`), and the writers (those
are of `readers`).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeAlias

import uvloop
from msgspec import Struct

from bench.budgets import Budget, Comparison, Round, Verdict, judge, p99
from bench.daemon import running_daemon
from bench.past import fill
from bench.progress import say
from bench.readers import ALONE, COMPUTING, TIMEOUT, WRITERS, Reading, beside, compute
from bench.report import table, verdict_line
from jobkeep import AsyncClient, CheckpointState

Client: TypeAlias = AsyncClient[CheckpointState]
Question: TypeAlias = Callable[[Client, datetime], Awaitable[object]]

QUICK = (1_000, 10_000, 100_000)
FULL = (10_000, 100_000, 1_000_000)

REPORTING = "while reporting"
BUDGETS = (
    Budget(
        f"p99 of {WRITERS} writers, {REPORTING} / alone",
        "at most",
        2,
        p99(REPORTING, ALONE, WRITERS),
        beside=Comparison(COMPUTING, p99(COMPUTING, ALONE, WRITERS)),
    ),
)

TIMES = 5
DAY = timedelta(days=1)

QUESTIONS: dict[str, Question] = {
    "overview": lambda it, _: it.get_overview(),
    "… of the last day": lambda it, end: it.get_overview(since=end - DAY),
    "… of jobs by their name": lambda it, _: it.get_overview(name="nightly *"),
    "durations": lambda it, _: it.get_durations(),
    "… of the last day ": lambda it, end: it.get_durations(since=end - DAY),
    "… of one job": lambda it, _: it.get_durations(job_id="job-3"),
    "errors": lambda it, _: it.get_errors(),
    "… of the last day  ": lambda it, end: it.get_errors(since=end - DAY),
    "validations": lambda it, _: it.get_validations(),
    "… of the last day   ": lambda it, end: it.get_validations(since=end - DAY),
    "outcomes": lambda it, _: it.get_outcomes(),
    "… of the last day    ": lambda it, end: it.get_outcomes(since=end - DAY),
    "timeline by hour": lambda it, _: it.get_timeline(),
    "… of the last day     ": lambda it, end: it.get_timeline(since=end - DAY),
}
"""By the name in the table; the spaces at the end tell names apart that look alike there."""


class Asked(Struct, frozen=True):
    """The median seconds of a report, by the number of executions kept."""

    report: str
    seconds: dict[int, float]


class Result(Struct, frozen=True):
    """What reports take, and what writers do beside them; `verdicts` follow from the rounds."""

    asked: list[Asked]
    rounds: list[Round]
    readings: list[Reading]
    verdicts: list[Verdict]


def measure(sizes: Sequence[int], rounds: int, sheets: int, directory: Path) -> Result:
    """The questions at every size, then the writers at the largest."""
    with ExitStack() as stack:
        sockets: dict[int, Path] = {}
        ends: dict[int, datetime] = {}
        for size in sizes:
            say(f"filling: {size:,} executions")
            place = directory / str(size)
            ends[size] = fill(place / "state.db", size)
            sockets[size] = stack.enter_context(running_daemon(place))
        say("asking")
        asked = uvloop.run(_ask(sockets, ends))
        measured, readings = [], []
        for number in range(rounds):
            say(f"writers: round {number + 1} of {rounds}")
            trials = []
            for name, read in READS.items():
                trial, reading = beside(sockets[sizes[-1]], name, read, number, sheets)
                trials.append(trial)
                readings += reading
            measured.append(Round(trials))
    return Result(asked, measured, readings, judge(BUDGETS, measured))


def text(result: Result) -> str:
    """What was found, for people."""
    sizes = list(result.asked[0].seconds)
    return "\n".join(
        [
            f"{'executions':<28} " + " ".join(f"{size:>12,}" for size in sizes),
            *(
                f"{one.report:<28} "
                + " ".join(f"{seconds * 1e3:>9.1f} ms" for seconds in one.seconds.values())
                for one in result.asked
            ),
            "",
            f"{WRITERS} writers at {sizes[-1]:,} executions; {len(result.rounds)} rounds",
            "",
            *table(result.rounds),
            "",
            *(
                f"{one.name}: {one.rows / one.seconds:,.1f} reports/s"
                for one in result.readings
                if one.name == REPORTING
            ),
            "",
            "Budgets:",
            *map(verdict_line, result.verdicts),
        ]
    )


async def ask_on(socket: Path) -> AsyncIterator[int]:
    """Ask for one report after the other, again and again."""
    async with AsyncClient(socket, timeout=TIMEOUT) as client:
        while True:
            now = datetime.now().astimezone()
            for question in QUESTIONS.values():
                await question(client, now)
                yield 1


READS = {ALONE: None, REPORTING: ask_on, COMPUTING: compute}


async def _ask(sockets: dict[int, Path], ends: dict[int, datetime]) -> list[Asked]:
    async with AsyncExitStack() as stack:
        clients = {
            size: await stack.enter_async_context(AsyncClient(socket, timeout=TIMEOUT))
            for size, socket in sockets.items()
        }
        found = []
        for name, question in QUESTIONS.items():
            seconds: dict[int, list[float]] = {size: [] for size in clients}
            for _ in range(TIMES):
                for size, client in clients.items():
                    began = time.perf_counter()
                    await question(client, ends[size])
                    seconds[size].append(time.perf_counter() - began)
            found.append(
                Asked(name, {size: statistics.median(one) for size, one in seconds.items()})
            )
        return found
