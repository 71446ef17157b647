"""A clock that is set, by a day either way, while the daemon runs or between two of its lives."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from jobkeep import Client
from jobkeep_protocol.messages import GetExecutionHistoryCount, RecordExecution, Status
from jobkeep_protocol.states import CheckpointState, JobStatus, utc_now
from jobkeepd.store import applied as applied_module
from jobkeepd.store.applied import AppliedRequests, RequestKey
from jobkeepd.store.schema import TABLES
from tests.daemon.workers import sleeper
from tests.daemon_process import DaemonProcess
from tests.support import wait_until
from tests.wire import Wire

LIBRARY = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
needs_faketime = pytest.mark.skipif(LIBRARY is None, reason="faketime is not installed")

CLIENT = b"a client of ours"
REQUEST_ID = 64 * 9


class Clock:
    """A daemon whose clock can be set, but for the monotonic one."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self._file = daemon.database.with_name("clock")
        self.set("+0")
        self.environment = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, offset: str) -> None:
        """Set it to so much from the right time, such as `-1d`."""
        self._file.write_text(f"{offset}\n")


@pytest.fixture
def clock(daemon_process: DaemonProcess) -> Clock:
    """That of a daemon that is running."""
    clock = Clock(daemon_process)
    daemon_process.start(environment=clock.environment)
    return clock


@needs_faketime
def test_jobs_stay_in_the_order_of_their_updates_and_durations_are_right(
    daemon_process: DaemonProcess, clock: Clock
) -> None:
    order: list[str] = []
    with Client(daemon_process.socket) as client, Wire(daemon_process.socket) as wire:
        for offset in ("+0", "+1d", "-1d", "+2d", "-2d", "+0"):
            clock.set(offset)
            client.save(CheckpointState(job_id=offset, total_sheets=1))
            client.save(CheckpointState(job_id="every time", total_sheets=1))
            order = [offset, *(job for job in order if job != offset)]
            listed = [job["id"] for job in client.query_jobs()]
            assert listed == ["every time", *order]
        assert wire.load("every time")[0].revision == 6
        assert 0 <= wire.ask(Status()).uptime_seconds < 3_600


@needs_faketime
@pytest.mark.soak
def test_house_is_kept_after_the_clock_was_set_back(
    daemon_process: DaemonProcess, clock: Clock
) -> None:
    with Wire(daemon_process.socket) as wire:
        clock.set("-1d")
        wire.save(CheckpointState(job_id="after it was set", total_sheets=1))
        wait_until(lambda: b"after it was set" in daemon_process.database.read_bytes())


@needs_faketime
def test_reply_is_kept_when_the_clock_is_set_forward_while_the_daemon_is_away(
    daemon_process: DaemonProcess, clock: Clock
) -> None:
    record = RecordExecution("job", 1, 1)
    with Wire(daemon_process.socket, CLIENT) as wire:
        wire.save(CheckpointState(job_id="job", total_sheets=1))
        first = wire.ask(record, REQUEST_ID)
    daemon_process.kill()
    clock.set("+2d")
    daemon_process.start(environment=clock.environment)
    with Wire(daemon_process.socket, CLIENT) as wire, Wire(daemon_process.socket) as other:
        other.save(CheckpointState(job_id="another", total_sheets=1))
        wait_until(lambda: b"another" in daemon_process.database.read_bytes())  # keeps house

        again = wire.ask(record, REQUEST_ID)

        assert again == first
        assert wire.ask(GetExecutionHistoryCount("job")) == 1


# -- who is alive -------------------------------------------------------------------------------


def test_process_that_lives_is_not_taken_for_dead_when_the_clock_was_set(
    daemon: DaemonProcess,
) -> None:
    with sleeper() as running:
        with Wire(daemon.socket) as wire:
            wire.save(
                CheckpointState(
                    job_id="job", total_sheets=1, status=JobStatus.RUNNING, pid=running.pid
                )
            )
        daemon.stop()
        stat = daemon.database.with_name("stat")
        stat.write_text("\n".join(_set_by_a_day(Path("/proc/stat").read_text().splitlines())))
        # To the kernel a clock that is set is a boot at another time.
        script = 'mount --bind "$0" /proc/stat && exec "$@"'
        daemon.wrapper = [*("unshare", "--map-root-user", "--mount", "sh", "-c", script, str(stat))]

        daemon.start()

        with Wire(daemon.socket) as wire:
            assert wire.load()[0].status is JobStatus.RUNNING
            running.kill()
            wait_until(lambda: wire.load()[0].status is JobStatus.PAUSED)


def _set_by_a_day(lines: list[str]) -> Iterator[str]:
    for line in lines:
        name, _, value = line.partition(" ")
        yield f"btime {int(value) + 86_400}" if name == "btime" else line


# -- kept replies -------------------------------------------------------------------------------


def _apply(applied: AppliedRequests, number: int) -> RequestKey:
    key = RequestKey(bytes([number]), 1)
    applied.add(key, b"reply")
    applied.store()
    applied.committed()
    return key


@pytest.mark.parametrize("days", [2, -2, 400])
def test_reply_stays_for_two_rounds_of_expiry_whatever_the_clock_says(
    monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(TABLES)
        applied = AppliedRequests(connection)
        before = _apply(applied, 1)
        later = utc_now() + timedelta(days=days)
        monkeypatch.setattr(applied_module, "utc_now", lambda: later)
        after = _apply(applied, 2)
        kept = []

        for _ in range(4):
            applied.expire()
            table = AppliedRequests(connection)
            kept.append((table.reply_to(before) is not None, table.reply_to(after) is not None))

    assert kept[:2] == [(True, True), (True, True)]
    assert kept[2:] == [(days < 0, True)] * 2
