"""Faults that are put into a daemon: system calls that fail on its files alone, and kills.

What lives here: starting a daemon under strace, and reading what strace saw; naming failpoints.
What may not: what the daemon is to do then.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from jobkeepd import failpoints
from tests.daemon_process import DaemonProcess
from tests.support import wait_until

LAST_LINES = 20
"""Among them is that of the process itself; a kill may end its other threads after it."""

STRACE = shutil.which("strace")


def _why_not() -> str:
    """Why strace cannot be used here; empty when it can."""
    if STRACE is None:
        return "strace is not installed"
    tried = subprocess.run(
        [STRACE, "-qq", "-o", "/dev/null", sys.executable, "-c", ""],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"strace may not trace here: {tried.stderr.strip()}" if tried.returncode else ""


needs_strace = pytest.mark.skipif(bool(_why_not()), reason=_why_not())


def killed_at(point: str, at: int = 1) -> dict[str, str]:
    """The environment of a daemon that is killed when it passes a point for the N-th time."""
    return {failpoints.VARIABLE: f"{point}=kill:{at}"}


class Tracing:
    """A daemon whose next start is traced, with faults in its system calls on its own files.

    `calls` are the system calls to look at, on `paths`: without these on the database, its -wal and
    -shm, its lock, and their directory. `injection` is what strace's `inject=` takes after the name
    of the call; `when=N` in it means the N-th such call of each thread.
    """

    def __init__(
        self, daemon: DaemonProcess, calls: str, injection: str = "", paths: Sequence[Path] = ()
    ) -> None:
        database = daemon.database
        self._output = database.parent / "strace.out"
        paths = paths or [database.parent, *(Path(f"{database}{end}") for end in _SUFFIXES)]
        daemon.wrapper = [
            # -D: the daemon is our child, as without strace, and strace its grandchild.
            *(
                STRACE or "strace",
                "-D",
                "-f",
                "-y",
                "-q",
                "-e",
                "signal=kill",
                "-o",
                str(self._output),
            ),
            *(word for path in paths for word in ("-P", str(path))),
            *("-e", f"trace={calls}"),
            *(("-e", f"inject={calls}:{injection}") if injection else ()),
        ]
        self._daemon = daemon

    def stop(self) -> None:
        """Start the daemon without strace from now on; what was seen is complete when it ended."""
        self._daemon.wrapper = []

    def lines(self) -> list[str]:
        """What was seen, a line for each call."""
        its_end = [str(self._daemon.pid), "+++"]
        lines: list[str] = []

        def has_ended() -> bool:
            lines[:] = self._output.read_text(errors="replace").splitlines()
            return any(line.split()[:2] == its_end for line in lines[-LAST_LINES:])

        wait_until(has_ended)
        return lines

    def injected(self) -> list[str]:
        """The calls that were made to fail."""
        return [line for line in self.lines() if line.endswith("(INJECTED)")]

    def counts(self) -> Counter[str]:
        """How often each call was made by the thread that made it most."""
        by_thread = Counter(
            (found["call"], found["thread"])
            for line in self.lines()
            if (found := _CALL.match(line)) is not None
        )
        counts: Counter[str] = Counter()
        for (call, _), count in by_thread.items():
            counts[call] = max(counts[call], count)
        return counts


_SUFFIXES = ("", "-wal", "-shm", ".lock")
_CALL = re.compile(r"(?P<thread>\d+) +(?P<call>\w+)\(")
