"""Log lines: where they go, what can be found in them, and that there are few."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobkeep_protocol.errors import PermissionDenied
from jobkeep_protocol.messages import Delete, Load
from jobkeep_protocol.states import CheckpointState
from jobkeepd import logs
from jobkeepd.journal import JournalHandler, is_journal
from jobkeepd.logs import JsonFormatter, PriorityFormatter, TextFormatter
from tests.daemon.workers import sleeper
from tests.daemon_process import DaemonProcess
from tests.support import PATIENCE, scaled, wait_until
from tests.users import effective_user, needs_root, public_directory
from tests.wire import Wire

STRANGER = 54_321
BYTES_A_DATAGRAM = 300_000
"""More than a socket's buffer takes at once (socket(7), wmem_default)."""


class Journal:
    """What stands for the journal: a datagram socket that speaks its protocol."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(scaled(PATIENCE))
        self.was_a_file = False
        self.seals = 0

    def entry(self) -> dict[str, str]:
        """The next entry."""
        data, descriptors, _, _ = socket.recv_fds(self._socket, 1 << 20, 1)
        self.was_a_file = bool(descriptors)
        if descriptors:
            assert data == b""
            self.seals = fcntl.fcntl(descriptors[0], fcntl.F_GET_SEALS)
            with open(descriptors[0], "rb") as file:  # noqa: PTH123 # a descriptor has no path
                file.seek(0)
                data = file.read()
        return _parse(data)

    def close(self) -> None:
        self._socket.close()


def _parse(data: bytes) -> dict[str, str]:
    """https://systemd.io/JOURNAL_NATIVE_PROTOCOL/."""
    fields: dict[str, str] = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, is_short, value = line.partition(b"=")
        if not is_short:
            size = int.from_bytes(data[:8], "little")
            value, data = data[8 : 8 + size], data[8 + size :]
            assert data[:1] == b"\n"
            data = data[1:]
        fields[name.decode()] = value.decode()
    return fields


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A journal."""
    one = Journal(tmp_path / "journal.sock")
    yield one
    one.close()


@pytest.fixture
def log(journal: Journal) -> Iterator[logging.Logger]:
    """A logger whose lines go to the journal."""
    handler = JournalHandler(journal.path)
    logger = logging.Logger("jobkeepd.somewhere")  # noqa: LOG001 # one that nobody else has
    logger.addHandler(handler)
    yield logger
    handler.close()


# -- the journal --------------------------------------------------------------------------------


def test_entry_has_the_text_the_priority_and_the_fields(
    journal: Journal, log: logging.Logger
) -> None:
    log.warning("job %r is paused", "ä=b", extra={"job": "ä=b", "client_pid": 7, "sheet": None})

    assert journal.entry() == {
        "MESSAGE": "job 'ä=b' is paused",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "jobkeepd",
        "LOGGER": "jobkeepd.somewhere",
        "JOBKEEP_JOB": "ä=b",
        "JOBKEEP_CLIENT_PID": "7",
    }


@pytest.mark.parametrize(
    ("level", "priority"),
    [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")],
)
def test_priority_is_that_of_the_level(
    journal: Journal, log: logging.Logger, level: str, priority: str
) -> None:
    getattr(log, level)("x")

    assert journal.entry()["PRIORITY"] == priority


def test_line_breaks_and_what_looks_like_a_field_stay_in_the_text(
    journal: Journal, log: logging.Logger
) -> None:
    text = "first\nPRIORITY=0\n\nlast"

    log.info("%s", text, extra={"job": "a\nJOBKEEP_CLIENT_UID=0"})

    entry = journal.entry()
    assert (entry["MESSAGE"], entry["PRIORITY"]) == (text, "6")
    assert entry["JOBKEEP_JOB"] == "a\nJOBKEEP_CLIENT_UID=0"
    assert "JOBKEEP_CLIENT_UID" not in entry


def test_text_that_is_no_unicode_is_escaped(journal: Journal, log: logging.Logger) -> None:
    log.info("a \udcff b")

    assert journal.entry()["MESSAGE"] == r"a \udcff b"


def test_traceback_is_part_of_the_text(journal: Journal, log: logging.Logger) -> None:
    try:
        raise ValueError("out of order")
    except ValueError:
        log.exception("a defect")

    message = journal.entry()["MESSAGE"]
    assert message.startswith("a defect\nTraceback")
    assert message.endswith("ValueError: out of order")


def test_entry_that_is_too_large_for_a_datagram_goes_as_a_sealed_file(
    journal: Journal, log: logging.Logger
) -> None:
    log.info("x" * BYTES_A_DATAGRAM)

    assert len(journal.entry()["MESSAGE"]) == BYTES_A_DATAGRAM
    assert journal.was_a_file
    assert journal.seals & fcntl.F_SEAL_WRITE


def test_journal_that_is_gone_stops_nobody(
    journal: Journal, log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    journal.path.unlink()

    log.info("unheard")

    assert "Logging error" in capsys.readouterr().err


# -- where lines go -----------------------------------------------------------------------------


def test_stream_of_the_journal_is_known_by_its_inode(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream:
        found = os.fstat(stream.fileno())
        name = f"{found.st_dev}:{found.st_ino}"

        assert is_journal(stream.fileno(), name)
        assert not is_journal(stream.fileno(), f"{found.st_dev}:{found.st_ino + 1}")
        assert not is_journal(stream.fileno(), None)
    assert not is_journal(-1, name)


@pytest.mark.parametrize(
    ("wanted", "is_service", "has_journal", "kind"),
    [
        ("auto", True, True, JournalHandler),
        ("auto", True, False, PriorityFormatter),
        ("auto", False, True, TextFormatter),
        ("journal", True, True, JournalHandler),
        ("journal", False, True, PriorityFormatter),
        ("text", True, True, TextFormatter),
        ("json", True, True, JsonFormatter),
    ],
)
def test_lines_go_to_the_journal_where_standard_error_does(
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
    wanted: str,
    is_service: bool,
    has_journal: bool,
    kind: type,
) -> None:
    monkeypatch.setattr(logs, "JOURNAL_SOCKET", journal.path if has_journal else Path("/nowhere"))
    monkeypatch.setattr(logs, "is_journal", lambda *_: is_service)

    handler = logs._handler(wanted, {})

    assert isinstance(handler if kind is JournalHandler else handler.formatter, kind)
    handler.close()


# -- what is logged -----------------------------------------------------------------------------


def test_quiet_daemon_says_one_line_at_its_start_and_one_at_its_end(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket) as wire:
        wire.save(CheckpointState(job_id="job", total_sheets=1))
        wire.load("job")
    daemon.stop()

    first, last = daemon.log.splitlines()
    assert " INFO jobkeepd " in first
    assert last.endswith("INFO stopped: every write that was acknowledged is on disk")


def lines_of(daemon: DaemonProcess) -> list[dict[str, Any]]:
    """What a daemon with `--log-format json` has said."""
    return [json.loads(line) for line in daemon.log.splitlines()]


def test_death_of_a_job_can_be_found_by_the_job(daemon_process: DaemonProcess) -> None:
    daemon_process.start("--log-format", "json")
    with Wire(daemon_process.socket) as wire:
        with sleeper() as process:
            state = CheckpointState(job_id="job", total_sheets=1, pid=process.pid)
            state.mark_sheet_started(1)
            wire.save(state)
        wait_until(lambda: "is paused" in daemon_process.log)

    (line,) = [one for one in lines_of(daemon_process) if one.get("job") == "job"]
    assert (line["level"], line["client_pid"]) == ("warning", process.pid)


@pytest.fixture
def public_daemon() -> Iterator[DaemonProcess]:
    """A daemon, not started yet, that other users can reach."""
    with public_directory() as directory:
        process = DaemonProcess(directory)
        yield process
        process.clean_up()


@needs_root
def test_what_was_denied_can_be_found_by_user_process_job_and_operation(
    public_daemon: DaemonProcess,
) -> None:
    public_daemon.start("--log-format", "json", "--socket-mode", "0666")
    with (
        effective_user(STRANGER),
        Wire(public_daemon.socket) as wire,
        pytest.raises(PermissionDenied),
    ):
        wire.ask(Delete("theirs"))

    line = lines_of(public_daemon)[-1]
    assert line["level"] == "warning"
    assert (line["client_uid"], line["client_pid"]) == (STRANGER, os.getpid())
    assert (line["operation"], line["job"]) == ("delete", "theirs")


def test_each_request_has_a_line_with_its_duration_when_that_is_wanted(
    daemon_process: DaemonProcess,
) -> None:
    daemon_process.start("--log-format", "json", "--log-level", "debug")
    with Wire(daemon_process.socket) as wire:
        wire.save(CheckpointState(job_id="job", total_sheets=1))
        wire.ask(Load("job"))

    def found() -> dict[str, Any]:
        return {one["operation"]: one for one in lines_of(daemon_process) if "operation" in one}

    wait_until(lambda: found().keys() == {"save", "load"})
    for line in found().values():
        assert (line["job"], line["client_uid"]) == ("job", os.getuid())
        assert line["duration"] >= 0
