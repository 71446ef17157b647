"""Who is alive: names of processes that stay true, and deaths that are noticed once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobkeepd.processes import (
    Processes,
    ProcessId,
    current_boot_id,
    shares_our_pids,
    start_ticks,
)
from tests.daemon.workers import sleeper
from tests.support import wait_until_async

NOBODY = 2**22 + 1
"""Above the largest pid_max of Linux."""


class Watcher:
    """Watched processes and the deaths that were told."""

    def __init__(self) -> None:
        self.deaths: list[ProcessId] = []
        self.processes = Processes(self.deaths.append)

    async def wait_for_deaths(self, count: int) -> None:
        """Wait until this many deaths were told."""

        async def enough() -> bool:
            return len(self.deaths) >= count

        await wait_until_async(enough)


@pytest.fixture
async def watcher() -> AsyncIterator[Watcher]:
    """Nothing is watched yet."""
    watcher = Watcher()
    yield watcher
    watcher.processes.close()


# -- names --------------------------------------------------------------------------------------


def test_start_is_the_one_the_kernel_tells() -> None:
    for pid in (os.getpid(), os.getppid(), 1):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        assert start_ticks(pid) == int(fields[19])  # starttime: field 22 of proc(5)


@pytest.mark.parametrize("pid", [NOBODY, 2**31, 2**62])
def test_nobody_has_no_start_and_shares_no_pids(pid: int) -> None:
    assert start_ticks(pid) is None
    assert not shares_our_pids(pid)


def test_process_of_this_namespace_shares_its_pids() -> None:
    assert shares_our_pids(os.getpid())


def test_boot_has_an_id_that_stays() -> None:
    assert current_boot_id() == current_boot_id()
    assert len(current_boot_id()) == 36


# -- deaths -------------------------------------------------------------------------------------


async def test_death_is_told_once_with_the_name_it_was_watched_under(watcher: Watcher) -> None:
    with sleeper() as process, sleeper() as other:
        name = watcher.processes.watch(process.pid)
        watcher.processes.watch(other.pid)
        assert name == (process.pid, start_ticks(process.pid), current_boot_id())

        process.kill()

        await watcher.wait_for_deaths(1)
        watcher.processes.report_deaths()
        assert watcher.deaths == [name]


async def test_death_is_told_when_asked_for_before_the_loop_hears_of_it(watcher: Watcher) -> None:
    with sleeper() as process:
        name = watcher.processes.watch(process.pid)
        process.kill()
        process.wait()

        watcher.processes.report_deaths()

        assert watcher.deaths == [name]


async def test_process_that_is_watched_twice_dies_once(watcher: Watcher) -> None:
    with sleeper() as process:
        first = watcher.processes.watch(process.pid)
        again = watcher.processes.watch(process.pid)
        watcher.processes.resume(first)
        process.kill()
        await watcher.wait_for_deaths(1)
        assert first == again
        assert watcher.deaths == [first]


async def test_process_that_is_gone_already_is_told_on_the_next_turn(watcher: Watcher) -> None:
    name = watcher.processes.watch(NOBODY)
    assert name == (NOBODY, None, current_boot_id())
    assert watcher.deaths == []
    await asyncio.sleep(0)
    assert watcher.deaths == [name]


async def test_resumed_process_that_lives_is_watched(watcher: Watcher) -> None:
    with sleeper() as process:
        name = ProcessId(process.pid, start_ticks(process.pid), current_boot_id())
        watcher.processes.resume(name)
        watcher.processes.report_deaths()
        assert watcher.deaths == []

        process.kill()

        await watcher.wait_for_deaths(1)
        assert watcher.deaths == [name]


@pytest.mark.parametrize("change", ["start", "boot", "pid"])
async def test_resumed_name_of_another_process_is_told_dead(watcher: Watcher, change: str) -> None:
    start = start_ticks(os.getpid())
    assert start is not None
    name = {
        "start": ProcessId(os.getpid(), start - 1, current_boot_id()),
        "boot": ProcessId(os.getpid(), start, "another boot"),
        "pid": ProcessId(NOBODY, start, current_boot_id()),
    }[change]

    watcher.processes.resume(name)
    watcher.processes.report_deaths()

    assert watcher.deaths == [name]


async def test_resumed_name_without_a_start_is_believed(watcher: Watcher) -> None:
    watcher.processes.resume(ProcessId(os.getpid(), None, current_boot_id()))
    watcher.processes.report_deaths()
    assert watcher.deaths == []


async def test_nothing_is_told_after_close(watcher: Watcher) -> None:
    with sleeper() as process:
        watcher.processes.watch(process.pid)
        watcher.processes.close()
        process.kill()
        process.wait()
        watcher.processes.report_deaths()
        assert watcher.deaths == []


async def test_watching_leaves_no_descriptors_behind(watcher: Watcher) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 # the names are not wanted
    with sleeper() as process:
        watcher.processes.watch(process.pid)
        assert len(os.listdir("/proc/self/fd")) == before + 1  # noqa: PTH208
        process.kill()
        await watcher.wait_for_deaths(1)
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
