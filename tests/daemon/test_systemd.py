"""Under a service manager: the socket it hands over, and what it is told."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobkeep_protocol.messages import Load, Status
from jobkeep_protocol.states import CheckpointState
from jobkeepd import daemon as daemon_module
from jobkeepd import systemd
from jobkeepd.daemon import Daemon
from jobkeepd.settings import Settings
from jobkeepd.store import writer
from jobkeepd.store.store import Store
from jobkeepd.systemd import ServiceManager, take_socket
from tests.daemon.service_manager import Listener, handing_over
from tests.daemon_process import DaemonProcess, accepts
from tests.support import PATIENCE, scaled, wait_until, wait_until_async
from tests.wire import Wire


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    """A service manager that listens."""
    one = Listener(tmp_path)
    yield one
    one.close()


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket as a socket unit makes it."""
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "handed.sock"))
        one.listen()
        yield one


def hand_over(process: DaemonProcess, *sockets: tuple[str, socket.socket]) -> None:
    """Give the daemon these when it starts."""
    process.wrapper, process.inherited = handing_over(*sockets)


# -- the socket -----------------------------------------------------------------------------------


def test_handed_socket_is_served_and_no_other_is_made(
    daemon_process: DaemonProcess, listening: socket.socket
) -> None:
    hand_over(daemon_process, ("jobkeep", listening))

    daemon_process.spawn()

    with Wire(Path(listening.getsockname())) as wire:
        assert wire.ask(Status()).socket == listening.getsockname()
    assert not daemon_process.socket.exists()


def test_handed_socket_outlives_the_daemon_and_requests_wait_in_it(
    daemon_process: DaemonProcess, listening: socket.socket
) -> None:
    hand_over(daemon_process, ("jobkeep", listening))
    daemon_process.spawn()
    with Wire(Path(listening.getsockname())) as wire:
        wire.save(CheckpointState(job_id="kept", total_sheets=1))
        daemon_process.stop()

    with Wire(Path(listening.getsockname()), hello=False) as waiting:
        daemon_process.spawn()
        waiting.say_hello()
        assert waiting.ask(Load("kept")) is not None


def test_handed_socket_is_known_by_its_name_among_others(
    daemon_process: DaemonProcess, listening: socket.socket, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "other.sock"))
        other.listen()
        hand_over(daemon_process, ("other", other), ("jobkeep", listening))

        daemon_process.spawn()

        with Wire(Path(listening.getsockname())) as wire:
            assert wire.ask(Status()).socket == listening.getsockname()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["jobkeep.socket"], "(1) with the names 'jobkeep.socket'; expected one socket unit with"),
        (["a", "b"], "(2) with the names 'a:b'; expected"),
        (["jobkeep", "jobkeep#2"], "(2) with the names 'jobkeep:jobkeep'; expected"),
    ],
)
def test_wrong_name_keeps_the_daemon_from_starting(
    daemon_process: DaemonProcess, listening: socket.socket, names: list[str], words: str
) -> None:
    hand_over(daemon_process, *((name, listening) for name in names))

    daemon_process.spawn()

    assert daemon_process.wait() == 1
    assert words in daemon_process.log
    assert "FileDescriptorName=jobkeep" in daemon_process.log


def a_socket(*kind: int, path: Path | str | None = None, listens: bool = False) -> socket.socket:
    one = socket.socket(*kind)
    if path is not None:
        one.bind(str(path))
    if listens:
        one.listen()
    return one


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: a_socket(socket.AF_UNIX, path=path), "it does not listen"),
        (
            lambda _: a_socket(socket.AF_UNIX, path=f"\0jobkeep-test-{os.getpid()}", listens=True),
            "has no path",
        ),
        (lambda _: a_socket(socket.AF_INET, listens=True), "AF_INET"),
        (
            lambda path: a_socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, path=path, listens=True),
            "SOCK_SEQPACKET",
        ),
    ],
)
def test_socket_of_another_kind_keeps_the_daemon_from_starting(
    daemon_process: DaemonProcess, tmp_path: Path, make: Any, words: str
) -> None:
    with make(tmp_path / "x.sock") as wrong:
        hand_over(daemon_process, ("jobkeep", wrong))

        daemon_process.spawn()

        assert daemon_process.wait() == 1
    assert words in daemon_process.log
    assert "needs ListenStream= with a path" in daemon_process.log


def test_descriptor_that_is_no_socket_keeps_the_daemon_from_starting(
    daemon_process: DaemonProcess, tmp_path: Path
) -> None:
    with (tmp_path / "file").open("w") as file:
        daemon_process.wrapper = [*handing_over()[0][:-1], f"jobkeep={file.fileno()}", "--"]
        daemon_process.inherited = (file.fileno(),)

        daemon_process.spawn()

        assert daemon_process.wait() == 1
    assert "it is no socket" in daemon_process.log


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "jobkeep"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"},
    ],
)
def test_what_is_for_nobody_or_another_process_is_not_taken(variables: dict[str, str]) -> None:
    environment = {**variables, "OTHER": "x"}

    assert take_socket(environment) is None
    assert environment == {"OTHER": "x"}


# -- what is told -----------------------------------------------------------------------------


def test_ready_is_said_when_requests_are_answered_and_stopping_at_the_end(
    daemon_process: DaemonProcess, listener: Listener
) -> None:
    daemon_process.spawn(environment=listener.environment)
    assert listener.wait_for("READY") == "1"

    assert accepts(daemon_process.socket)
    assert listener.values("STATUS") == ["0 jobs (0 running), 0 clients, 0 writes queued"]
    daemon_process.stop()

    listener.take()
    names = [name for name, _ in listener.said]
    assert names == ["READY", "STATUS", "STOPPING", "STATUS"]


