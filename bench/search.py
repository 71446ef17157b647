"""`--search on` beside `off`: what indexing the texts costs whoever writes.

What lives here: the comparison of the two. What may not: any other system: none of them indexes
text, so jobkeep is compared with them with its search off.

The outputs of the workload are random characters, in which hardly a word comes twice. That is about
the most that indexing can cost: in text of a language most words are in the index already.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from bench.budgets import Comparison, Round, p99, throughput
from bench.compare import run_trials
from bench.progress import say
from bench.report import ratio_lines, ratios_of, table
from bench.systems.jobkeep import SEARCHING, SYSTEM


def measure(rounds: int, workers: Sequence[int], sheets: int, directory: Path) -> list[Round]:
    """Both in rounds."""
    measured = []
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        place = directory / str(number)
        place.mkdir()
        measured.append(Round(run_trials([SYSTEM, SEARCHING], number, workers, sheets, place)))
        shutil.rmtree(place)  # or a long run would fill the disk
    return measured


def text(rounds: Sequence[Round], workers: Sequence[int]) -> str:
    """What was found, for people."""
    names = SEARCHING.name, SYSTEM.name
    compared = [
        Comparison(f"{what}, {count} workers: search on / off", pair(*names, count))
        for what, pair in (("operations/s", throughput), ("p99", p99))
        for count in workers
    ]
    return "\n".join([*table(rounds), "", *ratio_lines(ratios_of(compared, rounds))])
