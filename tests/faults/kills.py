"""A daemon that is ended at random moments and started again at once.

What lives here: ending it, and the figures of it: when, and how long until it answered again. What
may not: the clients, and what they find.

The moments are counted in what the clients get done, so that a slow machine is killed no more often
between two operations than a quick one. Some kills come while the daemon is still starting.
"""

from __future__ import annotations

import bisect
import random
import statistics
import time
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Literal, TypeAlias

from msgspec import Struct

from jobkeep_protocol.messages import Status
from tests.daemon_process import DaemonProcess
from tests.faults.operations import Operation
from tests.support import wait_until
from tests.wire import Wire

Ending: TypeAlias = Literal["kill", "stop"]

LEAST_RATE = 300
"""Acknowledged writes a second of a run that means anything."""

ENDS_PER_KILL_AT_START = 4
"""After how many ends one more comes while the daemon starts."""


class End(Struct):
    """One end of the daemon, by `time.monotonic_ns`.

    `began` is when this daemon had answered for the first time, None when it never did; `over` is
    when it was gone.
    """

    at: int
    began: int | None
    over: int


class Killer:
    """Ends a daemon, again and again. `ends` has each of them, `ready_seconds` how long each start
    took until the first answer. `prepare` brings the daemon to where it is to end."""

    def __init__(
        self,
        daemon: DaemonProcess,
        seed: int,
        ending: Ending = "kill",
        prepare: Callable[[], object] = lambda: None,
    ) -> None:
        self.ends: list[End] = []
        self.ready_seconds: list[float] = []
        self._daemon = daemon
        self._ending = ending
        self._prepare = prepare
        self._random = random.Random(seed)  # noqa: S311 # moments are no secret
        self._began: int | None = None
        self._turns = 0

    def start(self, *options: str) -> None:
        """Start the daemon; returns when it has answered."""
        started = time.monotonic_ns()
        self._daemon.spawn(*options)
        wait_until(self._is_answering)
        self._began = time.monotonic_ns()
        self.ready_seconds.append((self._began - started) / 1e9)

    def end(self, meanwhile: Callable[[], object] | None = None) -> None:
        """End the daemon now, and start it again at once, but for what is to be done meanwhile."""
        self._prepare()
        self._end_once()
        if meanwhile is not None:
            meanwhile()
        self._turns += 1
        if self._ending == "kill" and self._turns % ENDS_PER_KILL_AT_START == 0:
            self._daemon.spawn()
            moment = time.monotonic() + self._random.uniform(0, self.ready_seconds[-1])
            wait_until(lambda: time.monotonic() >= moment)
            self._end_once()
        self.start()

    def a_share_of(self, most: int) -> int:
        """How much to let the clients do before the next end."""
        return self._random.randint(most // 10, most)

    def _end_once(self) -> None:
        at = time.monotonic_ns()
        getattr(self._daemon, self._ending)()
        self.ends.append(End(at, self._began, time.monotonic_ns()))
        self._began = None

    def _is_answering(self) -> bool:
        assert self._daemon.is_running, self._daemon.log
        if not self._daemon.is_accepting:
            return False
        with Wire(self._daemon.socket) as wire:
            return wire.ask(Status()).pid == self._daemon.pid


class Figures(Struct):
    """What a run was: whether it was enough of one, and what it measured."""

    acknowledged: int
    seconds: float
    ends: int
    ends_in_flight: int
    ready_seconds: list[float]

    @property
    def rate(self) -> float:
        """Acknowledged writes a second, over the whole run, the starts of the daemon included."""
        return self.acknowledged / self.seconds

    def assert_enough_writes(self) -> None:
        """Fail when too little was written for what was not found to mean anything."""
        assert self.rate >= LEAST_RATE, (
            f"void: {self.rate:.0f} acknowledged writes a second, not {LEAST_RATE}"
        )

    def assert_enough_ends(self, least: int) -> None:
        """The same, when the daemon had too few ends, or too few that could do harm."""
        assert self.ends >= least, f"void: {self.ends} ends of the daemon, not {least}"
        assert self.ends_in_flight * 2 >= self.ends, (
            f"void: {self.ends_in_flight} of {self.ends} ends came while a write was in flight"
        )

    def __str__(self) -> str:
        return (
            f"{self.acknowledged:,} acknowledged writes in {self.seconds:.1f} s ({self.rate:,.0f} "
            f"a second), {self.ends} ends of the daemon, {self.ends_in_flight} with a write in "
            f"flight, ready again after {statistics.median(self.ready_seconds):.3f} s (median), "
            f"{max(self.ready_seconds):.3f} s (longest)"
        )


def figures_of(operations: Sequence[Operation], killer: Killer) -> Figures:
    """The figures of a run, out of what its clients did."""
    writes = sorted((one for one in operations if one.is_write), key=_invoked)
    acknowledged = [one for one in writes if one.is_acknowledged]
    last = max((one.returned or 0 for one in acknowledged), default=0)
    return Figures(
        acknowledged=len(acknowledged),
        seconds=(last - writes[0].invoked) / 1e9,
        ends=len(killer.ends),
        ends_in_flight=sum(_has_write_in_flight(end, writes) for end in killer.ends),
        ready_seconds=killer.ready_seconds,
    )


def _has_write_in_flight(end: End, writes: Sequence[Operation]) -> bool:
    """Whether a write that was begun while this very daemon answered had no answer at its end.

    A client begins a write when the one before it is answered: so it is connected.
    """
    if end.began is None:
        return False
    first = bisect.bisect_right(writes, end.began, key=_invoked)
    after = bisect.bisect_left(writes, end.at, key=_invoked)
    return any(one.returned is None or one.returned > end.at for one in writes[first:after])


_invoked = attrgetter("invoked")