def test_ready_is_never_said_by_a_daemon_that_does_not_start(
    daemon: DaemonProcess, listener: Listener
) -> None:
    second = DaemonProcess(daemon.database.parent)

    second.spawn(environment=listener.environment)

    assert second.wait() == 75
    assert not listener.has("READY")


async def test_status_tells_jobs_clients_and_what_waits(
    tmp_path: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", listener.address)
    monkeypatch.setattr("jobkeepd.reporter.STATUS_SECONDS", 0.02)
    daemon = Daemon(Settings(db=str(tmp_path / "state.db"), socket=str(tmp_path / "s")))
    running = asyncio.create_task(daemon.run())
    await until(lambda: listener.has("READY"))
    wire = await asyncio.to_thread(Wire, tmp_path / "s")

    with wire:
        running_job = CheckpointState(job_id="a", total_sheets=1, pid=os.getpid())
        running_job.mark_sheet_started(1)
        await asyncio.to_thread(wire.save, running_job)
        await asyncio.to_thread(wire.save, CheckpointState(job_id="b", total_sheets=1))
        wanted = "2 jobs (1 running), 1 clients, 0 writes queued"
        await until(lambda: listener.take() and wanted in listener.values("STATUS"))

    daemon.stop()
    await running


async def until(condition: Any) -> None:
    """Wait for what happens on the running loop."""

    async def is_true() -> bool:
        return bool(condition())

    await wait_until_async(is_true)


async def test_more_time_is_asked_for_while_the_database_is_opened(
    tmp_path: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow_store(*arguments: Any) -> Store:
        wait_until(lambda: listener.has("EXTEND_TIMEOUT_USEC", times=2))
        assert not listener.values("READY")
        return Store(*arguments)

    monkeypatch.setenv("NOTIFY_SOCKET", listener.address)
    monkeypatch.setattr(systemd, "EXTENSION_SECONDS", 0.03)
    monkeypatch.setattr(daemon_module, "Store", slow_store)
    daemon = Daemon(Settings(db=str(tmp_path / "state.db"), socket=str(tmp_path / "s")))
    running = asyncio.create_task(daemon.run())

    await until(lambda: listener.has("READY"))

    assert listener.values("EXTEND_TIMEOUT_USEC")[0] == "30000"
    assert "opening the database" in listener.values("STATUS")
    assert "jobkeepd-patience" not in [thread.name for thread in threading.enumerate()]
    daemon.stop()
    await running


def test_service_manager_that_does_not_listen_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")})

    manager.ready("well")

    assert "is not told 'READY=1" in caplog.text


def test_abstract_address_is_understood() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        name = f"jobkeep-test-notify-{os.getpid()}"
        to.bind(f"\0{name}")
        to.settimeout(scaled(PATIENCE))

        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).alive()

        assert to.recv(100) == b"WATCHDOG=1"


# -- the watchdog -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_is_for_the_process_that_is_named(
    variables: dict[str, str], seconds: float | None
) -> None:
    environment = dict(variables)

    assert ServiceManager(environment).watchdog_seconds == seconds
    assert environment == {}


def test_watchdog_is_fed_while_all_is_well(
    daemon_process: DaemonProcess, listener: Listener
) -> None:
    daemon_process.spawn(environment={**listener.environment, "WATCHDOG_USEC": "60000"})

    listener.wait_for("WATCHDOG", times=3)

    daemon_process.stop()
    assert "is not fed" not in daemon_process.log


def test_watchdog_is_not_fed_by_a_loop_that_stands_still(
    daemon_process: DaemonProcess, listener: Listener
) -> None:
    daemon_process.spawn(environment={**listener.environment, "WATCHDOG_USEC": "60000"})
    listener.wait_for("WATCHDOG")
    os.kill(daemon_process.pid, signal.SIGSTOP)
    wait_until(lambda: state_of(daemon_process.pid) == "T")
    listener.take()

    subprocess.run([sys.executable, "-c", "pass"], check=True)  # longer than a few signs of life

    assert listener.take() == []
    os.kill(daemon_process.pid, signal.SIGCONT)
    listener.wait_for("WATCHDOG", times=len(listener.values("WATCHDOG")) + 1)


def state_of(pid: int) -> str:
    """The state of a process (proc(5), stat)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def test_watchdog_is_not_fed_while_the_writer_hangs(
    tmp_path: Path,
    listener: Listener,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", listener.address)
    monkeypatch.setenv("WATCHDOG_USEC", "30000")
    monkeypatch.setattr(writer, "LONGEST_SECONDS", 0.05)
    database = tmp_path / "state.db"
    daemon = Daemon(Settings(db=str(database), socket=str(tmp_path / "s")))
    running = asyncio.create_task(daemon.run())
    await until(lambda: listener.has("WATCHDOG"))
    in_the_way = sqlite3.connect(database)
    in_the_way.execute("BEGIN IMMEDIATE")
    wire = await asyncio.to_thread(Wire, tmp_path / "s")

    with wire:
        state = CheckpointState(job_id="job", total_sheets=1)
        saving = asyncio.create_task(asyncio.to_thread(wire.save, state))
        await until(lambda: caplog.text.count("the watchdog is not fed") >= 1)
        listener.take()
        await until(lambda: caplog.text.count("the watchdog is not fed") >= 4)
        said = listener.take()
        in_the_way.close()
        await saving

    assert ("WATCHDOG", "1") not in said
    fed = len(listener.values("WATCHDOG"))
    await until(lambda: listener.has("WATCHDOG", times=fed + 1))
    daemon.stop()
    await running
