"""Running one command under a time limit, and what is known of it afterwards.

What lives here: `run`, and the facts it measures. What may not: what they mean.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from msgspec import Struct

from jobkeep_protocol.states import utc_now

GRACE_SECONDS = 0.5
"""How long a command may take to end after SIGTERM."""


class Ended(Struct, frozen=True):
    """How a command ended. `exit_code` is None when a signal ended it."""

    output: str
    errors: str
    exit_code: int | None
    exit_signal: int | None
    started_at: datetime
    seconds: float
    cpu_seconds: float
    limit_seconds: float
    was_stopped: bool
    """Whether it was ended because it had reached its limit."""


def run(command: list[str], limit_seconds: float, directory: Path) -> Ended:
    """Run a command; what has not ended by its limit is ended.

    Its processor time is that of all children meanwhile: a process runs one command at a time.
    """
    started_at, began, cpu_before = utc_now(), time.monotonic(), _cpu_seconds()
    process = subprocess.Popen(
        command,
        cwd=directory,
        env=_environment(directory),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    )
    is_late = False
    try:
        output, errors = process.communicate(timeout=limit_seconds)
    except subprocess.TimeoutExpired:
        is_late = True
        output, errors = _stop(process)
    status = process.returncode
    return Ended(
        output.decode(errors="replace"),
        errors.decode(errors="replace"),
        status if status >= 0 else None,
        -status if status < 0 else None,
        started_at,
        time.monotonic() - began,
        _cpu_seconds() - cpu_before,
        limit_seconds,
        is_late and status < 0,  # else it ended by itself in the same moment
    )


def _stop(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """End a command with all it has started; gives what it wrote."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=GRACE_SECONDS)
    return process.communicate()


def _environment(directory: Path) -> dict[str, str]:
    """This interpreter comes first; what it compiles goes into this directory, not the library."""
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONPYCACHEPREFIX": str(directory / "compiled"),
        "LC_ALL": "C.UTF-8",
    }


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
