"""Worker processes: real ones, that can be killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import PATIENCE, scaled, wait_until

ROOT = Path(__file__).parents[2]


class Worker:
    """A process that does something with a daemon's socket and then waits to be killed.

    `code` is Python, with `wire` (a connection), `m` (the messages) and `job` (makes a state) at
    hand.
    """

    def __init__(self, socket: Path, code: str, wrapper: tuple[str, ...] = ()) -> None:
        self._ready = socket.with_name(f"ready-{id(self)}")
        program = (
            f"import os, signal, sys; from pathlib import Path; sys.path.insert(0, {str(ROOT)!r})\n"
            "from jobkeep_protocol import messages as m\n"
            "from jobkeep_protocol.states import CheckpointState as job\n"
            "from tests.wire import Wire\n"
            f"wire = Wire(Path({str(socket)!r}))\n"
            f"{code}\n"
            f"Path({str(self._ready)!r}).touch()\n"
            "signal.pause()\n"
        )
        self._process = subprocess.Popen([*wrapper, sys.executable, "-c", program])

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self._process.pid

    def wait_until_done(self) -> None:
        """Wait until it has done its part and sleeps."""
        wait_until(lambda: self._ready.exists() or self._process.poll() is not None)
        assert self._ready.exists(), "the worker failed"

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self._process.kill()
        self._process.wait(scaled(PATIENCE))


@contextmanager
def worker(socket: Path, code: str, *wrapper: str) -> Iterator[Worker]:
    """A worker that has done its part; killed at the end if it lives then."""
    process = Worker(socket, code, wrapper)
    try:
        process.wait_until_done()
        yield process
    finally:
        process.kill()


@contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing; killed at the end."""
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    try:
        yield process
    finally:
        process.kill()
        process.wait(scaled(PATIENCE))
