"""Each limit of a daemon: what is allowed at it, and what becomes of one more."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest

from jobkeep import Client
from jobkeep_protocol.codec import encode_request
from jobkeep_protocol.errors import (
    InvalidRequest,
    JobkeepError,
    LimitExceeded,
    ProtocolError,
    RequestTimeout,
)
from jobkeep_protocol.framing import frame
from jobkeep_protocol.messages import (
    HELLO_ID,
    PROTOCOL_VERSION,
    Delete,
    GetExecutionHistory,
    GetNextSheet,
    Hello,
    ListJobs,
    Load,
    RecordExecution,
    Save,
    SaveSheet,
    Status,
)
from jobkeep_protocol.request import Request
from jobkeep_protocol.states import CheckpointState, SheetState
from jobkeepd.limits import Limits, RequestLimits
from tests.daemon_process import DaemonProcess
from tests.support import scaled, wait_until
from tests.wire import Wire

JOB = CheckpointState(job_id="job", total_sheets=3)
QUESTION = GetNextSheet("job")


def end_of(wire: Wire, operation: type[Request[Any]] = Hello) -> JobkeepError:
    """The one reason with which the daemon ends a connection."""
    with pytest.raises(JobkeepError) as reason:
        wire.reply_to(operation)
    with pytest.raises((EOFError, ConnectionError)):
        wire.receive()
    return reason.value


def padded_hello(size: int) -> bytes:
    """A frame with a hello of exactly this many bytes."""
    shortest = len(encode_request(HELLO_ID, Hello(PROTOCOL_VERSION, "x" * 300, "0")))
    hello = Hello(PROTOCOL_VERSION, "x" * (300 + size - shortest), "0")
    body = encode_request(HELLO_ID, hello)
    assert len(body) == size
    return frame(body)


def padded_request(size: int) -> bytes:
    """A frame with a request of exactly this many bytes."""
    shortest = len(encode_request(1, RecordExecution("job", 1, 1, output="x" * 70_000)))
    body = encode_request(1, RecordExecution("job", 1, 1, output="x" * (70_000 + size - shortest)))
    assert len(body) == size
    return frame(body)


@contextmanager
def several(path: Any, count: int, *, hello: bool = True) -> Iterator[list[Wire]]:
    """So many connections, and no other."""
    with Wire(path) as first:
        wait_until(lambda: first.ask(Status()).clients == 1)  # what `start` looked with is gone
        with ExitStack() as stack:
            more = count - 1 if hello else count
            wires = [stack.enter_context(Wire(path, hello=hello)) for _ in range(more)]
            yield [first, *wires] if hello else wires


# -- messages -----------------------------------------------------------------------------------


def test_hello_at_its_limit_is_accepted_and_one_byte_more_ends_the_connection(
    daemon_process: DaemonProcess,
) -> None:
    daemon_process.start("--max-hello-bytes", "2000")
    with Wire(daemon_process.socket, hello=False) as wire:
        wire.send_bytes(padded_hello(2_000))
        assert wire.reply_to(Hello).name == "jobkeepd"
    with Wire(daemon_process.socket, hello=False) as wire:
        wire.send_bytes(padded_hello(2_001))
        error = end_of(wire)
    assert isinstance(error, ProtocolError)
    assert error.data == {"limit": "max_frame_bytes", "maximum": 2_000, "value": 2_001}


def test_message_at_its_limit_is_accepted_and_one_byte_more_ends_the_connection(
    daemon_process: DaemonProcess,
) -> None:
    daemon_process.start("--max-frame-bytes", "100000")
    with Wire(daemon_process.socket) as wire:
        assert wire.welcome.max_frame_bytes == 100_000
        wire.send_bytes(padded_request(100_000))
        assert wire.reply_to(RecordExecution) is None
        wire.send_bytes(padded_request(100_001))
        error = end_of(wire)
    assert error.data == {"limit": "max_frame_bytes", "maximum": 100_000, "value": 100_001}


def test_client_knows_the_limit_of_its_daemon_and_sends_nothing_beyond_it(
    daemon_process: DaemonProcess,
) -> None:
    daemon_process.start("--max-frame-bytes", "100000")
    with Client(daemon_process.socket) as client:
        client.save(JOB)
        with pytest.raises(LimitExceeded, match="does not fit in a frame of 100000 bytes"):
            client.record_execution("job", 1, 1, output="x" * 100_000)
        assert client.record_execution("job", 1, 1, output="x" * 90_000) == 1


@pytest.mark.parametrize(
    ("limits", "at_the_limit", "one_more"),
    [
        (Limits(max_job_id_bytes=5), Load("x" * 5), Load("x" * 6)),
        (Limits(max_job_id_bytes=5), Delete("é" * 2 + "x"), Delete("é" * 3)),
        (
            Limits(max_job_id_bytes=5),
            Save(CheckpointState(job_id="xxxxx", total_sheets=1), []),
            Save(CheckpointState(job_id="xxxxxx", total_sheets=1), []),
        ),
        (
            Limits(max_text_bytes=5),
            RecordExecution("job", 1, 1, output="xxxxx"),
            RecordExecution("job", 1, 1, output="xxxxxx"),
        ),
        (
            Limits(max_text_bytes=5),
            RecordExecution("job", 1, 1, prompt="éé"),
            RecordExecution("job", 1, 1, prompt="ééé"),
        ),
        (
            Limits(max_json_depth=2),
            SaveSheet("job", SheetState(sheet_num=1, outcome_data={"a": [1]})),
            SaveSheet("job", SheetState(sheet_num=1, outcome_data={"a": [[]]})),
        ),
        (
            Limits(max_json_depth=1),
            Save(CheckpointState(job_id="job", total_sheets=1, extra={"a": 1}), []),
            Save(CheckpointState(job_id="job", total_sheets=1, extra={"a": {}}), []),
        ),
        (
            Limits(max_json_depth=2),
            Save(JOB, [SheetState(sheet_num=1, validation_details=[{"a": 1}])]),
            Save(JOB, [SheetState(sheet_num=1, validation_details=[{"a": []}])]),
        ),
    ],
    ids=[
        *("job id", "job id in bytes", "job id of a state", "output", "prompt in bytes"),
        *("depth", "depth of a job", "depth of a sheet"),
    ],
)
def test_request_beyond_a_limit_that_was_lowered_is_refused(
    limits: Limits, at_the_limit: Request[Any], one_more: Request[Any]
) -> None:
    (check,) = RequestLimits(limits).checks

    check(at_the_limit)
    with pytest.raises(LimitExceeded) as refused:
        check(one_more)

    assert refused.value.data["limit"] in {"max_job_id_bytes", "max_text_bytes", "max_json_depth"}


def test_refused_request_leaves_the_connection_usable(daemon_process: DaemonProcess) -> None:
    daemon_process.start("--max-job-id-bytes", "5", "--max-text-bytes", "10")
    with Wire(daemon_process.socket) as wire:
        with pytest.raises(LimitExceeded, match="job_id has 6 bytes"):
            wire.ask(Load("xxxxxx"))
        with pytest.raises(LimitExceeded, match="output has 11 bytes"):
            wire.ask(RecordExecution("job", 1, 1, output="x" * 11))
        assert wire.ask(QUESTION) == 1


@pytest.mark.parametrize("depth", [64, 65])
def test_depth_of_the_protocol_is_the_largest(daemon: DaemonProcess, depth: int) -> None:
    value: Any = 1
    for _ in range(depth - 1):
        value = [value]
    message = ["save", {"job_id": "deep", "total_sheets": 1, "extra": {"x": value}}, []]
    with Wire(daemon.socket) as wire:
        if depth == 64:
            assert wire.ask_raw(message)[0] == "ok"
        else:
            assert wire.ask_raw(message)[1] == InvalidRequest.code
        assert wire.ask(QUESTION) == 1


# -- connections --------------------------------------------------------------------------------


def test_connections_of_one_user_are_limited_and_one_that_ends_makes_room(
    daemon_process: DaemonProcess,
) -> None:
    daemon_process.start("--max-connections-per-uid", "3")
    with several(daemon_process.socket, 3) as wires:
        with Wire(daemon_process.socket, hello=False) as one_more:
            error = end_of(one_more)
        assert isinstance(error, LimitExceeded)
        assert error.data == {"limit": "max_connections_per_uid", "maximum": 3}
        assert wires[0].ask(QUESTION) == 1

        wires[1].close()
        wait_until(lambda: wires[0].ask(Status()).clients == 2)
        with Wire(daemon_process.socket) as another:
            assert another.ask(QUESTION) == 1
    assert "no more connections" in daemon_process.log


def test_connections_in_all_are_limited(daemon_process: DaemonProcess) -> None:
    daemon_process.start("--max-connections", "3")
    with several(daemon_process.socket, 3):
        with Wire(daemon_process.socket, hello=False) as one_more:
            error = end_of(one_more)
        assert error.data == {"limit": "max_connections", "maximum": 3}


def test_client_is_told_that_there_is_no_place_for_it(daemon_process: DaemonProcess) -> None:
    daemon_process.start("--max-connections", "2")
    with (
        several(daemon_process.socket, 2),
        Client(daemon_process.socket) as client,
        pytest.raises(LimitExceeded, match=r"as many as are allowed \(2\) are open in all"),
    ):
        client.load("job")


def test_of_those_that_have_not_said_hello_the_oldest_makes_room(
    daemon_process: DaemonProcess,
) -> None:
    daemon_process.start("--max-connections-without-hello", "2")
    with several(daemon_process.socket, 2, hello=False) as waiting:
        with Wire(daemon_process.socket) as honest:
            error = end_of(waiting[0])
            assert honest.ask(QUESTION) == 1
        waiting[1].say_hello()
        assert waiting[1].ask(QUESTION) == 1
    assert isinstance(error, LimitExceeded)
    assert error.data == {"limit": "max_connections_without_hello", "maximum": 2}


# -- requests in flight, and queued -------------------------------------------------------------


def test_requests_in_flight_are_told_and_more_of_them_wait(daemon_process: DaemonProcess) -> None:
    daemon_process.start("--max-in-flight", "1")
    with Wire(daemon_process.socket) as wire:
        assert wire.welcome.max_in_flight == 1
        wire.save(JOB)
        sent = [wire.send(RecordExecution("job", 1, number)) for number in range(50)]
        assert [wire.receive()[0] for _ in sent] == sent


# -- readers that are slow ----------------------------------------------------------------------


def fill(wire: Wire, count: int = 8, size: int = 100_000) -> None:
    """A job with some large records."""
    wire.save(JOB)
    for number in range(count):
        wire.ask(RecordExecution("job", 1, number, output="x" * size))


def test_connection_that_holds_most_of_what_is_not_taken_gives_way(
    daemon_process: DaemonProcess,
) -> None:
    daemon_process.start("--max-unsent-bytes", "2000000")
    with Wire(daemon_process.socket) as honest, Wire(daemon_process.socket) as greedy:
        fill(honest)
        page = GetExecutionHistory("job", limit=2)
        for _ in range(40):
            greedy.send(page)

        wait_until(lambda: honest.ask(Status()).clients == 1)

        assert len(honest.ask(page).records) == 2
        assert greedy.is_closed()
    assert "bytes of replies that were not taken, and all together may hold 2000000" in (
        daemon_process.log
    )


@pytest.mark.parametrize(
    "options",
    [("--max-unsent-bytes-per-connection", "1000"), ("--max-unsent-replies", "5")],
    ids=["bytes", "replies"],
)
def test_no_more_is_read_from_a_peer_that_does_not_take_its_replies(
    daemon_process: DaemonProcess, options: tuple[str, ...]
) -> None:
    daemon_process.start(*options, "--max-in-flight", "8")
    with Wire(daemon_process.socket) as wire, Wire(daemon_process.socket) as slow:
        fill(wire)
        page = GetExecutionHistory("job", limit=2)
        slow.fill_up(page)  # until not even the kernel takes more

        assert wire.ask(QUESTION) == 1

        assert all(len(one.records) == 2 for one in slow.replies_to(page))


def test_message_parts_that_are_too_much_together_end_the_connection_with_most(
    daemon_process: DaemonProcess,
) -> None:
    daemon_process.start("--max-unfinished-bytes", "3000000")
    with several(daemon_process.socket, 3) as wires:
        beginning = (10_000_000).to_bytes(4, "big")
        wires[0].send_bytes(beginning + bytes(1_000_000))
        wires[1].send_bytes(beginning + bytes(1_500_000))
        wires[2].send_bytes(beginning + bytes(600_000))

        error = end_of(wires[1], Status)

        assert isinstance(error, LimitExceeded)
        assert error.data == {"limit": "max_unfinished_bytes", "maximum": 3_000_000}
        with Wire(daemon_process.socket) as honest:
            assert honest.ask(QUESTION) == 1


# -- the write-ahead log ------------------------------------------------------------------------


def test_log_that_a_reader_keeps_from_being_emptied_is_warned_of_once(
    daemon_process: DaemonProcess,
) -> None:
    daemon_process.start("--wal-alarm-bytes", "8000000")
    with Wire(daemon_process.socket) as wire:
        fill(wire, count=1)
        with closing(sqlite3.connect(daemon_process.database, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM jobs").fetchone()
            fill(wire, count=120)
            wait_until(lambda: "`fuser -v" in daemon_process.log)
            fill(wire, count=20)
        wait_until(lambda: "is short again" in _log_after_a_write(daemon_process, wire))
    assert daemon_process.log.count("has grown to") == 1


def _log_after_a_write(daemon: DaemonProcess, wire: Wire) -> str:
    fill(wire, count=1)
    return daemon.log


@pytest.mark.parametrize(("keep", "left"), [(100_000, 100_000), (50_000_000, 2_000_000)])
def test_log_is_cut_when_it_is_empty_again(
    daemon_process: DaemonProcess, keep: int, left: int
) -> None:
    daemon_process.start("--wal-keep-bytes", str(keep))
    with Wire(daemon_process.socket) as wire:
        fill(wire, count=30)

        def length() -> int:
            wire.save(JOB)
            return wire.ask(Status()).wal_bytes

        if keep < left + 1:
            wait_until(lambda: length() <= left)
        else:
            assert length() >= left


# -- time ---------------------------------------------------------------------------------------


def test_peer_that_does_not_say_hello_in_time_is_told_so(daemon_process: DaemonProcess) -> None:
    daemon_process.start("--hello-seconds", "0.2")
    with Wire(daemon_process.socket, hello=False) as silent:
        error = end_of(silent)
    assert isinstance(error, LimitExceeded)
    assert error.data == {"limit": "hello_seconds", "maximum": 0.2}


def test_peer_that_says_hello_in_time_stays(daemon_process: DaemonProcess) -> None:
    daemon_process.start("--hello-seconds", "0.2", "--frame-seconds", "0.2")
    with (
        Wire(daemon_process.socket) as wire,
        Wire(daemon_process.socket, hello=False) as silent,
    ):
        end_of(silent)  # the time is over, for both
        assert wire.ask(QUESTION) == 1


def test_message_that_does_not_end_in_time_ends_its_connection(
    daemon_process: DaemonProcess,
) -> None:
    daemon_process.start("--frame-seconds", "0.2")
    with Wire(daemon_process.socket) as idle, Wire(daemon_process.socket) as slow:
        slow.send_bytes(frame(encode_request(1, QUESTION))[:-1])
        error = end_of(slow, Status)
        assert idle.ask(QUESTION) == 1
    assert error.data == {"limit": "frame_seconds", "maximum": 0.2}


def test_time_in_which_the_daemon_does_not_read_is_not_the_peers(
    daemon_process: DaemonProcess,
) -> None:
    daemon_process.start("--frame-seconds", "0.2", "--max-unsent-bytes-per-connection", "1000")
    with Wire(daemon_process.socket) as wire, Wire(daemon_process.socket) as slow:
        fill(wire)
        slow.fill_up(GetExecutionHistory("job", limit=2))  # ends inside a message
        with Wire(daemon_process.socket) as late:
            late.send_bytes(b"\x00")
            end_of(late, Status)  # the time is over

        assert len(slow.receive()) == 2


def test_connection_that_is_idle_is_closed_where_that_is_set(
    daemon_process: DaemonProcess,
) -> None:
    daemon_process.start("--idle-seconds", "0.3")
    with Wire(daemon_process.socket) as idle, pytest.raises((EOFError, ConnectionError)):
        idle.receive()
    with Client(daemon_process.socket) as client:  # which connects again when it has to
        client.save(JOB)
        wait_until(lambda: daemon_clients(daemon_process) == 1)
        assert client.get_next_sheet("job") == 1


def daemon_clients(daemon: DaemonProcess) -> int:
    """How many connections there are, this one included."""
    with Wire(daemon.socket) as wire:
        return wire.ask(Status()).clients


def test_read_that_takes_too_long_is_ended_and_the_next_one_is_answered(
    daemon_process: DaemonProcess,
) -> None:
    daemon_process.start("--read-seconds", "0.001")
    with Wire(daemon_process.socket) as wire:
        for number in range(40):
            sheets = {n: SheetState(sheet_num=n) for n in range(1, 1_001)}
            wire.save(CheckpointState(job_id=f"{number}", total_sheets=1_000, sheets=sheets))

        with pytest.raises(LimitExceeded, match=r"reading took longer than 0\.001 s") as refused:
            wire.ask(ListJobs())

        assert refused.value.data == {"limit": "read_seconds", "maximum": 0.001}
        assert wire.ask(Status()).jobs == {"pending": 40}  # which is not limited


@pytest.mark.parametrize("rows", [3, 1_000])
def test_page_has_no_more_rows_than_the_limit(daemon_process: DaemonProcess, rows: int) -> None:
    daemon_process.start("--max-page-rows", str(rows))
    with Wire(daemon_process.socket) as wire:
        fill(wire, count=4, size=10)
        page = wire.ask(GetExecutionHistory("job"))
        assert (len(page.records), page.more) == (min(rows, 4), rows < 4)


def test_call_that_is_refused_for_its_size_is_not_tried_again(
    daemon_process: DaemonProcess,
) -> None:
    daemon_process.start("--max-text-bytes", "10")
    with Client(daemon_process.socket, timeout=scaled(5)) as client:
        client.save(JOB)
        with pytest.raises(LimitExceeded) as refused:
            client.record_execution("job", 1, 1, output="x" * 11)
        assert not isinstance(refused.value, RequestTimeout)
        assert client.get_execution_history_count("job") == 0


# -- who may connect ----------------------------------------------------------------------------


def test_descriptors_that_are_sent_along_do_not_stay(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket) as wire, open("/dev/null") as along:  # noqa: PTH123 # a descriptor is wanted
        before = daemon.descriptors
        for _ in range(50):
            wire.send_with_descriptors(QUESTION, [along.fileno()] * 4)
            assert wire.reply_to(GetNextSheet) == 1
        assert daemon.descriptors == before


def test_connection_with_a_half_closed_side_is_answered_and_closed(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket) as wire:
        wire.send(QUESTION)
        wire.shut_down(socket.SHUT_WR)
        assert wire.reply_to(GetNextSheet) == 1
        assert wire.is_closed()
