"""Who is alive: the processes that run jobs and hold claims.

What lives here: telling one process from a later one with the same pid, and noticing its death.
What may not: what a death means for jobs and claims (that is a write of the store).

A pid alone lies: it is reused. A process is named by its pid, its start time in clock ticks since
boot, and the boot id; the start time is counted from boot because a clock that is set would move
any other. A pidfd (pidfd_open(2)) keeps the name true while it is open and becomes readable when
the process dies, also before its parent has waited for it.

A process that we may not see, or that is in another pid namespace, is never said to be dead.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil

log = logging.getLogger(__name__)

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class ProcessId(NamedTuple):
    """The name of one process, for ever. `start` is in clock ticks since boot.

    `start` is None when it cannot be read; then only the pid and the boot are known.
    """

    pid: int
    start: int | None
    boot_id: str


def current_boot_id() -> str:
    """The kernel's random id of this boot (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def start_ticks(pid: int) -> int | None:
    """When a process started, None when it is gone or hidden from us.

    psutil's create_time is this number of ticks plus the boot time, which moves when the clock is
    set; so the boot time of the same moment is taken off again.
    """
    try:
        since_boot: float = psutil.Process(pid).create_time() - psutil.boot_time()
    except (psutil.Error, OSError, OverflowError):
        return None
    return round(since_boot * CLOCK_TICKS)


def shares_our_pids(pid: int) -> bool:
    """Whether a process counts pids as we do.

    proc(5): the NSpid line of /proc/PID/status has one number for each nested pid namespace the
    process is in, seen from ours; it is readable for every user, unlike /proc/PID/ns. A peer in
    a namespace that is not below ours has the pid 0 for us.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        log.debug("cannot tell the pid namespace of process %d: %s", pid, error)
        return False
    for line in status.splitlines():
        if line.startswith("NSpid:"):
            return len(line.split()) == 2  # the label and one number
    return False


class Processes:
    """Watches processes and says which have died. Belongs to the event loop it is made on.

    `on_death` is called once for each process that was being watched. A process is watched until
    it dies: whether that still matters to anybody is the store's to know.
    """

    def __init__(self, on_death: Callable[[ProcessId], None]) -> None:
        self._on_death = on_death
        self._boot_id = current_boot_id()
        self._watched: dict[int, tuple[ProcessId, int]] = {}
        self._gone: list[ProcessId] = []
        self._poll = select.poll()
        self._is_short = False
        self._loop = asyncio.get_running_loop()

    def watch(self, pid: int) -> ProcessId:
        """The name of the process with this pid, which is watched from now on.

        A process that is gone already is reported by the next `report_deaths`, and no later than
        on the next turn of the loop.
        """
        known = self._watched.get(pid)
        if known is not None and not _is_readable(known[1]):
            return known[0]
        process = ProcessId(pid, start_ticks(pid), self._boot_id)
        self._open(process)
        return process

    def resume(self, process: ProcessId) -> None:
        """Watch a process that was named earlier, perhaps by another daemon or before a reboot."""
        known = self._watched.get(process.pid)
        if known is not None and (
            known[0] == process or (process.start is None and process.boot_id == self._boot_id)
        ):
            return  # for all that is known of it, it is the one that is watched
        start = start_ticks(process.pid)
        is_another = process.boot_id != self._boot_id or (
            start is not None and process.start is not None and start != process.start
        )
        if is_another:
            self._is_gone(process)
        else:
            self._open(process)

    def report_deaths(self) -> None:
        """Report every watched process that has died by now, even before the loop is told."""
        for pidfd, _ in self._poll.poll(0):
            for process, watched in list(self._watched.values()):
                if watched == pidfd:
                    self._died(process)
        gone, self._gone = self._gone, []
        for process in gone:
            self._on_death(process)

    def close(self) -> None:
        """Watch nothing any more."""
        for pid in list(self._watched):
            self._forget(pid)

    def _open(self, process: ProcessId) -> None:
        if process.pid in self._watched:
            self._died(self._watched[process.pid][0])
        try:
            pidfd = os.pidfd_open(process.pid)
        except (ProcessLookupError, OverflowError):
            self._is_gone(process)
            return
        except OSError as error:
            if not self._is_short:
                self._is_short = True
                log.warning(
                    "cannot watch process %d, and perhaps others, for its death: %s; it is tried "
                    "again with every look at all of them",
                    process.pid,
                    error,
                )
            return
        self._is_short = False
        self._watched[process.pid] = (process, pidfd)
        self._poll.register(pidfd, select.POLLIN)
        self._loop.add_reader(pidfd, self._died, process)

    def _died(self, process: ProcessId) -> None:
        self._forget(process.pid)
        self._on_death(process)

    def _is_gone(self, process: ProcessId) -> None:
        self._gone.append(process)
        self._loop.call_soon(self.report_deaths)

    def _forget(self, pid: int) -> None:
        _, pidfd = self._watched.pop(pid)
        self._poll.unregister(pidfd)
        self._loop.remove_reader(pidfd)
        os.close(pidfd)


def _is_readable(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
