"""The life of a daemon: starting, being the only one, stopping, and what is on disk then."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jobkeep_protocol.messages import (
    GetExecutionHistory,
    GetExecutionHistoryCount,
    RecordExecution,
    Status,
)
from jobkeep_protocol.states import CheckpointState
from jobkeep_protocol.version import __version__
from jobkeepd.store.schema import SCHEMA_VERSION
from tests.daemon_process import DaemonProcess, accepts
from tests.support import wait_until
from tests.wire import Wire


def mode(path: Path) -> int:
    """The permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


# -- starting -----------------------------------------------------------------------------------


def test_daemon_is_ready_when_its_socket_accepts(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket) as wire:
        status = wire.ask(Status())

    assert wire.welcome.name == "jobkeepd"
    assert (status.pid, status.version) == (daemon.pid, __version__)
    assert (status.database, status.socket) == (str(daemon.database), str(daemon.socket))
    assert (status.durability, status.schema_version, status.clients) == ("full", SCHEMA_VERSION, 1)
    assert status.database_bytes == daemon.database.stat().st_size
    assert status.jobs == {}


def test_status_counts_jobs_writes_and_commits(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket) as wire:
        before = wire.ask(Status())
        wire.save(CheckpointState(job_id="a", total_sheets=1))
        wire.save(CheckpointState(job_id="b", total_sheets=1))
        wire.save(CheckpointState(job_id="b", total_sheets=1, status="failed"))  # type: ignore[arg-type] # text is fine
        after = wire.ask(Status())

    assert after.jobs == {"pending": 1, "failed": 1}
    assert after.writes - before.writes == 3
    assert 1 <= after.commits - before.commits <= 3
    assert after.wal_bytes > 0


def test_files_are_for_their_owner_only(daemon_process: DaemonProcess) -> None:
    private = daemon_process.database.parent / "made" / "on the way"
    daemon_process.database = private / "state.db"
    daemon_process.socket = private / "s"

    daemon_process.start()

    with Wire(daemon_process.socket) as wire:
        wire.save(CheckpointState(job_id="job", total_sheets=1))
        files = {path.name: mode(path) for path in private.iterdir()}
    assert mode(private) == 0o700
    assert files == dict.fromkeys(
        ("s", "state.db", "state.db-wal", "state.db-shm", "state.db.lock"), 0o600
    )


def test_second_daemon_on_a_database_says_who_has_it(daemon: DaemonProcess) -> None:
    second = DaemonProcess(daemon.database.parent)
    second.socket = daemon.socket.with_name("another.sock")

    second.spawn()

    assert second.wait() == 75
    assert f"is in use by process {daemon.pid}" in second.log
    assert not second.socket.exists()
    with Wire(daemon.socket) as wire:
        assert wire.ask(Status()).pid == daemon.pid


def test_lock_goes_with_the_process_that_had_it(daemon: DaemonProcess) -> None:
    daemon.kill()
    daemon.start()
    assert daemon.is_accepting


def test_stale_socket_is_taken_over(daemon_process: DaemonProcess) -> None:
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(str(daemon_process.socket))
    assert not accepts(daemon_process.socket)

    daemon_process.start()

    assert "removing the stale socket" in daemon_process.log
    assert mode(daemon_process.socket) == 0o600


def test_socket_of_another_program_is_left_alone(daemon_process: DaemonProcess) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(daemon_process.socket))
        other.listen()
        inode = daemon_process.socket.stat().st_ino

        daemon_process.spawn()

        assert daemon_process.wait() == 75
        assert "another process listens there" in daemon_process.log
        assert daemon_process.socket.stat().st_ino == inode
        assert accepts(daemon_process.socket)


def test_file_at_the_path_of_the_socket_is_left_alone(daemon_process: DaemonProcess) -> None:
    daemon_process.socket.write_text("precious")

    daemon_process.spawn()

    assert daemon_process.wait() == 1
    assert "exists and is no socket" in daemon_process.log
    assert daemon_process.socket.read_text() == "precious"


@pytest.mark.parametrize("length", [108, 200])
def test_socket_path_that_is_too_long_is_refused(
    daemon_process: DaemonProcess, length: int
) -> None:
    directory = daemon_process.socket.parent
    daemon_process.socket = directory / ("x" * (length - len(str(directory)) - 1))

    daemon_process.spawn()

    assert daemon_process.wait() == 1
    assert f"has {length} bytes; a Unix socket's has at most 107" in daemon_process.log


def test_directory_that_cannot_be_made_is_named(daemon_process: DaemonProcess) -> None:
    daemon_process.database.write_text("a file")
    daemon_process.database = daemon_process.database / "state.db"

    daemon_process.spawn()

    assert daemon_process.wait() == 1
    assert f"cannot make the directory {daemon_process.database.parent}" in daemon_process.log
    assert "Traceback" not in daemon_process.log


# -- stopping -----------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_daemon_and_leaves_one_file(
    daemon: DaemonProcess, signum: signal.Signals
) -> None:
    with Wire(daemon.socket) as wire:
        wire.save(CheckpointState(job_id="job", total_sheets=1))

        os.kill(daemon.pid, signum)

        assert daemon.wait() == 0
        with pytest.raises(EOFError):
            wire.receive()
    assert "stopped: every write that was acknowledged is on disk" in daemon.log
    assert not daemon.socket.exists()
    left = {path.name for path in daemon.database.parent.glob("state.db*")}
    assert left == {"state.db", "state.db.lock"}


