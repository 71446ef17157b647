"""A disk that fails, at every place where the daemon relies on it.

Each trial makes one system call on the daemon's files fail, the N-th of its kind, while a client
writes; then the daemon is started again on a disk that works.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.daemon_process import DaemonProcess
from tests.faults.account import SMALL, Ledger
from tests.faults.injection import Tracing, needs_strace
from tests.support import scaled, wait_until

pytestmark = needs_strace

CALLS = ("fdatasync", "pwrite64", "ftruncate", "pread64", "openat", "newfstatat")
MAY_FAIL_UNNOTICED = {"openat", "newfstatat"}
"""SQLite goes on without some of these: when it asks where it is, and for the directory."""

SIZES = [SMALL] * 5 + [300_000] + [SMALL] * 3
SPILLING = [SMALL, 2_500_000, SMALL]
"""The second write is larger than SQLite's cache and goes into the log before the commit."""


class Trial:
    """One life of a daemon with a fault in it, from an empty directory to its end."""

    def __init__(self, directory: Path, call: str, injection: str, sizes: list[int]) -> None:
        directory.mkdir()
        self.daemon = DaemonProcess(directory)
        self.ledger = Ledger()
        self.call = call
        self._tracing = Tracing(self.daemon, call, injection)
        try:
            self._live(sizes)
        finally:
            self.daemon.clean_up()

    def _live(self, sizes: list[int]) -> None:
        self._serve(sizes)
        while self.status == -signal.SIGALRM:  # strace -D takes 3 seconds for too long to attach
            self._serve(sizes)
        self.failed_calls = self._tracing.injected()

    def _serve(self, sizes: list[int]) -> None:
        self.daemon.spawn()
        wait_until(lambda: self.daemon.is_accepting or not self.daemon.is_running)
        self.has_started = self.daemon.is_running
        if self.has_started:
            self.ledger.write(self.daemon.socket, sizes)
        if self.daemon.is_running:
            os.kill(self.daemon.pid, signal.SIGTERM)
        self.status = self.daemon.wait()

    @property
    def counts(self) -> Counter[str]:
        """How often each call was made."""
        return self._tracing.counts()

    def assert_it_ended_with_one_clear_line(self) -> None:
        """The status says that it failed, and so does the log, without a traceback."""
        lines = [line for line in self.daemon.log.splitlines() if " INFO " not in line]
        if self._may_have_gone_unnoticed and self.status == 0:
            assert lines == []
            return
        assert self.status == (74 if self.has_started else 1), self.daemon.log
        assert len(lines) == 1, self.daemon.log
        assert str(self.daemon.database.parent) in lines[0]

    def assert_the_next_start_has_every_acknowledged_write(self) -> None:
        """What was not answered is sent again, and all is there once."""
        self._tracing.stop()
        try:
            self.daemon.start()
            self.ledger.send_again(self.daemon.socket)
            self.daemon.stop()
        finally:
            self.daemon.clean_up()
        self.ledger.assert_is_kept_by(self.daemon.database)

    @property
    def _may_have_gone_unnoticed(self) -> bool:
        directory = f"<{self.daemon.database.parent}>"  # SQLite ignores that it cannot be synced
        return self.call in MAY_FAIL_UNNOTICED or all(
            directory in line for line in self.failed_calls
        )


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """How often each call is made when none fails."""
    trial = Trial(tmp_path_factory.mktemp("counted") / "trial", ",".join(CALLS), "", SIZES)
    assert trial.status == 0, trial.daemon.log
    return trial.counts


def hold_to_its_promise(directory: Path, call: str, place: int, sizes: list[int]) -> int:
    """One trial with EIO; gives the number of calls that failed."""
    trial = Trial(directory, call, f"error=EIO:when={place}", sizes)
    trial.assert_it_ended_with_one_clear_line()
    trial.assert_the_next_start_has_every_acknowledged_write()
    return len(trial.failed_calls)


@pytest.mark.parametrize(
    ("call", "part"),
    [
        ("fdatasync", 0.6),
        ("fdatasync", 0.9),
        ("pwrite64", 0.5),
        ("pwrite64", 0.8),
        ("openat", 0.6),
    ],
)
def test_failing_disk_ends_the_daemon_and_no_acknowledged_write_is_lost(
    tmp_path: Path, counts: Counter[str], call: str, part: float
) -> None:
    last = counts[call] - 1  # of that life; writes that meet in one commit make another one shorter
    failed = (
        hold_to_its_promise(tmp_path / f"{share}", call, 1 + round(share * part * last), SIZES)
        for share in (1, 0.9, 0.75, 0.5)
    )
    assert any(failed)


@pytest.mark.soak
@pytest.mark.timeout(scaled(1_800))
@pytest.mark.parametrize("call", CALLS)
def test_failing_disk_at_every_call_loses_no_acknowledged_write(
    tmp_path: Path, counts: Counter[str], call: str
) -> None:
    places = range(1, counts[call] + 1)
    failed = [hold_to_its_promise(tmp_path / str(n), call, n, SIZES) for n in places]
    assert sum(count > 0 for count in failed) > 0.9 * len(places)


@pytest.mark.soak
@pytest.mark.timeout(scaled(1_800))
def test_failing_disk_in_a_transaction_larger_than_the_cache_loses_no_acknowledged_write(
    tmp_path: Path,
) -> None:
    counted = Trial(tmp_path / "counted", "pwrite64", "", SPILLING)
    places = range(1, counted.counts["pwrite64"], 37)
    failed = [hold_to_its_promise(tmp_path / str(n), "pwrite64", n, SPILLING) for n in places]
    assert sum(count > 0 for count in failed) > 0.9 * len(places)


