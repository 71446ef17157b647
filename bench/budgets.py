"""The budgets, and what a run says about each.

What lives here: the table of budgets, as ratios, and judging them. What may not: measuring. A
budget that is not met is reported and breaks nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import Struct

from bench.figures import Spread, ratios
from bench.trial import Trial


class Round(Struct, frozen=True):
    """All that was measured once, one after the other.

    `seconds` by the name of what took them, `megabytes` (of 10^6 bytes) by the name of what they
    are, and why each system that is not among the trials was left out.
    """

    trials: list[Trial]
    seconds: dict[str, float] = {}
    megabytes: dict[str, float] = {}
    left_out: dict[str, str] = {}


class NotMeasured(Exception):
    """A round has no such figure; the message says why."""


Pair = Callable[[Round], tuple[float, float]]
"""The two figures of a round that are divided. Raises NotMeasured."""


class Comparison(Struct, frozen=True):
    """A ratio without a limit."""

    what: str
    pair: Pair


class Budget(Struct, frozen=True):
    """A ratio that is to stay on one side of a limit. `beside` is shown with it and not judged."""

    what: str
    bound: Literal["at least", "at most"]
    limit: float
    pair: Pair
    unit: str = "x"
    beside: Comparison | None = None


class Verdict(Struct, frozen=True):
    """A budget with what was measured; `ratio` and `met` are None when it was not, and `why` says
    why not. `beside` has what is not judged, by its name."""

    what: str
    bound: str
    limit: float
    unit: str
    ratio: Spread | None
    met: bool | None
    why: str | None
    beside: dict[str, Spread] = {}


def throughput(system: str, other: str, workers: int) -> Pair:
    """Operations/s of one system and of another under the same workers."""
    return _of_trials(system, other, workers, lambda trial: trial.operations_per_second)


def p99(system: str, other: str, workers: int) -> Pair:
    """The 99th percentile of one system's latencies and of another's, under the same workers."""
    return _of_trials(system, other, workers, lambda trial: trial.p99)


def seconds(name: str, other: str) -> Pair:
    """The time of one thing and of another."""
    return lambda measured: (_find(measured.seconds, name), _find(measured.seconds, other))


def megabytes(name: str) -> Pair:
    """A size, against one megabyte."""
    return lambda measured: (_find(measured.megabytes, name), 1.0)


def _find(figures: dict[str, float], name: str) -> float:
    if name not in figures:
        raise NotMeasured(f"this run did not measure {name}")
    return figures[name]


def _of_trials(system: str, other: str, workers: int, figure: Callable[[Trial], float]) -> Pair:
    def find(measured: Round, name: str) -> float:
        if name in measured.left_out:
            raise NotMeasured(measured.left_out[name])
        for trial in measured.trials:
            if (trial.system, trial.workers) == (name, workers):
                if not trial.operations:
                    raise NotMeasured(f"{name} completed nothing with {workers} workers")
                return figure(trial)
        raise NotMeasured(f"this run has no trial of {name} with {workers} workers")

    return lambda measured: (find(measured, system), find(measured, other))


MEMORY = "resident memory of a busy daemon"
"""The daemon with 1,000 jobs of 100 sheets kept and 16 clients busy."""

BUDGETS = (
    Budget(
        "operations/s, 16 workers: jobkeep / plain",
        "at least",
        40,
        throughput("jobkeep", "plain", 16),
    ),
    *(
        Budget(
            f"operations/s, {workers} workers: jobkeep / {other}",
            "at least",
            limit,
            throughput("jobkeep", other, workers),
            beside=Comparison(f"{other}-tuned", throughput("jobkeep", f"{other}-tuned", workers)),
        )
        for other, workers, limit in (
            ("postgres", 1, 1.3),
            ("postgres", 8, 2.5),
            ("postgres", 16, 3.0),
            ("redis", 8, 1.5),
            ("redis", 16, 2.0),
        )
    ),
    Budget(
        "p99, 16 workers: jobkeep / postgres",
        "at most",
        0.5,
        p99("jobkeep", "postgres", 16),
        beside=Comparison("postgres-tuned", p99("jobkeep", "postgres-tuned", 16)),
    ),
    Budget(
        "reading a small job / a bare echo",
        "at most",
        2,
        seconds("read of a small job", "echo"),
    ),
    Budget(
        "the daemon saves 1 changed sheet of 10,000 / of 10",
        "at most",
        3,
        seconds("daemon saves 1 of 10,000 sheets", "daemon saves 1 of 10 sheets"),
    ),
    Budget(MEMORY, "at most", 150, megabytes(MEMORY), "MB"),
    Budget(
        "import jobkeep / import msgspec",
        "at most",
        2,
        seconds("import jobkeep", "import msgspec"),
    ),
    Budget(
        "jobkeep status / python -c pass",
        "at most",
        6,
        seconds("jobkeep status", "python -c pass"),
    ),
)


def comparisons(workers: Sequence[int], systems: Sequence[str]) -> list[Comparison]:
    """What is worth knowing beside the budgets, for trials of these systems under these numbers of
    workers."""
    others = [system for system in systems if system != "jobkeep"]
    return [
        *(
            Comparison(
                f"operations/s, {count} workers: jobkeep / {other}",
                throughput("jobkeep", other, count),
            )
            for other in others
            for count in workers
        ),
        *(
            Comparison(f"p99, {count} workers: jobkeep / {other}", p99("jobkeep", other, count))
            for other in others
            for count in workers
        ),
        Comparison(
            "read of a small job / echo",
            seconds("read of a small job", "echo"),
        ),
        Comparison(
            "save of one client / commit of one small row, raw SQLite",
            seconds("client saves 1 of 10 sheets", "commit of one small row, raw SQLite"),
        ),
        Comparison(
            "commit of one small row, raw SQLite / fdatasync of 4 KiB",
            seconds("commit of one small row, raw SQLite", "fdatasync of 4 KiB"),
        ),
        Comparison(
            "AsyncClient.save, 1 changed sheet of 10,000 / of 10",
            seconds("client saves 1 of 10,000 sheets", "client saves 1 of 10 sheets"),
        ),
        *(
            Comparison(f"{statement} / import msgspec", seconds(statement, "import msgspec"))
            for statement in ("from jobkeep import Client", "from jobkeep import AsyncClient")
        ),
    ]


def compare(pair: Pair, rounds: Sequence[Round]) -> Spread | None:
    """A ratio over these rounds; None when no round has its figures."""
    found, _ = _pairs(pair, rounds)
    return ratios(found)


def judge(budgets: Sequence[Budget], rounds: Sequence[Round]) -> list[Verdict]:
    """What these rounds say about each budget."""
    return [_judged(budget, rounds) for budget in budgets]


def _judged(budget: Budget, rounds: Sequence[Round]) -> Verdict:
    pairs, why = _pairs(budget.pair, rounds)
    ratio = ratios(pairs)
    met: bool | None = None
    if ratio is not None:
        is_least = budget.bound == "at least"
        met = ratio.median >= budget.limit if is_least else ratio.median <= budget.limit
        why = None
    beside = {}
    if budget.beside and (found := compare(budget.beside.pair, rounds)):
        beside[budget.beside.what] = found
    return Verdict(budget.what, budget.bound, budget.limit, budget.unit, ratio, met, why, beside)


def _pairs(pair: Pair, rounds: Sequence[Round]) -> tuple[list[tuple[float, float]], str | None]:
    """The pairs of the rounds that have one, and why the last of the others has none."""
    pairs, why = [], None
    for measured in rounds:
        try:
            pairs.append(pair(measured))
        except NotMeasured as error:
            why = str(error)
    return pairs, why
