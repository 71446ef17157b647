"""A disk that is slow, a disk that hangs, a daemon that is stopped: who waits, and who does not."""

from __future__ import annotations

import os
import select
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from jobkeep import Client, RequestTimeout
from jobkeep_protocol.codec import decode_reply
from jobkeep_protocol.errors import LimitExceeded
from jobkeep_protocol.messages import (
    SLOTS,
    GetExecutionHistory,
    GetExecutionHistoryCount,
    GetNextSheet,
    RecordExecution,
)
from jobkeep_protocol.states import CheckpointState
from jobkeepd import failpoints
from jobkeepd.limits import DEFAULT_LIMITS
from jobkeepd.store.connection import wal_path
from tests.daemon_process import DaemonProcess
from tests.faults.account import LARGE, SMALL, Ledger
from tests.faults.injection import Tracing, needs_strace
from tests.support import PATIENCE, scaled, wait_until
from tests.wire import Wire

JOB = CheckpointState(job_id="job", total_sheets=3)
RECORD = RecordExecution("job", 1, 1, output="x" * SMALL)
SHORT = 0.15
"""A timeout in seconds that is to pass."""


def is_answered(wire: Wire) -> bool:
    """Whether anything has come in on a connection."""
    return bool(wire._received or select.select([wire._socket], [], [], 0)[0])


def attempts(socket: Path) -> list[int]:
    """The numbers of the attempts that are kept, in order."""
    with Wire(socket) as wire:
        page = wire.ask(GetExecutionHistory("job", limit=100_000))
    return sorted(record["attempt_num"] for record in page.records)


# -- a slow disk --------------------------------------------------------------------------------


def slow_down(daemon: DaemonProcess, seconds: float) -> None:
    """Start it again on a disk whose syncs take so long."""
    daemon.stop()
    delay = f"delay_exit={round(seconds * 1_000_000)}"
    Tracing(daemon, "fdatasync", delay, [wal_path(daemon.database)])
    daemon.start()


@needs_strace
def test_reads_go_on_while_a_write_waits_for_a_slow_disk(daemon: DaemonProcess) -> None:
    slow_down(daemon, scaled(SHORT))
    with Wire(daemon.socket) as writer, Wire(daemon.socket) as reader:
        writer.save(JOB)  # shows the daemon how slow the disk is
        writer.send(RECORD)
        assert reader.ask(GetNextSheet("job")) == 1
        assert not is_answered(writer)

        assert writer.reply_to(RecordExecution) == 1
        assert reader.ask(GetExecutionHistoryCount("job")) == 1


@needs_strace
def test_client_that_waits_too_short_for_a_slow_disk_is_told_that_the_write_may_be_applied(
    daemon: DaemonProcess,
) -> None:
    slow_down(daemon, scaled(2 * SHORT))
    with Wire(daemon.socket) as wire, Client(daemon.socket, timeout=scaled(SHORT)) as hasty:
        wire.save(JOB)
        with pytest.raises(RequestTimeout, match="it may or may not have been applied"):
            hasty.record_execution("job", 1, 1)
        wait_until(lambda: wire.ask(GetExecutionHistoryCount("job")) == 1)


# -- a disk that hangs --------------------------------------------------------------------------


@pytest.fixture
def hanging(daemon_process: DaemonProcess) -> DaemonProcess:
    """A daemon with one job, whose disk hangs from the second commit on."""
    daemon_process.start(environment={failpoints.VARIABLE: "before commit=hang:2"})
    with Wire(daemon_process.socket) as wire:
        wire.save(JOB)
    return daemon_process


def test_reads_go_on_while_the_writer_hangs_and_a_second_signal_ends_the_daemon(
    hanging: DaemonProcess,
) -> None:
    ledger = Ledger()
    writer = threading.Thread(target=ledger.write, args=(hanging.socket, [LARGE]))
    with Wire(hanging.socket) as wire:
        writer.start()
        wait_until(lambda: ledger.unanswered)
        assert [wire.ask(GetNextSheet("job")) for _ in range(100)] == [1] * 100

        os.kill(hanging.pid, signal.SIGTERM)
        wait_until(lambda: not hanging.socket.exists())
        assert hanging.is_running

        os.kill(hanging.pid, signal.SIGTERM)
        assert hanging.wait() == -signal.SIGTERM
    writer.join()

    hanging.start()
    ledger.send_again(hanging.socket)
    hanging.stop()
    ledger.assert_is_kept_by(hanging.database)


def test_second_interrupt_from_the_keyboard_ends_the_daemon_too(hanging: DaemonProcess) -> None:
    with Wire(hanging.socket) as wire:
        wire.send(RecordExecution("job", 1, 1, output="x" * LARGE))
        os.kill(hanging.pid, signal.SIGINT)
        wait_until(lambda: not hanging.socket.exists())
        os.kill(hanging.pid, signal.SIGINT)
        assert hanging.wait() == -signal.SIGINT
    assert "Traceback" not in hanging.log


def test_no_more_than_so_many_writes_wait_for_the_disk(hanging: DaemonProcess) -> None:
    most = DEFAULT_LIMITS.max_queued_writes
    connections = most // SLOTS + 2
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(hanging.socket)) for _ in range(connections)]
        wires[0].send(RecordExecution("job", 1, 1, output="x" * LARGE))
        wait_until(lambda: wires[1].ask(GetExecutionHistoryCount("job")) == 0)
        for wire in wires[1:]:
            for _ in range(SLOTS):
                wire.send(RECORD)

        answers: list[msgspec.Raw] = []
        too_many = SLOTS * (connections - 1) - most
        while len(answers) < too_many:
            wait_until(lambda: any(map(is_answered, wires)))
            answers += [wire.receive()[1] for wire in wires if is_answered(wire)]

        for answer in answers:
            with pytest.raises(LimitExceeded, match=f"busy: {most} writes") as refused:
                decode_reply(RecordExecution, answer)
            assert refused.value.data == {"limit": "max_queued_writes", "maximum": most}
        assert not any(map(is_answered, wires))


# -- a daemon that is stopped -------------------------------------------------------------------


def is_stopped(pid: int) -> bool:
    """Whether SIGSTOP has reached a process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_daemon_that_is_stopped_for_a_while_loses_and_doubles_nothing(
    daemon: DaemonProcess,
) -> None:
    with (
        Client(daemon.socket, timeout=scaled(SHORT)) as hasty,
        Client(daemon.socket, timeout=scaled(PATIENCE)) as patient,
    ):
        patient.save(JOB)
        assert hasty.get_next_sheet("job") == 1
        os.kill(daemon.pid, signal.SIGSTOP)
        wait_until(lambda: is_stopped(daemon.pid))
        waiting = threading.Thread(target=patient.record_execution, args=("job", 1, 1))
        waiting.start()

        with pytest.raises(RequestTimeout, match="it may or may not have been applied"):
            hasty.record_execution("job", 1, 2)
        with pytest.raises(RequestTimeout):
            hasty.load("job")

        os.kill(daemon.pid, signal.SIGCONT)
        waiting.join()
        patient.record_execution("job", 1, 3)
        wait_until(lambda: attempts(daemon.socket)[:2] == [1, 2])
        assert attempts(daemon.socket) == [1, 2, 3]
