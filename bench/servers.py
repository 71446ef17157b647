"""Servers that the benchmark starts and stops, each as a process of its own.

What lives here: running a command until it is ready, and ending it whatever happens. What may not:
which commands those are (`daemon`, `redis_server`, `postgres_server`), and measuring them.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_SECONDS = 30.0
STOP_SECONDS = 60.0


@contextmanager
def running(
    command: Sequence[str],
    log: Path,
    is_ready: Callable[[], bool],
    *,
    stop: signal.Signals = signal.SIGTERM,
    user: str | None = None,
) -> Iterator[None]:
    """Run a server, from when it is ready to the end of the block.

    It is in a session of its own, so that Ctrl-C reaches the benchmark alone, which then stops it
    with the signal `stop`. Raises RuntimeError, with what it wrote to `log`, when it does not get
    ready or ends badly.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, start_new_session=True, **_as_user(user)
        )
    try:
        _wait_until(is_ready, process, log)
        yield
    finally:
        status = _stop(process, stop)
    if status != 0:
        raise RuntimeError(f"{command[0]} ended with status {status}:\n{log.read_text()}")


def accepts(path: Path) -> bool:
    """Whether somebody accepts connections on this socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def run_to_end(command: Sequence[str], user: str | None = None) -> None:
    """Run a command that prepares something. Raises RuntimeError, with its output, if it fails."""
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **_as_user(user),
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with status {done.returncode}:\n{done.stdout}")


def first_line_of(*command: str) -> str:
    """What a command says of its version."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]


def _as_user(user: str | None) -> dict[str, Any]:
    """The arguments of Popen for another user, without any group of ours."""
    return {} if user is None else {"user": user, "extra_groups": []}


def _wait_until(is_ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if is_ready():
            return
        time.sleep(0.01)
    raise RuntimeError(f"{process.args!r} did not get ready:\n{log.read_text()}")


def _stop(process: subprocess.Popen[bytes], stop: signal.Signals) -> int:
    process.send_signal(stop)
    try:
        return process.wait(STOP_SECONDS)
    except BaseException:  # a second Ctrl-C: nothing is left behind all the same
        process.kill()
        process.wait()
        raise
