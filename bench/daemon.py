"""A real `jobkeepd`, as a process of its own.

What lives here: starting one on files of a directory, and stopping it. What may not: measuring it.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 30.0


@contextmanager
def running_daemon(directory: Path) -> Iterator[Path]:
    """The socket of a daemon that accepts and keeps everything with full durability.

    Raises RuntimeError, with what it said, when it does not start or ends badly.
    """
    path, log = directory / "jobkeep.sock", directory / "jobkeepd.log"
    command = [sys.executable, "-m", "jobkeepd", "--durability", "full"]
    command += ["--db", str(directory / "state.db"), "--socket", str(path)]
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stderr=stderr)
    try:
        _wait_until_accepting(path, process)
        yield path
    finally:
        process.terminate()
        status = process.wait()
    if status != 0:
        raise RuntimeError(f"jobkeepd ended with status {status}:\n{log.read_text()}")


def _wait_until_accepting(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                return
        time.sleep(0.01)
    log = path.with_name("jobkeepd.log").read_text()
    raise RuntimeError(f"jobkeepd does not accept on {path}:\n{log}")
