"""What is not as it should be, and what to do about it.

What lives here: the things that an operator should know before they become a failure. What may not:
what happened already (the log has that).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from jobkeep_protocol.messages import Worry
from jobkeepd.limits import MIB, Limits

LEAST_FREE_SHARE = 0.05
LEAST_FREE_BYTES = 256 * MIB
"""A disk with less of its room left than both of these is nearly full."""

SLOW_COMMIT_SECONDS = 0.05
CLOCK_STEP_SECONDS = 2.0


class Clock:
    """Whether somebody has set the clock since this was made."""

    def __init__(self) -> None:
        self._offset = _offset()

    @property
    def stepped_seconds(self) -> float:
        """By how much: what was slewed as an adjusting daemon does counts too."""
        return _offset() - self._offset


def worries_of_files(database: Path, wal_bytes: int, limits: Limits) -> Iterator[Worry]:
    """What the database and its disk give reason for. Raises OSError."""
    if limits.wal_alarm_bytes and wal_bytes > limits.wal_alarm_bytes:
        yield Worry(
            f"the write-ahead log has {_mib(wal_bytes)}",
            "a reader keeps it from being moved into the file: end long queries of other programs "
            f"on {database} (`fuser {database}` names them)",
        )
    disk = os.statvfs(database)
    free, size = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    if free < LEAST_FREE_BYTES and free < size * LEAST_FREE_SHARE:
        yield Worry(
            f"the disk of {database} has {_mib(free)} left",
            "make room on it; when it is full, all writes are refused, deletes too, and nothing "
            "that was acknowledged is lost",
        )


def worries_of_work(
    commit_seconds: float, stepped_seconds: float, limits_reached: Mapping[str, int]
) -> Iterator[Worry]:
    """What the daemon's work gives reason for."""
    if commit_seconds > SLOW_COMMIT_SECONDS:
        yield Worry(
            f"a commit takes {commit_seconds * 1000:.0f} ms",
            "the disk is slow or busy: look at it with `iostat -x 1`, or move the database",
        )
    if abs(stepped_seconds) > CLOCK_STEP_SECONDS:
        yield Worry(
            f"the clock was set by {stepped_seconds:+.0f} s since the daemon started",
            "times from before and after do not agree; the order of jobs is right all the same. "
            "Have the clock kept right (`timedatectl`)",
        )
    for limit, times in sorted(limits_reached.items()):
        yield Worry(
            f"the limit {limit} was reached, {times} times so far",
            "docs/security.md says what it guards; the log names the connections that are refused, "
            "and `jobkeep monitor --errors` the requests",
        )


def _offset() -> float:
    """How far the clock of the day is ahead of one that nobody can set (clock_gettime(2))."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def _mib(number_of_bytes: int) -> str:
    return f"{number_of_bytes / MIB:.0f} MiB"
