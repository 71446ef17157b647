"""A daemon that is killed at one named point of its way, and started again."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing

import pytest

from jobkeep_protocol.errors import InvalidRequest
from jobkeepd import failpoints
from tests.daemon_process import DaemonProcess
from tests.faults.account import LARGE, SMALL, Ledger
from tests.faults.injection import killed_at


@pytest.mark.parametrize(
    ("point", "is_applied"),
    [("before commit", False), ("after commit", True), ("before acknowledgement", True)],
)
def test_write_whose_reply_is_lost_to_a_kill_is_applied_once_when_it_is_sent_again(
    daemon_process: DaemonProcess, point: str, is_applied: bool
) -> None:
    daemon, ledger = daemon_process, Ledger()
    daemon.start(environment=killed_at(point, 5))
    ledger.write(daemon.socket, [SMALL] * 5)
    assert daemon.wait() == -signal.SIGKILL
    acknowledged, unanswered = len(ledger.acknowledged), len(ledger.unanswered)

    with closing(sqlite3.connect(daemon.database)) as connection:
        jobs, attempts = connection.execute(
            "SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM execution_history)"
        ).fetchone()
    daemon.start()
    ledger.send_again(daemon.socket)
    daemon.stop()

    assert (acknowledged, unanswered) == (4, 1)
    assert jobs + attempts == acknowledged + is_applied
    ledger.assert_is_kept_by(daemon.database)


def test_kills_among_large_and_pipelined_writes_lose_and_double_none(
    daemon_process: DaemonProcess,
) -> None:
    daemon, ledger = daemon_process, Ledger()
    for point, at in [("before commit", 3), ("after commit", 4), ("before acknowledgement", 6)]:
        daemon.start(environment=killed_at(point, at))
        while daemon.is_running:
            ledger.write(daemon.socket, [LARGE])
        assert daemon.wait() == -signal.SIGKILL
    daemon.start()
    ledger.send_again(daemon.socket)
    daemon.stop()
    ledger.assert_is_kept_by(daemon.database)


@pytest.mark.parametrize("point", ["before checkpoint", "after checkpoint"])
def test_kill_beside_a_checkpoint_loses_nothing(daemon_process: DaemonProcess, point: str) -> None:
    daemon, ledger = daemon_process, Ledger()
    daemon.start(environment=killed_at(point))
    while daemon.is_running:
        ledger.write(daemon.socket, [SMALL] * 5)
    assert daemon.wait() == -signal.SIGKILL
    daemon.start()
    ledger.send_again(daemon.socket)
    daemon.stop()
    ledger.assert_is_kept_by(daemon.database)


# -- setting them -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "after comit=kill",
        "after commit",
        "after commit=explode",
        "after commit=kill:0",
        "after commit=kill:x",
        "after commit=kill,,",
    ],
)
def test_failpoint_that_cannot_be_understood_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"expected POINT=ACTION or POINT=ACTION:N.*hang"):
        failpoints.arm(text)
    failpoints.reached("after commit")  # and nothing is set


def test_daemon_with_a_failpoint_it_does_not_know_does_not_start(
    daemon_process: DaemonProcess,
) -> None:
    daemon_process.spawn(environment={failpoints.VARIABLE: "after comit=kill"})
    assert daemon_process.wait() == 2
    assert "JOBKEEPD_FAILPOINTS has 'after comit=kill'" in daemon_process.log
    assert not daemon_process.database.exists()


def test_daemon_that_is_made_to_fail_says_so_at_its_start(daemon_process: DaemonProcess) -> None:
    daemon_process.start(
        environment={failpoints.VARIABLE: "after commit=kill:1000, before commit=hang:1000"}
    )
    warning = "this daemon is made to fail (after commit=kill:1000, before commit=hang:1000)"
    assert warning in daemon_process.log
