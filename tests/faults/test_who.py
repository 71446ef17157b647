"""Who gets in and what they may do, as real users of this machine."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from jobkeep import Client
from jobkeep_protocol.errors import JobkeepError, LimitExceeded, PermissionDenied
from jobkeep_protocol.messages import (
    ClaimNextSheet,
    Delete,
    GetExecutionHistory,
    GetNextSheet,
    Hello,
    Load,
    RecordExecution,
    Status,
)
from jobkeep_protocol.states import CheckpointState, SheetStatus
from jobkeepd.access import command_of, overflow_uid
from tests.daemon_process import DaemonProcess
from tests.support import wait_until
from tests.users import effective_user, needs_root
from tests.wire import Wire

pytestmark = needs_root

ALICE, BOB, CAROL = 7_001, 7_002, 7_003
OPS, AUDIT = 8_001, 8_002
JOB = CheckpointState(job_id="job", total_sheets=64)
OPEN_TO_ALL = ("--socket-mode", "0666")


@pytest.fixture
def daemon_process() -> Iterator[DaemonProcess]:
    """A daemon that is not started yet, in a directory that every user may enter."""
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        directory.chmod(0o755)
        process = DaemonProcess(directory)
        yield process
        process.clean_up()


def connect_as(daemon: DaemonProcess, uid: int, groups: tuple[int, ...] = ()) -> Wire:
    """A connection of this user."""
    with effective_user(uid, groups=groups):
        return Wire(daemon.socket)


def refusal(daemon: DaemonProcess, uid: int) -> JobkeepError:
    """The reason with which a connection of this user is ended."""
    with effective_user(uid), Wire(daemon.socket, hello=False) as wire:
        with pytest.raises(JobkeepError) as refused:
            wire.reply_to(Hello)
        assert wire.is_closed()
    return refused.value


# -- who gets in --------------------------------------------------------------------------------


def test_socket_is_for_its_user_and_root_by_default(daemon_process: DaemonProcess) -> None:
    daemon_process.start()
    with Wire(daemon_process.socket) as root:
        assert root.ask(GetNextSheet("job")) == 1
    with effective_user(ALICE):
        with pytest.raises(PermissionError):
            Wire(daemon_process.socket)
        with (
            pytest.raises(PermissionDenied, match=f"uid {ALICE} may not connect"),
            Client(daemon_process.socket),
        ):
            pass


def test_group_of_the_socket_gets_in_and_nobody_else(daemon_process: DaemonProcess) -> None:
    daemon_process.start("--socket-mode", "0660", "--socket-group", str(OPS))
    with connect_as(daemon_process, ALICE, (OPS,)) as wire:
        assert wire.ask(GetNextSheet("job")) == 1
    with pytest.raises(PermissionError):
        connect_as(daemon_process, BOB, (AUDIT,))


def test_who_has_no_role_connects_in_vain(daemon_process: DaemonProcess) -> None:
    daemon_process.start(*OPEN_TO_ALL, "--others", "none", "--writers", f"uid:{ALICE}")
    with connect_as(daemon_process, ALICE) as alice:
        assert alice.ask(GetNextSheet("job")) == 1

    error = refusal(daemon_process, BOB)

    assert isinstance(error, PermissionDenied)
    assert error.data == {"role": "read", "uid": BOB}
    assert f"connection of uid {BOB}, pid {os.getpid()} (" in daemon_process.log


def test_user_that_stands_for_many_is_refused(daemon_process: DaemonProcess) -> None:
    daemon_process.start(*OPEN_TO_ALL)
    error = refusal(daemon_process, overflow_uid())
    assert isinstance(error, PermissionDenied)
    assert "every user that this user namespace does not know" in str(error)


def test_process_that_the_daemon_cannot_see_is_refused(daemon_process: DaemonProcess) -> None:
    daemon_process.wrapper = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    daemon_process.start(*OPEN_TO_ALL)
    error = refusal(daemon_process, 0)
    assert "outside the pid namespace of the daemon" in str(error)


# -- what they may do ---------------------------------------------------------------------------


def test_roles_are_given_by_user_and_by_group_and_a_denial_is_logged(
    daemon_process: DaemonProcess,
) -> None:
    daemon_process.start(
        *OPEN_TO_ALL,
        *("--admins", f"uid:{ALICE},gid:{OPS}", "--readers", f"gid:{AUDIT}"),
    )
    with ExitStack() as stack:
        alice, bob, carol, ops = (
            stack.enter_context(wire)
            for wire in (
                connect_as(daemon_process, ALICE),
                connect_as(daemon_process, BOB),
                connect_as(daemon_process, CAROL, (AUDIT,)),
                connect_as(daemon_process, CAROL, (AUDIT, OPS)),
            )
        )
        bob.save(JOB)
        assert carol.load()[0].job_id == "job"

        with pytest.raises(PermissionDenied, match="record_execution needs the role write"):
            carol.ask(RecordExecution("job", 1, 1))
        with pytest.raises(PermissionDenied, match="delete needs the role admin") as denied:
            bob.ask(Delete("job"))

        assert denied.value.data == {"operation": "delete", "role": "admin", "uid": BOB}
        assert alice.ask(Delete("job")) is True
        assert ops.ask(Delete("job")) is False
    name = command_of(os.getpid())
    for uid, operation in ((CAROL, "record_execution"), (BOB, "delete")):
        assert f"uid {uid}, pid {os.getpid()} ({name}) was denied: {operation} needs" in (
            daemon_process.log
        )


def test_connection_that_is_handed_on_keeps_the_role_of_who_made_it(
    daemon_process: DaemonProcess,
) -> None:
    daemon_process.start(*OPEN_TO_ALL)
    with Wire(daemon_process.socket) as of_root, connect_as(daemon_process, ALICE) as of_alice:
        with effective_user(ALICE):
            of_root.save(JOB)
            assert of_root.ask(Delete("job")) is True
        with pytest.raises(PermissionDenied):
            of_alice.ask(Delete("job"))


def test_claim_of_another_users_process_is_given_back_when_it_dies(
    daemon_process: DaemonProcess,
) -> None:
    daemon_process.start(*OPEN_TO_ALL)
    with Wire(daemon_process.socket) as wire:
        wire.save(JOB)
        child = os.fork()
        if child == 0:
            try:
                os.setresuid(ALICE, ALICE, ALICE)
                Wire(daemon_process.socket).ask(ClaimNextSheet("job"))
                signal.pause()
            finally:
                os._exit(1)
        try:
            wait_until(lambda: wire.load()[1].get(1) is not None)
            assert wire.load()[1][1].status is SheetStatus.IN_PROGRESS
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        wait_until(lambda: wire.load()[1][1].status is SheetStatus.PENDING)


# -- one user cannot starve another -------------------------------------------------------------


def test_thousand_connections_of_one_user_leave_the_others_served(
    daemon_process: DaemonProcess,
) -> None:
    daemon_process.start(*OPEN_TO_ALL)
    with Wire(daemon_process.socket) as root, ExitStack() as stack:
        root.save(JOB)
        with effective_user(ALICE):
            for _ in range(1_000):
                stack.enter_context(Wire(daemon_process.socket, hello=False))

        with connect_as(daemon_process, BOB) as bob:
            assert bob.ask(RecordExecution("job", 1, 1)) == 1
            assert bob.load()[0].job_id == "job"
            # Of those without hello one has made room for Bob; beside them are root and Bob.
            assert bob.ask(Status()).clients == 63 + 2


def test_connections_of_one_user_that_have_said_hello_are_limited(
    daemon_process: DaemonProcess,
) -> None:
    daemon_process.start(*OPEN_TO_ALL, "--max-connections-per-uid", "20")
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connect_as(daemon_process, ALICE))
        assert isinstance(refusal(daemon_process, ALICE), LimitExceeded)
        with connect_as(daemon_process, BOB) as bob:
            assert bob.ask(Status()).clients == 21


def test_places_are_kept_for_root_and_the_owner(daemon_process: DaemonProcess) -> None:
    daemon_process.start(*OPEN_TO_ALL, "--max-connections", "10", "--reserved-connections", "2")
    with ExitStack() as stack:
        first = stack.enter_context(connect_as(daemon_process, ALICE))
        wait_until(lambda: first.ask(Status()).clients == 1)
        for _ in range(7):
            stack.enter_context(connect_as(daemon_process, ALICE))
        assert refusal(daemon_process, BOB).data["limit"] == "max_connections"
        for _ in range(2):
            stack.enter_context(Wire(daemon_process.socket))
        assert refusal(daemon_process, 0).data["limit"] == "max_connections"


def test_fifty_readers_that_stopped_slow_nobody(daemon_process: DaemonProcess) -> None:
    daemon_process.start(*OPEN_TO_ALL)
    page = GetExecutionHistory("job", sheet_num=1, limit=4)
    with Wire(daemon_process.socket) as root, ExitStack() as stack:
        root.save(JOB)
        for number in range(4):
            root.ask(RecordExecution("job", 1, number, output="x" * 60_000))
        for _ in range(50):
            stopped = stack.enter_context(connect_as(daemon_process, ALICE))
            for _ in range(64):
                stopped.send(page)

        with connect_as(daemon_process, BOB) as bob:
            for _ in range(20):
                assert len(bob.ask(page).records) == 4
                assert bob.ask(RecordExecution("job", 2, 1)) is not None
        # What they do not take is bounded: some of Alice's had to go, and nobody else.
        wait_until(lambda: "not taken, and all together may hold" in daemon_process.log)
        assert f"connection of uid {BOB}" not in daemon_process.log
        assert root.ask(Load("job")) is not None


def test_partner_who_sends_a_byte_at_a_time_holds_up_nobody(daemon_process: DaemonProcess) -> None:
    daemon_process.start(*OPEN_TO_ALL)
    with ExitStack() as stack:
        slow = [stack.enter_context(connect_as(daemon_process, ALICE)) for _ in range(100)]
        for wire in slow:
            wire.send_bytes(b"\x01")  # of a frame of 16 MB
        with connect_as(daemon_process, BOB) as bob:
            assert bob.ask(GetNextSheet("job")) == 1


def test_socket_that_was_deleted_is_no_way_in_and_those_inside_go_on(
    daemon_process: DaemonProcess,
) -> None:
    daemon_process.start()
    with Wire(daemon_process.socket) as wire:
        daemon_process.socket.unlink()
        assert wire.ask(GetNextSheet("job")) == 1
        with socket.socket(socket.AF_UNIX) as late:
            assert late.connect_ex(str(daemon_process.socket)) != 0
        daemon_process.stop()