# -- at the start -------------------------------------------------------------------------------


class Left:
    """What a daemon left that was killed: its files, all writes in the log, and its ledger."""

    def __init__(self, directory: Path) -> None:
        daemon = DaemonProcess(directory)
        self.ledger = Ledger()
        try:
            daemon.start()
            self.ledger.write(daemon.socket, SIZES)
        finally:
            daemon.clean_up()
        self._files = {path.name: path.read_bytes() for path in directory.glob("state.db*")}

    def inherit(self, directory: Path) -> DaemonProcess:
        """A daemon that is not started yet on a copy of the files."""
        directory.mkdir()
        for name, content in self._files.items():
            (directory / name).write_bytes(content)
        return DaemonProcess(directory)


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Left:
    """The same for all tests."""
    return Left(tmp_path_factory.mktemp("left"))


def start_on_a_failing_disk(left: Left, directory: Path, call: str, place: int) -> int:
    """One start with EIO in a call; gives the number of calls that failed."""
    daemon = left.inherit(directory)
    tracing = Tracing(daemon, call, f"error=EIO:when={place}")
    try:
        daemon.spawn()
        wait_until(lambda: daemon.is_accepting or not daemon.is_running)
        daemon.clean_up()
        failed = len(tracing.injected())
        assert "Traceback" not in daemon.log
        tracing.stop()
        daemon.start()
        daemon.stop()
    finally:
        daemon.clean_up()
    left.ledger.assert_is_kept_by(daemon.database)
    return failed


@pytest.mark.parametrize(("call", "place"), [("fdatasync", 1), ("pwrite64", 2), ("pread64", 12)])
def test_failing_disk_at_the_start_loses_nothing_of_what_a_kill_left(
    tmp_path: Path, left: Left, call: str, place: int
) -> None:
    assert start_on_a_failing_disk(left, tmp_path / "trial", call, place) > 0


@pytest.mark.soak
@pytest.mark.timeout(scaled(1_800))
@pytest.mark.parametrize("call", [*CALLS, "fsync"])
def test_failing_disk_at_any_call_of_a_start_loses_nothing_of_what_a_kill_left(
    tmp_path: Path, left: Left, call: str
) -> None:
    for place in itertools.count(1):
        if not start_on_a_failing_disk(left, tmp_path / str(place), call, place):
            break
    assert place > 1


# -- a disk that is full for one moment ---------------------------------------------------------


def be_full_once(directory: Path, place: int) -> Trial:
    """One trial with ENOSPC, which refuses a write, or the start, and nothing else."""
    trial = Trial(directory, "pwrite64", f"error=ENOSPC:when={place}", SIZES)
    assert "Traceback" not in trial.daemon.log
    assert trial.status == (0 if trial.has_started else 1), trial.daemon.log
    assert not trial.ledger.unanswered
    reasons = {str(error.data.get("reason")) for error in trial.ledger.refused.values()}
    assert reasons <= {"disk_full"}
    trial.assert_the_next_start_has_every_acknowledged_write()
    return trial


@pytest.mark.parametrize("part", [0.2, 0.7])
def test_disk_that_is_full_for_a_moment_refuses_at_most_one_write(
    tmp_path: Path, counts: Counter[str], part: float
) -> None:
    trial = be_full_once(tmp_path / "trial", round(part * counts["pwrite64"]))
    assert trial.failed_calls
    assert len(trial.ledger.refused) <= 1


@pytest.mark.soak
@pytest.mark.timeout(scaled(1_800))
def test_disk_that_is_full_at_any_call_refuses_cleanly(
    tmp_path: Path, counts: Counter[str]
) -> None:
    trials = [be_full_once(tmp_path / str(n), n) for n in range(1, counts["pwrite64"], 3)]
    assert any(trial.ledger.refused for trial in trials)


# -- a kill at a system call --------------------------------------------------------------------


def be_killed(directory: Path, call: str, place: int) -> int:
    """One trial with kill -9 at a call, which is not made; gives the number of calls."""
    trial = Trial(directory, call, f"signal=KILL:when={place}", SIZES)
    trial.assert_the_next_start_has_every_acknowledged_write()
    return trial.status


@pytest.mark.parametrize("place", [2, 9])  # the first is made at the start
def test_kill_half_way_through_a_checkpoint_loses_no_acknowledged_write(
    daemon: DaemonProcess, place: int
) -> None:
    daemon.stop()
    tracing = Tracing(daemon, "pwrite64", f"signal=KILL:when={place}", [daemon.database])
    ledger = Ledger()
    daemon.start()
    ledger.write(daemon.socket, SIZES)
    os.kill(daemon.pid, signal.SIGTERM)
    assert daemon.wait() == -signal.SIGKILL
    tracing.stop()
    daemon.start()
    ledger.send_again(daemon.socket)
    daemon.stop()
    ledger.assert_is_kept_by(daemon.database)


@pytest.mark.soak
@pytest.mark.timeout(scaled(1_800))
@pytest.mark.parametrize(("call", "step"), [("fdatasync", 1), ("pwrite64", 3), ("openat", 1)])
def test_kill_at_any_call_loses_no_acknowledged_write(
    tmp_path: Path, counts: Counter[str], call: str, step: int
) -> None:
    places = range(1, counts[call] + 1, step)
    ends = [be_killed(tmp_path / str(n), call, n) for n in places]
    assert sum(end == -signal.SIGKILL for end in ends) > 0.9 * len(places)
