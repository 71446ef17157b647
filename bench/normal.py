"""`--durability normal` beside `full`: what waiting for the disk costs.

What lives here: the comparison of the two. What may not: any other system.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from bench.budgets import Comparison, Round, p99, throughput
from bench.compare import run_trials
from bench.progress import say
from bench.report import ratio_lines, ratios_of, table
from bench.systems.jobkeep import NORMAL, SYSTEM


def measure(rounds: int, workers: Sequence[int], sheets: int, directory: Path) -> list[Round]:
    """Both in rounds."""
    measured = []
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        place = directory / str(number)
        place.mkdir()
        measured.append(Round(run_trials([SYSTEM, NORMAL], number, workers, sheets, place)))
        shutil.rmtree(place)  # or a long run would fill the disk
    return measured


def text(rounds: Sequence[Round], workers: Sequence[int]) -> str:
    """What was found, for people."""
    names = NORMAL.name, SYSTEM.name
    compared = [
        Comparison(f"{what}, {count} workers: normal / full", pair(*names, count))
        for what, pair in (("operations/s", throughput), ("p99", p99))
        for count in workers
    ]
    return "\n".join([*table(rounds), "", *ratio_lines(ratios_of(compared, rounds))])
