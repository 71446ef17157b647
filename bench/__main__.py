"""`python -m bench`: measure, say what was found, keep it in bench/results/.

What lives here: the parts, their options, and what becomes of their results. What may not:
measuring.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import Struct

from bench import compare, machine, memory, report
from bench.kept import Kept
from bench.places import SOURCES, data_directory
from bench.progress import say
from bench.systems import NATURAL, SYSTEMS

RESULTS = SOURCES / "bench" / "results"
DOCS = SOURCES / "docs"


class Found(Struct, frozen=True):
    """What a part found: the text for people, what is kept, and pictures by their file."""

    text: str
    result: Any
    pictures: dict[Path, str] = {}


def main() -> None:
    """Run what the command line asks for. What it finds never changes its exit status."""
    signal.signal(signal.SIGTERM, _interrupt)
    options = _parser().parse_args(sys.argv[1:] or ["quick"])
    with data_directory() as directory:
        say(f"data in {directory}, removed at the end")
        for part in options.parts:
            run(part, options, directory / part)


def run(part: str, options: argparse.Namespace, directory: Path) -> None:
    """One part: measure, print, keep."""
    directory.mkdir()
    say(f"--- {part}")
    described = machine.describe(directory)
    found = PARTS[part](options, described, directory)
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
        options.memory_seconds,
        directory,
    )
    result = report.result_of(options.workers, options.sheets, rounds)
    picture = {DOCS / "performance.svg": report.picture(result, on)}
    return Found(report.text(result), result, picture)


def _endurance(options: argparse.Namespace, on: machine.Machine, directory: Path) -> Found:
    del on
    found = memory.endure(options.minutes, directory)
    return Found(memory.text(found), found)


PARTS: dict[str, Callable[[argparse.Namespace, machine.Machine, Path], Found]] = {
    "comparison": _compare,
    "endurance": _endurance,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure jobkeep. Without a command: quick.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)

    def add(name: str, help: str, parts: Iterable[str]) -> argparse.ArgumentParser:  # noqa: A002  # argparse's word
        one = commands.add_parser(
            name, help=help, description=help, formatter_class=parser.formatter_class
        )
        one.set_defaults(parts=list(parts), memory_seconds=8.0)
        return one

    quick = add("quick", "the comparison in a few rounds; under two minutes", ["comparison"])
    _add_comparison(quick, rounds=3, sheets=50)
    full = add("full", "every part; half an hour, and the minutes of endurance", PARTS)
    _add_comparison(full, rounds=7, sheets=100)
    full.set_defaults(memory_seconds=60.0)
    endurance = add("endurance", "memory under a long load", ["endurance"])
    for one in (full, endurance):
        one.add_argument("--minutes", type=_positive, default=60, help="how long the load lasts")
    return parser


def _add_comparison(parser: argparse.ArgumentParser, rounds: int, sheets: int) -> None:
    parser.add_argument("--rounds", type=_positive, default=rounds, help="how often to measure")
    parser.add_argument(
        "--workers", type=_positive, nargs="+", default=[1, 8, 16], help="worker processes"
    )
    parser.add_argument("--sheets", type=_positive, default=sheets, help="sheets of each job")
    parser.add_argument("--natural", action="store_true", help="leave the tuned systems out")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


def _interrupt(number: int, frame: object) -> None:
    """A SIGTERM ends it as Ctrl-C does: servers are stopped and data is removed."""
    del number, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
