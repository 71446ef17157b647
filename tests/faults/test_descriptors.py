"""A process that can open nothing more: it serves who is there, and all when it can again."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from jobkeep_protocol.messages import (
    ClaimNextSheet,
    GetExecutionHistoryCount,
    GetNextSheet,
    RecordExecution,
)
from jobkeep_protocol.states import CheckpointState
from jobkeepd.processes import Processes, ProcessId
from tests.daemon.workers import sleeper
from tests.daemon_process import DaemonProcess
from tests.support import wait_until, wait_until_async
from tests.wire import Wire

JOB = CheckpointState(job_id="job", total_sheets=3)


@contextmanager
def descriptors_limited(pid: int, limit: int) -> Iterator[None]:
    """A process (0: this one) that has no descriptors from this number on, for a while."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """This process can open nothing more, for a while."""
    lowest = os.dup(0)
    os.close(lowest)
    with descriptors_limited(0, lowest):
        yield


@contextmanager
def full_of_connections(daemon: DaemonProcess) -> Iterator[None]:
    """A daemon that has no descriptor left for a connection more, for a while."""
    highest = max(int(path.name) for path in Path(f"/proc/{daemon.pid}/fd").iterdir())
    with ExitStack() as stack, descriptors_limited(daemon.pid, highest + 4):
        with suppress(EOFError, ConnectionError):
            while True:
                stack.enter_context(Wire(daemon.socket))
        yield


def is_turned_away(daemon: DaemonProcess) -> bool:
    """Whether a connection is closed without an answer."""
    try:
        Wire(daemon.socket).close()
    except (EOFError, ConnectionError):
        return True
    return False


def test_daemon_without_descriptors_serves_who_is_there_and_others_when_it_has_some(
    daemon: DaemonProcess,
) -> None:
    with ExitStack() as stack, Wire(daemon.socket) as wire:
        wire.save(JOB)
        with full_of_connections(daemon):
            assert all(is_turned_away(daemon) for _ in range(20))
            assert wire.ask(RecordExecution("job", 1, 1)) == 1
            for _ in range(8):  # at once: on all the connections that read
                wire.send(GetExecutionHistoryCount("job"))
            assert [wire.reply_to(GetExecutionHistoryCount) for _ in range(8)] == [1] * 8
            assert daemon.log.count("\n") == 1, daemon.log

        wait_until(lambda: not is_turned_away(daemon))
        others = [stack.enter_context(Wire(daemon.socket)) for _ in range(20)]
        assert [other.ask(GetNextSheet("job")) for other in others] == [1] * 20
    daemon.stop()


def test_claimer_that_cannot_be_watched_is_told_of_once(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket) as wire:
        wire.save(JOB)
        with full_of_connections(daemon):
            assert [wire.ask(ClaimNextSheet("job")) for _ in range(3)] == [1, 2, 3]
    assert daemon.log.count("cannot watch process") == 1
    daemon.stop()


async def test_process_is_watched_by_a_later_look_and_its_death_then_told() -> None:
    deaths: list[ProcessId] = []
    processes = Processes(deaths.append)
    with sleeper() as running:
        with no_descriptors_left():
            name = processes.watch(running.pid)
        assert not processes._watched

        processes.resume(name)
        running.kill()

        async def is_told() -> bool:
            return bool(deaths)

        await wait_until_async(is_told)
    assert deaths == [name]
    processes.close()


async def test_process_whose_name_could_not_be_read_in_full_is_not_taken_for_a_dead_one() -> None:
    deaths: list[ProcessId] = []
    processes = Processes(deaths.append)
    with sleeper() as running:
        with no_descriptors_left():
            in_part = processes.watch(running.pid)
        in_full = processes.watch(running.pid)
        assert in_part.start is None
        assert in_full.start is not None

        processes.resume(in_part)
        processes.report_deaths()

        assert deaths == []
    processes.close()


def test_daemon_with_few_descriptors_says_so_at_its_start(daemon_process: DaemonProcess) -> None:
    daemon_process.wrapper = ["prlimit", "--nofile=100:500"]
    daemon_process.start()
    assert "this process may have 500 files open" in daemon_process.log
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(daemon_process.socket)) for _ in range(200)]
        assert wires[-1].ask(GetNextSheet("job")) == 1
    daemon_process.stop()
