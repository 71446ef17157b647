"""A daemon to which spoilt conversations are said goes on serving its neighbours as before."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil

from tests.daemon_process import DaemonProcess
from tests.fuzz.budget import FUZZ_SECONDS, is_long, within_time
from tests.fuzz.conversations import of_all_calls, of_all_requests, recorded
from tests.fuzz.live import Fuzzer, Neighbour
from tests.support import wait_until

ALONE_OPERATIONS, FEW_OPERATIONS = 200, 4
"""What the neighbour does by itself, and at the least beside the fuzzer."""

WARM_UP, ENOUGH = 100, 400
"""Conversations before memory is looked at, and in all, in the quick version."""

MAX_GROWTH = 48 * 1024 * 1024
"""Bytes that the daemon may grow by after the warm-up: a few of the largest requests at once."""

COMPLAINTS = ("ERROR", "CRITICAL", "Traceback", "a defect")


@within_time
def test_daemon_that_is_told_nonsense_serves_its_neighbour_and_stays_as_it_is(
    daemon_process: DaemonProcess, tmp_path: Path
) -> None:
    daemon = daemon_process
    daemon.start("--cache-bytes", str(1024 * 1024))
    conversations = [of_all_requests(), of_all_calls(), recorded(daemon.socket, tmp_path)]
    with Neighbour(daemon.socket) as neighbour:
        wait_until(lambda: neighbour.has_done(ALONE_OPERATIONS))
        alone = neighbour.latencies()
        with Fuzzer(daemon.socket, conversations, first_seed()) as fuzzer:
            go_on(daemon, FUZZ_SECONDS / 4, lambda: fuzzer.said >= WARM_UP)
            before = memory(daemon)
            neighbour.latencies()
            go_on(
                daemon,
                FUZZ_SECONDS * 3 / 4,
                lambda: fuzzer.said >= ENOUGH and neighbour.has_done(FEW_OPERATIONS),
            )
            growth = memory(daemon) - before
            disturbed = neighbour.latencies()
    print(f"\n{fuzzer}; the daemon grew by {growth / 2**20:.1f} MiB")
    print(f"the neighbour alone: {alone}\nbeside the fuzzer:   {disturbed}")

    assert daemon.is_running, daemon.log
    assert not [line for line in daemon.log.splitlines() if is_complaint(line)], fuzzer
    assert fuzzer.failures() == []
    assert growth <= MAX_GROWTH, fuzzer
    neighbour.check()
    daemon.stop()
    assert integrity(daemon.database) == "ok"


def first_seed() -> int:
    """Where the seeds of the spoilt conversations begin: always the same, or FUZZ_SEED, or other
    ones at each long run."""
    given = os.environ.get("FUZZ_SEED")
    if given is not None:
        return int(given)
    return int.from_bytes(os.urandom(4), "big") if is_long() else 0


def go_on(daemon: DaemonProcess, seconds: float, is_enough: Callable[[], bool]) -> None:
    """Wait for as long as that and until there is enough, or until the daemon is gone."""
    end = time.monotonic() + seconds
    wait_until(
        lambda: (time.monotonic() > end and is_enough()) or not daemon.is_running,
        seconds + 60,
    )


def memory(daemon: DaemonProcess) -> int:
    """The resident memory of the daemon, in bytes; 0 when it is gone."""
    try:
        return int(psutil.Process(daemon.pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def is_complaint(line: str) -> bool:
    """Whether a line of the daemon's log says that something is wrong with itself."""
    return any(complaint in line for complaint in COMPLAINTS)


def integrity(database: Path) -> str:
    """What SQLite says of the file."""
    with closing(sqlite3.connect(database)) as connection:
        (found,) = connection.execute("PRAGMA integrity_check").fetchone()
    return str(found)
