"""The distance to the limit: what the disk, SQLite and the interpreter take by themselves.

What lives here: measurements without a system, in seconds. What may not: jobkeep.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

TIMES = 200
BLOCK = bytes(4096)


def median_seconds(function: Callable[[], object], times: int = TIMES) -> float:
    """The median time of a call."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def fdatasync(directory: Path) -> float:
    """Appending one block to a file and waiting for the disk, as a commit at least must."""
    with (directory / "fdatasync").open("wb", buffering=0) as file:

        def append() -> None:
            file.write(BLOCK)
            os.fdatasync(file.fileno())

        return median_seconds(append)


def raw_commit(directory: Path) -> float:
    """One small row and its commit, in one process that keeps its connection."""
    with closing(sqlite3.connect(directory / "raw.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE numbers (id INTEGER PRIMARY KEY, number)")
        return median_seconds(lambda: connection.execute("INSERT INTO numbers (number) VALUES (1)"))


def whole_process(command: Sequence[str]) -> float:
    """Running a command from its start to its end.

    Raises CalledProcessError when it fails.
    """
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def importing(statement: str) -> float:
    """An import statement in a new interpreter, without the time that starts and ends."""
    program = (
        f"import time; began = time.perf_counter(); {statement}; print(time.perf_counter() - began)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    return float(done.stdout)
