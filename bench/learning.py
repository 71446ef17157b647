"""What it costs to ask what others have learned, beside a load: with much kept, and with little.

What lives here: a database with many attempts, failures and patterns, the questions a worker asks
before an attempt, and what patterns cost who saves them. What may not: other clients; here one
asks, one request at a time.

The database is filled past the daemon, by SQL, with all its triggers: through the API a million
attempts would take minutes.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import TypeAlias

import uvloop
from msgspec import Struct

from bench.daemon import running_daemon
from bench.fill import job_of
from bench.progress import say
from bench.turns import in_turns
from jobkeep import AsyncClient, CheckpointState, SheetState, SheetStatus
from jobkeepd import SQLiteStateBackend

Client: TypeAlias = AsyncClient[CheckpointState]

TIMES = 100
SMALL, SAVED = "small job", "saved job"
MOMENT = "2026-01-01T00:00:00.000000+00:00"
SHEETS = 10
"""Of each job that is kept."""

USUAL = "connection 5 to host db-3 failed in /srv/app/7.py: timeout after 2 s"
NEW = "the connection failed, since the queue of the app is full"
"""What is looked for in the messages: all of its words are in all of them, or only some are."""


class Size(Struct, frozen=True):
    """What is kept."""

    jobs: int
    executions: int
    failures: int
    patterns: int


LITTLE = Size(jobs=100, executions=10_000, failures=1_000, patterns=100)
MUCH = Size(jobs=10_000, executions=1_000_000, failures=100_000, patterns=1_000)


class Result(Struct, frozen=True):
    """The median seconds of each question, by how much is kept."""

    sizes: dict[str, Size]
    seconds: dict[str, dict[str, float]]


def measure(sizes: dict[str, Size], directory: Path) -> Result:
    """Ask everything of a daemon on each of these."""
    return Result(sizes, {name: _measure(size, directory / name) for name, size in sizes.items()})


def text(result: Result) -> str:
    """What was found, for people: medians, and multiples of the load beside them."""
    lines = [
        f"{name}: {size.executions:,} executions, {size.failures:,} failures, "
        f"{size.patterns:,} patterns in {size.jobs:,} jobs"
        for name, size in result.sizes.items()
    ]
    head = "".join(f"{name:>22}" for name in result.seconds)
    lines += ["", f"{'':44}{head}"]
    first, *_ = result.seconds.values()
    for question in first:
        cells = [
            f"{taken[question] * 1e6:>10,.0f} µs {taken[question] / taken['load']:>6.1f} ×"  # noqa: RUF001 # as people write it
            for taken in result.seconds.values()
        ]
        lines.append(f"{question:<44}{''.join(f'{cell:>22}' for cell in cells)}")
    return "\n".join(lines)


def _measure(size: Size, directory: Path) -> dict[str, float]:
    directory.mkdir()
    say(f"filling: {size.executions} executions")
    uvloop.run(fill(directory / "state.db", size))
    with running_daemon(directory, search="on") as socket:
        return uvloop.run(_ask(socket))


async def fill(database: Path, size: Size) -> None:
    """A file with so much in it; the last failures are all of one code."""
    async with SQLiteStateBackend(database) as backend:
        await backend.save(job_of(SMALL, SHEETS))
        await backend.save(job_of(SAVED, SHEETS))
    await asyncio.to_thread(_fill_by_sql, database, size)


def _fill_by_sql(database: Path, size: Size) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.executemany(_INSERT_JOB, _jobs(size))
        connection.executemany(_INSERT_SHEET, _sheets(size))
        connection.executemany(_INSERT_EXECUTION, _executions(size))
        connection.executemany(_FAIL_SHEET, _failures(size))
        connection.commit()


def _jobs(size: Size) -> Iterator[tuple[object, ...]]:
    for number in range(size.jobs):
        yield f"kept-{number}", "kept", SHEETS, MOMENT, MOMENT, number + 1


def _sheets(size: Size) -> Iterator[tuple[object, ...]]:
    """Completed ones, each with three patterns, one of which all have."""
    for number in range(size.jobs * SHEETS):
        patterns = [0, 1 + number % (size.patterns - 1), 1 + number * 7 % (size.patterns - 1)]
        learned = json.dumps([f"pattern {one}" for one in patterns], separators=(",", ":"))
        job, sheet = divmod(number, SHEETS)
        yield f"kept-{job}", sheet + 1, "completed", learned, 0.5, MOMENT, MOMENT


def _executions(size: Size) -> Iterator[tuple[object, ...]]:
    for number in range(size.executions):
        attempt, place = divmod(number, size.jobs * SHEETS)
        job, sheet = divmod(place, SHEETS)
        yield f"kept-{job}", sheet + 1, attempt, "do it", "x" * 100, 0, 0.5, MOMENT, attempt + 1


def _failures(size: Size) -> Iterator[tuple[object, ...]]:
    """All of one code, in two categories, with an exit code of 137 or 1."""
    for number in range(size.failures):
        job, sheet = divmod(number % (size.jobs * SHEETS), SHEETS)
        message = (
            f"connection {number} to host db-{number % 20} failed in /srv/app/{number % 97}.py: "
            f"timeout after {number % 31}.5 s while waiting for an answer"
        )
        category = "crash" if number % 4 == 0 else "timeout"
        exit_code = 137 if number % 7 else 1
        yield message, category, exit_code, number, f"kept-{job}", sheet + 1, MOMENT


async def _ask(socket: Path) -> dict[str, float]:
    numbers = count()
    plain = SheetState(sheet_num=1, status=SheetStatus.COMPLETED)
    learned = SheetState(
        sheet_num=2,
        status=SheetStatus.COMPLETED,
        learned_patterns=["pattern 0", "pattern 1", "pattern 2"],
    )

    def changed(sheet: SheetState) -> SheetState:
        sheet.confidence_score = next(numbers) % 100 / 100
        return sheet

    async with AsyncClient(socket, timeout=120) as client:
        return await in_turns(
            {
                "load": lambda: client.load(SMALL),
                "patterns: 100 of most sheets": lambda: client.get_learned_patterns(),
                "patterns: one": lambda: client.get_learned_patterns("pattern 7"),
                "patterns: 'pattern 1*'": lambda: client.get_learned_patterns("pattern 1*"),
                "similar: code": lambda: client.find_similar_outcomes(error_code="E1"),
                "similar: category": lambda: client.find_similar_outcomes("timeout"),
                "similar: exit code": lambda: client.find_similar_outcomes(exit_code=1),
                "similar: all three": lambda: client.find_similar_outcomes("timeout", "E1", 137),
                "similar: a code that is rare": lambda: client.find_similar_outcomes(
                    error_code="E2"
                ),
                "similar: together never": lambda: client.find_similar_outcomes("timeout", "E1", 7),
                "similar: a message as most are": lambda: client.find_similar_outcomes(text=USUAL),
                "similar: a message that is new": lambda: client.find_similar_outcomes(text=NEW),
                "similar: a code, and a message": lambda: client.find_similar_outcomes(
                    error_code="E1", text=USUAL
                ),
                "save_sheet without patterns": lambda: client.save_sheet(SAVED, changed(plain)),
                "save_sheet with three patterns": lambda: client.save_sheet(
                    SAVED, changed(learned)
                ),
            },
            TIMES,
        )


_INSERT_JOB = (
    "INSERT INTO jobs (id, name, total_sheets, created_at, updated_at, sequence) "
    "VALUES (?, ?, ?, ?, ?, ?)"
)
_INSERT_SHEET = (
    "INSERT INTO sheets (job_id, sheet_num, status, learned_patterns, confidence_score, "
    "started_at, completed_at) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_EXECUTION = (
    "INSERT INTO execution_history (job_id, sheet_num, attempt_num, prompt, output, exit_code, "
    "duration_seconds, executed_at, ordinal) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_FAIL_SHEET = (
    "INSERT INTO failures (error_message, error_category, exit_code, attempt_num, "
    "job_id, sheet_num, failed_at, error_code) VALUES (?, ?, ?, ?, ?, ?, ?, 'E1')"
)
