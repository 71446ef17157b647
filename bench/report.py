"""A run as text for people and as JSON for later.

What lives here: the shape of a result and how it is shown. What may not: measuring and judging.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from bench.budgets import BUDGETS, Comparison, Round, Verdict, comparisons, judge
from bench.figures import Spread, ratios
from bench.machine import Machine
from bench.trial import Trial

MICROSECOND = 1e-6
MILLISECOND = 1e-3


class Result(Struct, frozen=True):
    """A whole run. `ratios` and `verdicts` follow from `rounds` and are kept for readers."""

    measured_at: datetime
    machine: Machine
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
    errors: int
    first_errors: list[str]


def result_of(
    measured_at: datetime, machine: Machine, workers: list[int], sheets: int, rounds: list[Round]
) -> Result:
    """What was measured, with what follows from it."""
    compared = [(one, _ratio(one, rounds)) for one in comparisons(workers)]
    return Result(
        measured_at,
        machine,
        workers,
        sheets,
        rounds,
        {one.what: ratio for one, ratio in compared if ratio is not None},
        judge(BUDGETS, rounds),
    )


def write(result: Result, directory: Path) -> Path:
    """Keep a result in a file named by its date and time; gives its path."""
    directory.mkdir(exist_ok=True)
    path = directory / f"{result.measured_at:%Y-%m-%dT%H%M%SZ}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    return path


def text(result: Result) -> str:
    """A result for people."""
    machine = result.machine
    memory = machine.memory_bytes / 2**30
    packages = ", ".join(f"{name} {one}" for name, one in machine.packages.items())
    lines = [
        f"{machine.cpu}, {machine.cores} cores, {memory:.1f} GiB, {machine.kernel}, "
        f"{machine.file_system}; load {machine.load:.2f} at the start",
        f"{machine.python}, SQLite {machine.sqlite}, {packages}",
        f"{len(result.rounds)} rounds; each worker takes a job of {result.sheets} sheets from its "
        "beginning to its end",
        "",
        *_trials(combined(result.rounds)),
        "",
        *_seconds(result.rounds),
        "",
        "Ratios, as the median of the rounds (lowest to highest):",
        *(f"  {what:<62} {_spread(ratio)}" for what, ratio in result.ratios.items()),
        "",
        "Budgets:",
        *map(_verdict, result.verdicts),
    ]
    return "\n".join(lines)


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
            sum(one.errors for one in trials),
            list(dict.fromkeys(error for one in trials for error in one.first_errors)),
        )
        for (workers, system), trials in groups.items()
    ]


def _trials(lines: Sequence[Line]) -> Iterator[str]:
    yield (
        f"{'system':<10} {'workers':>7} {'operations/s':>12} {'p50 ms':>9} {'p99 ms':>9} "
        f"{'max ms':>9} {'errors':>6}"
    )
    for one in lines:
        p50, p99, longest = (value / MILLISECOND for value in (one.p50, one.p99, one.max))
        yield (
            f"{one.system:<10} {one.workers:>7} {one.operations_per_second:>12.0f} {p50:>9.2f} "
            f"{p99:>9.2f} {longest:>9.1f} {one.errors:>6}"
        )
        yield from (f"           {error}" for error in one.first_errors)


def _seconds(rounds: Sequence[Round]) -> Iterator[str]:
    yield "One at a time, the median of the rounds:"
    for name in rounds[0].seconds:
        median = statistics.median(one.seconds[name] for one in rounds)
        yield f"  {name:<40} {median / MICROSECOND:>10.0f} µs"


def _ratio(comparison: Comparison, rounds: Sequence[Round]) -> Spread | None:
    return ratios(map(comparison.pair, rounds))


def _verdict(verdict: Verdict) -> str:
    if verdict.ratio is None:
        return f"  not measured  {verdict.what} ({verdict.bound} {verdict.limit:g} x)"
    said = "met" if verdict.met else "NOT MET"
    return (
        f"  {said:<8} {verdict.what}: {_spread(verdict.ratio)}, {verdict.bound} {verdict.limit:g} x"
    )


def _spread(ratio: Spread) -> str:
    return f"{ratio.median:.2f} x ({ratio.low:.2f} to {ratio.high:.2f})"
