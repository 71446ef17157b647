"""`python -m bench`: measure, say what was found, keep it in bench/results/.

What lives here: the parts, their options, and what becomes of their results. What may not:
measuring.
"""

from __future__ import annotations

import argparse
import math
import shutil
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import Struct

from bench import (
    compare,
    curves,
    learning,
    machine,
    memory,
    normal,
    readers,
    report,
    reports,
    retention,
    search,
)
from bench.kept import Kept
from bench.places import SOURCES, data_directory
from bench.progress import say
from bench.systems import NATURAL, SYSTEMS

RESULTS = SOURCES / "bench" / "results"
INTERRUPTED = 130
DOCS = SOURCES / "docs"


class Found(Struct, frozen=True):
    """What a part found: the text for people, what is kept, and pictures by their file."""

    text: str
    result: Any
    pictures: dict[Path, str] = {}


def main() -> None:
    """Run what the command line asks for. What it finds never changes its exit status."""
    options = _parser().parse_args(sys.argv[1:] or ["quick"])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with data_directory() as directory:
            say(f"data in {directory}, removed at the end")
            for part in options.parts:
                run(part, options, directory / part)
    except KeyboardInterrupt:
        say("interrupted: the servers are stopped, the data is removed")
        sys.exit(INTERRUPTED)


def run(part: str, options: argparse.Namespace, directory: Path) -> None:
    """One part: measure, print, keep."""
    directory.mkdir()
    say(f"--- {part}")
    described = machine.describe(directory)
    found = PARTS[part](options, described, directory)
    shutil.rmtree(directory)
    print("\n".join(machine.text(described)), found.text, sep="\n")
    path = Kept(part, datetime.now(UTC), described, found.result).write(RESULTS)
    for picture, drawn in found.pictures.items():
        picture.write_text(drawn, encoding="utf-8")
    say("kept in " + ", ".join(str(one) for one in (path, *found.pictures)))


def _compare(options: argparse.Namespace, on: machine.Machine, directory: Path) -> Found:
    rounds = compare.measure(
        NATURAL if options.natural else SYSTEMS,
        options.workers,
        options.sheets,
        options.rounds,
        options.within,
        options.memory_seconds,
        directory,
    )
    result = report.result_of(options.workers, options.sheets, rounds)
    picture = {DOCS / "performance.svg": report.picture(result, on)}
    return Found(report.text(result), result, picture)


def _normal(options: argparse.Namespace, on: machine.Machine, directory: Path) -> Found:
    del on
    rounds = normal.measure(options.rounds, options.workers, options.sheets, directory)
    return Found(normal.text(rounds, options.workers), rounds)


def _search(options: argparse.Namespace, on: machine.Machine, directory: Path) -> Found:
    del on
    rounds = search.measure(options.rounds, options.workers, options.sheets, directory)
    return Found(search.text(rounds, options.workers), rounds)


def _readers(options: argparse.Namespace, on: machine.Machine, directory: Path) -> Found:
    del on
    records = 1_000_000 if options.full else 50_000
    found = readers.measure(options.rounds, options.sheets, records, directory)
    return Found(readers.text(found), found)


def _reports(options: argparse.Namespace, on: machine.Machine, directory: Path) -> Found:
    del on
    sizes = reports.FULL if options.full else reports.QUICK
    found = reports.measure(sizes, options.rounds, options.sheets, directory)
    return Found(reports.text(found), found)


def _retention(options: argparse.Namespace, on: machine.Machine, directory: Path) -> Found:
    del on
    executions = retention.FULL if options.full else retention.QUICK
    found = retention.measure(executions, options.rounds, options.sheets, directory)
    return Found(retention.text(found), found)


def _curves(options: argparse.Namespace, on: machine.Machine, directory: Path) -> Found:
    found = curves.measure(curves.FULL if options.full else curves.QUICK, directory)
    return Found(curves.text(found), found, {DOCS / "curves.svg": curves.picture(found, on)})


def _endurance(options: argparse.Namespace, on: machine.Machine, directory: Path) -> Found:
    del on
    found = memory.endure(options.minutes, directory)
    return Found(memory.text(found), found)


def _learning(options: argparse.Namespace, on: machine.Machine, directory: Path) -> Found:
    del on
    sizes = {"little": learning.LITTLE}
    if options.full:
        sizes["much"] = learning.MUCH
    found = learning.measure(sizes, directory)
    return Found(learning.text(found), found)


PARTS: dict[str, Callable[[argparse.Namespace, machine.Machine, Path], Found]] = {
    "comparison": _compare,
    "normal": _normal,
    "search": _search,
    "readers": _readers,
    "reports": _reports,
    "retention": _retention,
    "curves": _curves,
    "learning": _learning,
    "endurance": _endurance,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure jobkeep. Without a command: quick."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, what, parts, options in (
        (
            "quick",
            "the comparison, three rounds or what fits: under 2 minutes",
            ["comparison"],
            _COMPARISON,
        ),
        ("full", "every part, with the largest sizes: half an hour, and --minutes", PARTS, _ALL),
        ("normal", "--durability normal beside full: half a minute", ["normal"], _TRIALS),
        ("search", "--search on beside off: a minute", ["search"], _TRIALS),
        ("readers", "long reads beside short writes: a minute; --full: 10", ["readers"], _READERS),
        ("reports", "reports as data grows: a minute; --full: 10", ["reports"], _READERS),
        ("retention", "pruning beside writers: two minutes; --full: 10", ["retention"], _READERS),
        ("curves", "cost as the data grows: a minute; --full: 10", ["curves"], _CURVES),
        (
            "learning",
            "asking for patterns and similar outcomes; --full: a million attempts, two minutes",
            ["learning"],
            _LEARNING,
        ),
        ("endurance", "memory under a long load: --minutes", ["endurance"], _MINUTES),
    ):
        command = commands.add_parser(
            name,
            help=what,
            description=what,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        command.set_defaults(**(_DEFAULTS | {"parts": list(parts)}))
        for option in options:
            command.add_argument(option, **_OPTIONS[option])
        if name == "full":
            command.set_defaults(**_FULL)
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


_DEFAULTS: dict[str, Any] = {
    "rounds": 3,
    "workers": [1, 8, 16],
    "sheets": 50,
    "natural": False,
    "full": False,
    "minutes": 60,
    "within": 105.0,
    "memory_seconds": 8.0,
}
_FULL: dict[str, Any] = {
    "rounds": 7,
    "sheets": 100,
    "full": True,
    "within": math.inf,
    "memory_seconds": 60.0,
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "--rounds": {"type": _positive, "help": "how often everything is measured"},
    "--workers": {"type": _positive, "nargs": "+", "help": "numbers of worker processes"},
    "--sheets": {"type": _positive, "help": "sheets of each worker's job"},
    "--natural": {"action": "store_true", "help": "leave the tuned systems out"},
    "--full": {"action": "store_true", "help": "up to the largest sizes"},
    "--within": {"type": float, "help": "seconds after which no round is to end"},
    "--minutes": {"type": _positive, "help": "how long the load of endurance lasts"},
}
_TRIALS = ("--rounds", "--workers", "--sheets")
_COMPARISON = (*_TRIALS, "--natural", "--within")
_READERS = ("--rounds", "--sheets", "--full")
_CURVES = ("--full",)
_LEARNING = ("--full",)
_MINUTES = ("--minutes",)
_ALL = (*_COMPARISON, *_MINUTES)


if __name__ == "__main__":
    main()
