"""Looking into a live daemon: its connections, its slow requests, its monitor, its figures."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobkeep_protocol.errors import JobNotFound, PermissionDenied
from jobkeep_protocol.messages import (
    ClaimNextSheet,
    ConnectedClient,
    Delete,
    GetNextSheet,
    KillClient,
    ListClients,
    Load,
    Monitor,
    MonitorPage,
    RecordExecution,
    SaveSheet,
    ServedRequest,
    SlowLog,
    Status,
)
from jobkeep_protocol.states import CheckpointState, SheetState
from tests.daemon_process import DaemonProcess
from tests.support import PATIENCE, scaled, wait_until
from tests.users import effective_user, needs_root, public_directory
from tests.wire import Wire

JOB = CheckpointState(job_id="job", total_sheets=3)
OTHER_USER = 54_321
PAGE = scaled(PATIENCE)


@pytest.fixture
def wire(daemon: DaemonProcess) -> Any:
    """A connection to a daemon that keeps one job."""
    with Wire(daemon.socket) as connection:
        connection.save(JOB)
        yield connection


def watched(watcher: Wire, **wanted: Any) -> MonitorPage:
    """What the monitor shows of it, once there is something."""
    return watcher.ask(Monitor(wait_seconds=min(PAGE, 60), **wanted))


def start_watching(watcher: Wire) -> int:
    """Have the daemon monitor; gives where to go on."""
    return watcher.ask(Monitor(wait_seconds=0)).next


# -- connections --------------------------------------------------------------------------------


def test_each_connection_is_described(daemon: DaemonProcess, wire: Wire) -> None:
    wire.ask(ClaimNextSheet("job"))
    with Wire(daemon.socket) as idle:
        first, second = idle.ask(ListClients())

    assert (first.pid, first.uid, first.gid) == (os.getpid(), os.getuid(), os.getgid())
    assert (first.role, first.dialect, first.name, first.version) == (
        "admin",
        "binary",
        "test",
        "0",
    )
    assert (first.last_operation, first.requests, first.claims) == ("claim_next_sheet", 2, 1)
    assert first.command == Path("/proc/self/comm").read_text(encoding="utf-8").strip()
    assert first.bytes_in > 0
    assert first.bytes_out > 0
    assert first.connected_seconds >= second.connected_seconds
    assert (second.last_operation, second.in_flight) == ("list_clients", 1)
    assert second.connection_id > first.connection_id


def test_connection_that_has_said_nothing_has_no_dialect(daemon: DaemonProcess, wire: Wire) -> None:
    def silent() -> list[ConnectedClient]:
        return [one for one in wire.ask(ListClients()) if one.dialect is None]

    with Wire(daemon.socket, hello=False):
        wait_until(lambda: len(silent()) == 1)
    wait_until(lambda: silent() == [])


def test_killed_connection_is_gone_and_the_others_stay(daemon: DaemonProcess, wire: Wire) -> None:
    with Wire(daemon.socket) as victim:
        (_, its) = wire.ask(ListClients())

        assert wire.ask(KillClient(its.connection_id))

        with pytest.raises(EOFError):
            victim.receive()
    who = f"connection {its.connection_id} of uid {os.getuid()}, pid {os.getpid()} "
    assert who in daemon.log
    assert len(wire.ask(ListClients())) == 1
    assert not wire.ask(KillClient(its.connection_id)), "it is gone"


@pytest.fixture
def open_daemon() -> Iterator[DaemonProcess]:
    """A daemon that every user may read from."""
    with public_directory() as directory:
        process = DaemonProcess(directory)
        process.start("--socket-mode", "0666", "--others", "read")
        yield process
        process.clean_up()


@needs_root
def test_reader_sees_connections_and_requests_but_kills_nobody_and_sees_no_payloads(
    open_daemon: DaemonProcess,
) -> None:
    with effective_user(OTHER_USER), Wire(open_daemon.socket) as reader:
        (own,) = reader.ask(ListClients())
        assert (own.uid, own.role) == (OTHER_USER, "read")
        assert reader.ask(Monitor(wait_seconds=0)).requests == []
        with pytest.raises(PermissionDenied, match="role admin"):
            reader.ask(KillClient(own.connection_id))
        with pytest.raises(PermissionDenied, match="role admin"):
            reader.ask(Monitor(payloads=10, wait_seconds=0))


# -- requests -----------------------------------------------------------------------------------


def test_monitor_shows_who_asked_for_what_and_where_the_time_went(
    daemon: DaemonProcess, wire: Wire
) -> None:
    with Wire(daemon.socket) as watcher:
        start = start_watching(watcher)
        wire.ask(SaveSheet("job", SheetState(sheet_num=2)))
        with pytest.raises(JobNotFound):
            wire.ask(SaveSheet("unknown", SheetState(sheet_num=1)))

        saved, refused = watched(watcher, after=start).requests

    assert (saved.operation, saved.job_id, saved.sheet_num) == ("save_sheet", "job", 2)
    assert (saved.pid, saved.uid, saved.dialect) == (os.getpid(), os.getuid(), "binary")
    assert (saved.error, refused.error) == (None, "job_not_found")
    assert saved.commit_seconds > 0
    assert saved.bytes_in > 4 < saved.bytes_out
    assert (saved.request, saved.reply) == (None, None)
    for one in (saved, refused):
        parts = one.queue_seconds + one.commit_seconds + one.reply_seconds
        assert parts == pytest.approx(one.duration_seconds, abs=2e-6)


def test_monitor_does_not_show_itself_and_goes_on_where_it_stopped(
    daemon: DaemonProcess, wire: Wire
) -> None:
    with Wire(daemon.socket) as watcher:
        position = start_watching(watcher)
        seen: list[str] = []
        for number in range(3):
            wire.ask(GetNextSheet(f"job {number}"))
            page = watched(watcher, after=position)
            seen += [str(one.job_id) for one in page.requests]
            position = page.next

    assert seen == ["job 0", "job 1", "job 2"]


def test_command_is_known_though_its_process_is_gone(daemon: DaemonProcess, wire: Wire) -> None:
    with Wire(daemon.socket) as watcher:
        start = start_watching(watcher)
        code = f"from jobkeep import Client; Client({str(daemon.socket)!r}).get_next_sheet('job')"
        subprocess.run([sys.executable, "-c", code], check=True)

        (asked,) = watched(watcher, after=start, methods=["get_next_sheet"]).requests

    assert asked.command == wire.ask(ListClients())[0].command


def test_payloads_are_shown_as_json_and_cut(daemon: DaemonProcess, wire: Wire) -> None:
    with Wire(daemon.socket) as watcher:
        start = watcher.ask(Monitor(wait_seconds=0, payloads=50)).next
        wire.ask(RecordExecution("job", 1, 1, "the prompt", "x" * 1_000))

        (one,) = watched(watcher, after=start, payloads=50).requests

    assert one.request == '{"job_id":"job","sheet_num":1,"attempt_num":1,"prompt":"the prompt"'[:50]
    assert one.reply == "1"


def test_monitor_whose_watcher_has_left_is_given_up(daemon: DaemonProcess, wire: Wire) -> None:
    with Wire(daemon.socket) as watcher:
        watcher.send(Monitor(wait_seconds=60))
        wait_until(lambda: [one.in_flight for one in wire.ask(ListClients())] == [1, 1])

    wait_until(lambda: len(wire.ask(ListClients())) == 1)
    daemon.stop()  # which waits for whatever is still under way


def test_daemon_that_ends_answers_those_who_wait_for_news(
    daemon: DaemonProcess, wire: Wire
) -> None:
    with Wire(daemon.socket) as watcher:
        watcher.send(Monitor(wait_seconds=60))
        wait_until(lambda: [one.in_flight for one in wire.ask(ListClients())] == [1, 1])

        daemon.stop()

        assert watcher.receive() is not None


def test_slow_log_has_the_slowest_first(wire: Wire) -> None:
    wire.ask(Load("job"))
    wire.ask(SaveSheet("job", SheetState(sheet_num=1)))

    slowest: list[ServedRequest] = wire.ask(SlowLog())

    durations = [one.duration_seconds for one in slowest]
    assert durations == sorted(durations, reverse=True)
    assert {one.operation for one in slowest} == {"save", "load", "save_sheet"}
    assert wire.ask(SlowLog(limit=1)) == slowest[:1]


def test_waiting_for_news_is_not_slow(daemon: DaemonProcess, wire: Wire) -> None:
    with Wire(daemon.socket) as watcher:
        watcher.send(Monitor(wait_seconds=60, methods=["get_next_sheet"]))
        wait_until(lambda: [one.in_flight for one in wire.ask(ListClients())] == [1, 1])
        wire.ask(GetNextSheet("job"))
        watcher.receive()

        figures = wire.ask(Status()).operations["monitor"]

    assert figures.requests == 1
    assert figures.max_seconds < 1


# -- the status ---------------------------------------------------------------------------------


def test_status_counts_requests_errors_and_limits(wire: Wire) -> None:
    before = wire.ask(Status())
    for _ in range(3):
        wire.ask(GetNextSheet("job"))
    with pytest.raises(JobNotFound):
        wire.ask(SaveSheet("unknown", SheetState(sheet_num=1)))
    wire.ask(Delete("job"))

    after = wire.ask(Status())

    assert after.requests - before.requests == 6  # and the status that came before
    assert after.operations["get_next_sheet"].requests == 3
    assert after.operations["save_sheet"].errors == 1
    assert after.errors == {"job_not_found": 1}
    assert after.limits_reached == {}
    assert after.queued_writes == after.queued_bytes == 0
    assert after.worries == []


def test_status_has_the_time_of_the_last_checkpoint_and_the_rates_of_work(wire: Wire) -> None:
    wait_until(lambda: wire.ask(Status()).last_checkpoint_at is not None)
    wire.save(JOB)
    wait_until(lambda: wire.ask(Status()).commits_per_second > 0)
    assert wire.ask(Status()).writes_per_second > 0
