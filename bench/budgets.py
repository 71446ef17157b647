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
    """All that was measured once, one after the other. `seconds` by the name of what took them."""

    trials: list[Trial]
    seconds: dict[str, float]


Pair = Callable[[Round], tuple[float, float]]
"""The two figures of a round that are divided; 0 for one that was not measured."""


class Comparison(Struct, frozen=True):
    """A ratio without a limit."""

    what: str
    pair: Pair


class Budget(Struct, frozen=True):
    """A ratio that is to stay on one side of a limit."""

    what: str
    bound: Literal["at least", "at most"]
    limit: float
    pair: Pair


class Verdict(Struct, frozen=True):
    """A budget with what was measured; `ratio` and `met` are None when it was not."""

    what: str
    bound: str
    limit: float
    ratio: Spread | None
    met: bool | None


def throughput(system: str, other: str, workers: int) -> Pair:
    """Operations/s of one system and of another under the same workers."""

    def pair(measured: Round) -> tuple[float, float]:
        found = {
            one.system: one.operations_per_second
            for one in measured.trials
            if one.workers == workers
        }
        return found.get(system, 0.0), found.get(other, 0.0)

    return pair


def seconds(name: str, other: str) -> Pair:
    """The time of one thing and of another."""
    return lambda measured: (measured.seconds.get(name, 0.0), measured.seconds.get(other, 0.0))


BUDGETS = (
    Budget(
        "operations/s of 16 workers, jobkeep against plain",
        "at least",
        40,
        throughput("jobkeep", "plain", 16),
    ),
    Budget(
        "reading a small job, against a bare echo",
        "at most",
        2,
        seconds("read of a small job", "echo"),
    ),
    Budget(
        "saving 1 changed sheet of 10,000 in the daemon, against 1 of 10",
        "at most",
        3,
        seconds("daemon saves 1 of 10,000 sheets", "daemon saves 1 of 10 sheets"),
    ),
    Budget(
        "import jobkeep, against import msgspec",
        "at most",
        2,
        seconds("import jobkeep", "import msgspec"),
    ),
    Budget(
        "jobkeep status, against python -c pass",
        "at most",
        6,
        seconds("jobkeep status", "python -c pass"),
    ),
)


def comparisons(workers: Sequence[int]) -> list[Comparison]:
    """What is worth knowing beside the budgets, for trials with these numbers of workers."""
    return [
        *(
            Comparison(
                f"operations/s, {count} workers: jobkeep / plain",
                throughput("jobkeep", "plain", count),
            )
            for count in workers
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


def judge(budgets: Sequence[Budget], rounds: Sequence[Round]) -> list[Verdict]:
    """What these rounds say about each budget."""
    return [_judged(budget, ratios(map(budget.pair, rounds))) for budget in budgets]


def _judged(budget: Budget, ratio: Spread | None) -> Verdict:
    met: bool | None = None
    if ratio is not None:
        is_least = budget.bound == "at least"
        met = ratio.median >= budget.limit if is_least else ratio.median <= budget.limit
    return Verdict(budget.what, budget.bound, budget.limit, ratio, met)