def test_stopping_does_not_wait_for_idle_clients(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket), Wire(daemon.socket, hello=False):
        daemon.stop()


def test_stopping_leaves_a_socket_alone_that_is_not_its_own(daemon: DaemonProcess) -> None:
    daemon.socket.unlink()
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(str(daemon.socket))
        daemon.stop()
        assert daemon.socket.exists()


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_every_acknowledged_write_is_there_after_the_end(
    daemon: DaemonProcess, ending: str
) -> None:
    recorders = [Recorder(daemon.socket, f"job {number}") for number in range(4)]
    for recorder in recorders:
        recorder.start()
    wait_until(lambda: all(len(recorder.acknowledged) > 20 for recorder in recorders))

    getattr(daemon, ending)()

    for recorder in recorders:
        recorder.join()
    daemon.start()
    with Wire(daemon.socket) as wire:
        for recorder in recorders:
            kept = kept_records(wire, recorder.job_id)
            assert set(recorder.acknowledged) <= set(kept)
            assert len(kept) == len(set(kept))
            # Of those without a reply, one at most can have been applied.
            assert len(kept) <= len(recorder.acknowledged) + recorder.WINDOW


def kept_records(wire: Wire, job_id: str) -> list[int]:
    """The ids of all attempts of a job, newest first."""
    kept: list[int] = []
    has_more = True
    while has_more:
        before = kept[-1] if kept else None
        page = wire.ask(GetExecutionHistory(job_id, limit=100_000, before_id=before))
        kept += [record["id"] for record in page.records]
        has_more = page.more
    return kept


class Recorder(threading.Thread):
    """A client that records attempts, several in flight, until the daemon goes away."""

    WINDOW = 8

    def __init__(self, path: Path, job_id: str) -> None:
        super().__init__()
        self.job_id = job_id
        self.acknowledged: list[int] = []
        self._path = path

    def run(self) -> None:
        with Wire(self._path) as wire:
            wire.save(CheckpointState(job_id=self.job_id, total_sheets=1))
            try:
                for _ in range(self.WINDOW):
                    self._record(wire)
                while len(self.acknowledged) < 900:
                    record_id = wire.reply_to(RecordExecution)
                    assert record_id is not None
                    self.acknowledged.append(record_id)
                    self._record(wire)
            except (EOFError, ConnectionError):
                pass  # the daemon went away, as it was to

    def _record(self, wire: Wire) -> None:
        wire.send(RecordExecution(self.job_id, 1, 1, output="x" * 500))


def test_write_that_was_received_before_the_signal_is_answered(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket) as wire:
        wire.save(CheckpointState(job_id="job", total_sheets=1))
        os.kill(daemon.pid, signal.SIGSTOP)
        sent = [wire.send(RecordExecution("job", 1, number)) for number in range(20)]
        os.kill(daemon.pid, signal.SIGTERM)
        os.kill(daemon.pid, signal.SIGCONT)

        answered = []
        try:
            while True:
                answered.append(wire.receive()[0])
        except (EOFError, ConnectionError):
            assert daemon.wait() == 0

    daemon.start()
    with Wire(daemon.socket) as wire:
        count = wire.ask(GetExecutionHistoryCount("job"))
    assert answered == sent[: len(answered)]
    assert count == len(answered)


# -- the command --------------------------------------------------------------------------------


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `jobkeepd` to its end."""
    command = [sys.executable, "-m", "jobkeepd", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_names_every_setting_and_exit_status() -> None:
    result = run("--help")

    assert (result.returncode, result.stderr) == (0, "")
    for word in ("--db", "--socket", "--config", "--durability", "--log-format", "--log-level"):
        assert word in result.stdout
    for status in ("0 stopped", "1 failed", "2 wrong", "74 the", "75 the"):
        assert status in " ".join(result.stdout.split())


def test_version_is_told() -> None:
    assert run("--version").stdout == f"jobkeepd {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--flub",), "unrecognized arguments: --flub"),
        (("--durability", "maybe"), "--durability is 'maybe'"),
        (("--config", "/nowhere/x.toml"), "the configuration /nowhere/x.toml cannot be read"),
    ],
)
def test_wrong_arguments_are_status_2_and_one_line(arguments: tuple[str, ...], words: str) -> None:
    result = run(*arguments)

    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_log_may_be_json(daemon_process: DaemonProcess) -> None:
    daemon_process.start("--log-format", "json")
    daemon_process.stop()

    lines = [json.loads(line) for line in daemon_process.log.splitlines()]

    assert {line["level"] for line in lines} == {"info"}
    assert "serves" in lines[0]["message"]
    assert lines[0].keys() == {"time", "level", "logger", "message"}


def test_log_may_be_for_the_journal(daemon_process: DaemonProcess) -> None:
    daemon_process.start("--log-format", "journal")
    daemon_process.stop()

    assert all(line.startswith("<6>") for line in daemon_process.log.splitlines())
