"""`python -m bench`: measure in rounds, say what was found, keep it in bench/results/.

What lives here: the options, where data lies meanwhile, and the order of a round. What may not:
measuring itself.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import costs, report, yardsticks
from bench.budgets import Round
from bench.machine import describe
from bench.systems import SYSTEMS
from bench.trial import run_trial

BENCH = Path(__file__).parent
RESULTS = BENCH / "results"

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


def main() -> None:
    """Run the benchmark. What it finds never changes its exit status."""
    options = _options()
    with TemporaryDirectory(prefix="bench-", dir=_data_directory()) as name:
        directory = Path(name)
        _say(f"data in {directory}, removed at the end")
        machine = describe(directory)
        rounds = []
        for number in range(1, options.rounds + 1):
            _say(f"round {number} of {options.rounds}")
            place = directory / str(number)
            place.mkdir()
            rounds.append(measure(options.workers, options.sheets, place))
    result = report.result_of(datetime.now(UTC), machine, options.workers, options.sheets, rounds)
    print(report.text(result))
    _say(f"kept in {report.write(result, RESULTS)}")


def measure(workers: list[int], sheets: int, directory: Path) -> Round:
    """Everything once, with what is compared side by side."""
    seconds = {name: function(directory) for name, function in YARDSTICKS.items()}
    for cost in COSTS:
        place = directory / cost.__name__
        place.mkdir()
        seconds |= cost(place)
    trials = [
        run_trial(system, count, sheets, directory / f"{system.name}-{count}")
        for count in workers
        for system in SYSTEMS
    ]
    return Round(trials, seconds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure jobkeep.")
    parser.add_argument(
        "--rounds", type=_positive, default=3, help="how often everything is measured (3)"
    )
    parser.add_argument(
        "--workers",
        type=_positive,
        nargs="+",
        default=[1, 8, 16],
        help="numbers of worker processes (1 8 16)",
    )
    parser.add_argument("--sheets", type=_positive, default=50, help="sheets of each job (50)")
    return parser.parse_args()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


def _data_directory() -> Path:
    """Where syncing reaches a disk: $TMPDIR, else with the sources. /tmp may well be memory."""
    if directory := os.environ.get("TMPDIR"):
        return Path(directory)
    build = BENCH.parent / "build"
    build.mkdir(exist_ok=True)
    return build


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
