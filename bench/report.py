"""A comparison as text and as a picture, for people.

What lives here: the shape of a result and how it is shown. What may not: measuring and judging.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec import Struct

from bench.budgets import BUDGETS, Comparison, Round, Verdict, compare, comparisons, judge
from bench.figures import Spread, spread
from bench.machine import Machine
from bench.picture import Bars, bars
from bench.systems import SYSTEMS
from bench.trial import LEAST_JOBS, Trial

MICROSECOND = 1e-6
MILLISECOND = 1e-3


class Result(Struct, frozen=True):
    """A whole comparison. `ratios` and `verdicts` follow from `rounds`, and are kept for
    readers."""

    workers: list[int]
    sheets: int
    rounds: list[Round]
    ratios: dict[str, Spread]
    verdicts: list[Verdict]


class Line(Struct, frozen=True):
    """One system under some workers, over all rounds: medians, the longest maximum, all errors."""

    system: str
    workers: int
    operations_per_second: float
    p50: float
    p99: float
    max: float
    client: float
    errors: int
    first_errors: list[str]


def result_of(workers: list[int], sheets: int, rounds: list[Round]) -> Result:
    """What was measured, with what follows from it."""
    systems = list(dict.fromkeys(trial.system for one in rounds for trial in one.trials))
    return Result(
        workers,
        sheets,
        rounds,
        ratios_of(comparisons(workers, systems), rounds),
        judge(BUDGETS, rounds),
    )


def text(result: Result) -> str:
    """A result for people."""
    left_out = {name: why for one in result.rounds for name, why in one.left_out.items()}
    lines = [
        f"{len(result.rounds)} rounds; each worker takes a job of {result.sheets} sheets from its "
        f"beginning to its end, and when there are fewer than {LEAST_JOBS} workers several",
        "",
        *table(result.rounds),
        *(f"{name:<15} left out: {why}" for name, why in left_out.items()),
        "",
        *_seconds(result.rounds),
        "",
        *_megabytes(result.rounds),
        "",
        *ratio_lines(result.ratios),
        "",
        "Budgets:",
        *map(verdict_line, result.verdicts),
    ]
    return "\n".join(lines)


def picture(result: Result, machine: Machine) -> str:
    """A result as SVG: how much each system does, and how long its slowest requests take."""
    return bars(
        "Operations that are on disk when they are acknowledged",
        f"{machine.cpu}, {machine.cores} cores shared with the clients, {machine.file_system}; "
        f"medians of {len(result.rounds)} rounds, thin lines from the lowest to the highest",
        [
            Bars("operations/s", _spreads(result, lambda one: one.operations_per_second)),
            Bars(
                "99th percentile, ms (logarithmic)",
                _spreads(result, lambda one: one.p99 / MILLISECOND),
                is_logarithmic=True,
            ),
        ],
    )


def _spreads(result: Result, figure: Callable[[Trial], float]) -> dict[str, dict[str, Spread]]:
    """A figure by the number of workers and the system; in the same order for every number."""
    trials = [trial for one in result.rounds for trial in one.trials if trial.operations]
    systems = [system.name for system in SYSTEMS]
    found: dict[str, dict[str, Spread]] = {}
    for workers in result.workers:
        head = f"{workers} worker{'s' if workers > 1 else ''}"
        for system in systems:
            mine = [one for one in trials if (one.workers, one.system) == (workers, system)]
            if (values := spread(map(figure, mine))) is not None:
                found.setdefault(head, {})[system] = values
    return found


def combined(rounds: Sequence[Round]) -> list[Line]:
    """The trials of all rounds, a line for each system and number of workers."""
    groups: dict[tuple[int, str], list[Trial]] = {}
    for trial in (trial for one in rounds for trial in one.trials):
        groups.setdefault((trial.workers, trial.system), []).append(trial)
    return [
        Line(
            system,
            workers,
            statistics.median(one.operations_per_second for one in trials),
            statistics.median(one.p50 for one in trials),
            statistics.median(one.p99 for one in trials),
            max(one.max for one in trials),
            statistics.median(one.client for one in trials),
            sum(one.errors for one in trials),
            list(dict.fromkeys(error for one in trials for error in one.first_errors)),
        )
        for (workers, system), trials in groups.items()
    ]


def table(rounds: Sequence[Round]) -> Iterator[str]:
    """The trials, a line for each system and number of workers."""
    yield (
        f"{'system':<15} {'workers':>7} {'operations/s':>12} {'p50 ms':>9} {'p99 ms':>9} "
        f"{'max ms':>9} {'client µs':>9} {'errors':>6}"
    )
    for one in combined(rounds):
        p50, p99, longest = (value / MILLISECOND for value in (one.p50, one.p99, one.max))
        yield (
            f"{one.system:<15} {one.workers:>7} {one.operations_per_second:>12.0f} {p50:>9.2f} "
            f"{p99:>9.2f} {longest:>9.1f} {one.client / MICROSECOND:>9.0f} {one.errors:>6}"
        )
        yield from (f"                {error}" for error in one.first_errors)


def ratio_lines(found: Mapping[str, Spread]) -> Iterator[str]:
    """Ratios, a line each."""
    yield "Ratios, as the median of the rounds (lowest to highest):"
    yield from (f"  {what:<62} {_spread(ratio, 'x')}" for what, ratio in found.items())


def ratios_of(compared: Sequence[Comparison], rounds: Sequence[Round]) -> dict[str, Spread]:
    """Those of the comparisons that were measured."""
    found = ((one.what, compare(one.pair, rounds)) for one in compared)
    return {what: ratio for what, ratio in found if ratio is not None}


def _seconds(rounds: Sequence[Round]) -> Iterator[str]:
    yield "One at a time, the median of the rounds:"
    for name in rounds[0].seconds:
        median = statistics.median(one.seconds[name] for one in rounds)
        yield f"  {name:<40} {median / MICROSECOND:>10.0f} µs"


def _megabytes(rounds: Sequence[Round]) -> Iterator[str]:
    yield "Memory:"
    for one in rounds:
        yield from (f"  {name:<40} {size:>10.1f} MB" for name, size in one.megabytes.items())


def verdict_line(verdict: Verdict) -> str:
    """What came of a budget."""
    limit = f"{verdict.bound} {verdict.limit:g} {verdict.unit}"
    if verdict.ratio is None:
        return f"  not measured: {verdict.what} ({limit}): {verdict.why}"
    said = "met" if verdict.met else "NOT MET"
    beside = "".join(f"; {one}: {ratio.median:.2f} x" for one, ratio in verdict.beside.items())
    return f"  {said:<8} {verdict.what}: {_spread(verdict.ratio, verdict.unit)}, {limit}{beside}"


def _spread(ratio: Spread, unit: str) -> str:
    return f"{ratio.median:.2f} {unit} ({ratio.low:.2f} to {ratio.high:.2f})"
