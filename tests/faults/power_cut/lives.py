"""Several lives of one daemon on one database, traced, under load.

What lives here: starting it, and its ends. What may not: what the trace says.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

from tests.daemon_process import DaemonProcess
from tests.faults.injection import killed_at as killed_at_point
from tests.faults.power_cut.disk import Disk
from tests.faults.power_cut.fates import all_lost, seeded
from tests.faults.power_cut.load import Clients, Scripts
from tests.faults.power_cut.replay import look
from tests.faults.power_cut.trace import PASSING, Event, read_trace, tracing, wait_until_whole
from tests.support import wait_until

DATABASE = Path("made", "by", "state.db")
"""Where the database is below the root of the traced files; the daemon makes the directories."""

MOST_LIVES = 20

MANY, FEW = 8, 2
"""Requests of each client on their way. With many a commit has some 18 writes, with few some 6."""


class Life(NamedTuple):
    """One start of the daemon, and its end. `injection` is what strace does to it, and is its end;
    without one it is stopped after so many writes.

    strace counts the calls of each thread for itself. The thread that prepares the database, and
    has called often by then, makes the checkpoints, of which the first comes after 100 writes: what
    is to hit a commit has to do so earlier, so a life with an injection has small commits."""

    end: Literal["killed", "disk failed", "stopped"]
    injection: str | None = None
    writes: float = float("inf")
    environment: Mapping[str, str] | None = None

    @property
    def in_flight(self) -> int:
        """How many requests each client has on their way, at the most."""
        return MANY if self.injection is None else FEW


def killed_at(number: int, call: str = "fdatasync") -> Life:
    """A life until one of its threads makes this call for the so-many-th time; the call itself does
    not happen."""
    return Life("killed", f"{call}:signal=KILL:when={number}")


def disk_fails_at(number: int) -> Life:
    """A life in which no sync of a thread succeeds from its so-many-th on."""
    return Life("disk failed", f"fdatasync:error=EIO:when={number}+")


def killed_after_its_disk_failed_at(number: int) -> Life:
    """The same, and nothing of the end that the daemon makes then."""
    return disk_fails_at(number)._replace(environment=killed_at_point("after failure"))


def stopped(after: float = float("inf")) -> Life:
    """A life of so many writes, by default of all that are left."""
    return Life("stopped", writes=after)


Plan = Life | Callable[[int], Life]
"""A life; or the lives of the numbers from 1 on, until one leaves a commit that the next one finds
and no sync covers. How many syncs come before the first commit is the daemon's own affair."""


class Lived(NamedTuple):
    """What the daemon did in one life, and the files as processes see them afterwards. `is_ahead`
    when these have commits that a power cut would take."""

    life: Life
    events: list[Event]
    files: dict[str, bytes]
    is_ahead: bool


def trace_lives(
    directory: Path, scripts: Scripts, plans: Sequence[Plan], *options: str
) -> list[Lived]:
    """What the daemon did in these lives, one after the other, in which the clients write
    everything."""
    root = directory / "disk"
    root.mkdir()
    daemon = DaemonProcess(directory)
    daemon.database = root / DATABASE
    clients = Clients(daemon, scripts)
    lived: list[Lived] = []
    with closing(Disk(directory / "model")) as disk:
        try:
            for plan in plans:
                for life in [plan] if isinstance(plan, Life) else map(plan, range(1, MOST_LIVES)):
                    events = _live(life, daemon, clients, root, options)
                    disk.apply_all(events)
                    is_ahead = _is_ahead(root, disk, scripts)
                    lived.append(Lived(life, events, _files_below(root), is_ahead))
                    if is_ahead:
                        break
                else:
                    assert isinstance(plan, Life), f"no life of {plan} left a commit behind"
        finally:
            daemon.clean_up()
    assert clients.are_done, f"{clients.answered} writes were answered, not all; {daemon.log}"
    return lived


def _live(
    life: Life, daemon: DaemonProcess, clients: Clients, root: Path, options: Sequence[str]
) -> list[Event]:
    """One life, under load."""
    output = root.with_name("trace")
    daemon.wrapper = tracing(output, life.injection)
    daemon.spawn(*options, environment=life.environment)
    wait_until(lambda: daemon.is_accepting or not daemon.is_running)
    if daemon.is_running:  # it may have ended while it started
        clients.write(life.writes, life.in_flight)
        assert life.injection is None or not clients.are_done, f"all was written before {life}"
    if life.injection is None:
        daemon.stop()
    else:
        assert daemon.wait() != 0, f"the daemon survived {life.injection}"
    wait_until_whole(output, daemon.pid)
    return read_trace(output, root)


def _is_ahead(root: Path, disk: Disk, scripts: Scripts) -> bool:
    with TemporaryDirectory() as copy:  # even to look at a file makes others beside it
        seen = look(shutil.copytree(root, Path(copy, "seen")) / DATABASE, scripts)
    with disk.after_cut(all_lost, seeded(0)) as left:
        durable = look(left / DATABASE, scripts)
    return isinstance(seen, list) and isinstance(durable, list) and sum(seen) > sum(durable)


def _files_below(root: Path) -> dict[str, bytes]:
    found = [path for path in root.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in found
        if not path.name.endswith(PASSING)
    }
