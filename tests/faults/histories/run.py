"""Histories of a real daemon that is killed, and what no order explains in them.

What lives here: making the histories of one run, checking each job's, and whether there was enough
of them. What may not: the search itself, and what operations mean.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from msgspec import Struct

from tests.daemon_process import DaemonProcess
from tests.faults.crew import Crew
from tests.faults.histories.linearizability import Violation, find_violation
from tests.faults.histories.model import Job, step
from tests.faults.kills import Figures, Killer, figures_of
from tests.faults.operations import Operation, read_log

CLIENTS = 3
HASTY_SECONDS = 0.05
"""The timeout of clients that do not wait for a daemon to come back, so that nobody knows what
became of their operations. It is meant to be too short, on a slow machine too."""

GENERATION_BYTES = 40_000
"""What the clients log before they go on to other jobs: a few dozen operations a job."""

LEAST_OPERATIONS = 150
"""For each end of the daemon, in a run that means anything."""

LEAST_OVERLAPPING = 0.25
"""The share of operations that are not alone with their job, in a run that means anything."""


Histories: TypeAlias = dict[str, list[Operation]]
"""What was done with each job, in the order in which it began."""


class Run(Struct):
    """The history of each job, and the figures of the run they are from."""

    histories: Histories
    figures: Figures

    @property
    def operations(self) -> int:
        """How many there are to put in order."""
        return sum(len(history) for history in self.histories.values())

    @property
    def unknown(self) -> int:
        """Writes of which nobody knows whether they took effect."""
        return sum(one.returned is None for one in self._all())

    @property
    def overlapping(self) -> float:
        """The share of operations that began while another of their job was under way."""
        return sum(map(_overlapping, self.histories.values())) / self.operations

    def __str__(self) -> str:
        return (
            f"{self.operations:,} operations on {len(self.histories)} jobs, {self.overlapping:.0%} "
            f"not alone, {self.unknown} without a known end; {self.figures}"
        )

    def assert_enough(self, ends: int) -> None:
        """Fail when this was too little for what it has not found to mean anything."""
        self.assert_enough_operations(ends)
        self.figures.assert_enough_ends(ends)

    def assert_enough_operations(self, ends: int) -> None:
        """The same, for what needs no end of the daemon to be found."""
        least = LEAST_OPERATIONS * (ends + 1)
        assert self.operations >= least, f"void: {self.operations} operations, not {least}"
        assert self.overlapping >= LEAST_OVERLAPPING, (
            f"void: {self.overlapping:.0%} of the operations met another, not "
            f"{LEAST_OVERLAPPING:.0%}"
        )

    def _all(self) -> Iterator[Operation]:
        for history in self.histories.values():
            yield from history


def make_histories(
    daemon: DaemonProcess,
    seed: int,
    ends: int,
    hasty_clients: int = 0,
    prepare: Callable[[], object] = lambda: None,
) -> Run:
    """Let clients work on a few jobs at a time while the daemon is killed so many times.

    `hasty_clients` of them do not wait for it to come back; `prepare` brings it to where it is to
    be killed.
    """
    killer = Killer(daemon, seed, prepare=prepare)
    crew = Crew("tests.faults.histories.client", daemon.socket, f"client-{seed}")
    try:
        killer.start()
        crew.hire(CLIENTS - hasty_clients)
        crew.hire(hasty_clients, HASTY_SECONDS)
        for _ in range(ends):
            crew.wait_until_logged(killer.a_share_of(GENERATION_BYTES))
            killer.end()
            crew.wait_until_logged(killer.a_share_of(GENERATION_BYTES))
            crew.order("next")
        crew.wait_until_logged(GENERATION_BYTES)
        crew.order("rest")
        crew.members[0].order("read")
        crew.members[0].wait_for("read")
        crew.leave()
    finally:
        crew.clean_up()
    operations = [one for member in crew.members for one in read_log(member.log)]
    return Run(by_job(operations), figures_of(operations, killer))


def violations(histories: Histories) -> list[str]:
    """What no order explains, in words: the first such operation of each job."""
    found = []
    for job_id, history in sorted(histories.items()):
        violation = find_violation(history, Job(), step)
        if violation is not None:
            found.append(_in_words(job_id, history, violation))
    return found


def by_job(operations: Sequence[Operation]) -> Histories:
    """What each job's clients saw; a read without an answer saw nothing."""
    histories = defaultdict(list)
    for one in sorted(operations, key=lambda one: one.invoked):
        if one.is_write or one.returned is not None:
            histories[one.job_id].append(one)
    return dict(histories)


def _overlapping(history: Sequence[Operation]) -> int:
    """How many began while one before them was under way."""
    found, latest_end = 0, 0
    for one in history:
        found += one.invoked < latest_end
        latest_end = max(latest_end, one.returned or 0)
    return found


def _in_words(
    job_id: str, history: Sequence[Operation], violation: Violation[Job, Operation]
) -> str:
    """A violation, with all that had begun by then."""
    failed = violation.operation
    assert failed.returned is not None, "only what has ended can be a violation"
    lines = [f"job {job_id}: no order explains what {failed.by} was told"]
    for one in history:
        if one.invoked <= failed.returned:
            mark = ">" if one is failed else " "
            lines.append(f"{mark} {_line(one, history[0].invoked)}")
    lines += [f"  the job may have been {state}" for state in violation.states]
    return "\n".join(lines)


def _line(one: Operation, beginning: int) -> str:
    """An operation on one line; times are milliseconds since the first of its job."""
    end = "?" if one.returned is None else f"{(one.returned - beginning) / 1e6:.3f}"
    arguments = ", ".join(map(str, one.arguments))
    result = "" if one.returned is None else f" -> {one.result}"
    return (
        f"{(one.invoked - beginning) / 1e6:.3f} to {end}  {one.by}  {one.name}({arguments}){result}"
    )
