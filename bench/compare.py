"""The comparison: every system under the same workload, and what single operations cost.

What lives here: the order of a round, and what belongs to it. What may not: measuring one thing
(that is `trial`, `costs`, `memory`, `yardsticks`), and saying what came of it (that is `report`).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import costs, memory, yardsticks
from bench.budgets import Round
from bench.progress import say
from bench.trial import System, Trial, run_trial

COSTS: tuple[Callable[[Path], dict[str, float]], ...] = (
    costs.round_trips,
    costs.daemon_saves,
    costs.client_saves,
    costs.starts,
)
YARDSTICKS: dict[str, Callable[[Path], float]] = {
    "fdatasync of 4 KiB": yardsticks.fdatasync,
    "commit of one small row, raw SQLite": yardsticks.raw_commit,
}


def measure(
    systems: Sequence[System],
    workers: Sequence[int],
    sheets: int,
    rounds: int,
    within_seconds: float,
    memory_seconds: float,
    directory: Path,
) -> list[Round]:
    """Everything in rounds, with what is compared side by side in each; memory in the first.

    No round after the first begins that would not be over, if it took as long as the longest so
    far, within these seconds.
    """
    began = time.monotonic()
    left_out = {one.name: why for one in systems if (why := one.lacks(directory)) is not None}
    for name, why in left_out.items():
        say(f"{name} is left out: {why}")
    present = [system for system in systems if system.name not in left_out]
    measured: list[Round] = []
    longest = 0.0
    for number in range(rounds):
        round_began = time.monotonic()
        if number and round_began + longest > began + within_seconds:
            break
        say(f"round {number + 1} of {rounds} at most")
        place = directory / str(number)
        place.mkdir()
        seconds = _seconds(place)
        trials = run_trials(present, number, workers, sheets, place)
        longest = max(longest, time.monotonic() - round_began)
        megabytes = {} if number else memory.measure(memory_seconds, place)
        measured.append(Round(trials, seconds, megabytes, left_out))
        shutil.rmtree(place)  # or a long run would fill the disk
    return measured


def run_trials(
    systems: Sequence[System], number: int, workers: Sequence[int], sheets: int, directory: Path
) -> list[Trial]:
    """The trials of a round. Another system begins in each, so that none always comes after the
    same neighbour."""
    first = number % len(systems)
    return [
        run_trial(system, count, sheets, directory / f"{system.name}-{count}")
        for count in workers
        for system in (*systems[first:], *systems[:first])
    ]


def _seconds(directory: Path) -> dict[str, float]:
    seconds = {name: function(directory) for name, function in YARDSTICKS.items()}
    for cost in COSTS:
        place = directory / cost.__name__
        place.mkdir()
        seconds |= cost(place)
    return seconds
