"""Running `jobkeep` as people and scripts do: as a process, with pipes or with a terminal.

What lives here: helpers without fixtures. What may not: assertions about what commands print.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tests.support import PATIENCE, scaled, wait_until

JOBKEEP = (sys.executable, "-P", "-m", "jobkeep.cli")
"""The installed command does not look for modules where it is called either."""


class Finished(NamedTuple):
    """What a command left: its exit status and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document that it printed."""
        return json.loads(self.out)


class JobkeepCommand:
    """The `jobkeep` command, for one daemon, in one directory."""

    def __init__(self, socket: Path, directory: Path) -> None:
        self.socket = socket
        self.directory = directory
        self._environment = {**os.environ, "JOBKEEP_SOCKET": str(socket)}
        self._started: list[subprocess.Popen[bytes]] = []

    def __call__(self, *arguments: str, stdin: bytes | None = b"") -> Finished:
        """Run it to its end. It has no terminal."""
        process = self.start(*arguments, stdin=stdin)
        return self.end_of(process)

    def start(self, *arguments: str, stdin: bytes | None = b"") -> subprocess.Popen[bytes]:
        """Start it, in a session of its own, without waiting."""
        process = subprocess.Popen(
            [*JOBKEEP, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.directory,
            env=self._environment,
            start_new_session=True,
        )
        self._started.append(process)
        assert process.stdin is not None, "it is a pipe"
        process.stdin.write(stdin or b"")
        process.stdin.close()
        process.stdin = None
        return process

    def end_of(self, process: subprocess.Popen[bytes]) -> Finished:
        """Wait for the end of one that was started."""
        out, err = process.communicate(timeout=scaled(PATIENCE))
        return Finished(process.returncode, out.decode(), err.decode())

    def on_terminal(self, *arguments: str, typed: bytes = b"") -> tuple[int, str]:
        """Run it to its end on a terminal of its own; gives its status and what was shown."""
        shown = bytearray()
        keyboard, terminal = pty.openpty()
        process = subprocess.Popen(
            [*JOBKEEP, *arguments],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            cwd=self.directory,
            env={**self._environment, "TERM": "xterm-256color", "COLUMNS": "120"},
            start_new_session=True,
        )
        self._started.append(process)
        os.close(terminal)
        reader = threading.Thread(target=_read_all, args=(keyboard, shown))
        reader.start()
        os.write(keyboard, typed)
        status = process.wait(scaled(PATIENCE))
        reader.join(scaled(PATIENCE))
        os.close(keyboard)
        return status, shown.decode()

    def clean_up(self) -> None:
        """Leave no process behind, whatever the test did."""
        for process in self._started:
            with process:
                process.kill()


def _read_all(keyboard: int, shown: bytearray) -> None:
    while True:
        try:
            data = os.read(keyboard, 65536)
        except OSError:  # nobody has the terminal open any more
            return
        if not data:
            return
        shown += data


def workers_of(runner: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The worker processes of a run."""
    return psutil.Process(runner.pid).children()


def wait_for_lines(path: Path, number: int) -> list[str]:
    """Wait until a file has so many lines; gives them."""

    def lines() -> Sequence[str]:
        return path.read_text().splitlines() if path.exists() else []

    wait_until(lambda: len(lines()) >= number)
    return list(lines())
