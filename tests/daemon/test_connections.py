"""Connections: the hello, many clients at once, and clients that misbehave or go away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import msgspec
import psutil
import pytest

from jobkeep_protocol.codec import encode_request
from jobkeep_protocol.errors import InvalidRequest, JobNotFound, ProtocolError
from jobkeep_protocol.framing import MAX_FRAME_BYTES, MAX_HELLO_BYTES, frame
from jobkeep_protocol.messages import (
    HELLO_ID,
    PROTOCOL_VERSION,
    SLOTS,
    ClaimNextSheet,
    GetExecutionHistory,
    GetExecutionHistoryCount,
    GetNextSheet,
    Hello,
    Load,
    MarkSheetStatus,
    QueryJobs,
    RecordExecution,
    Status,
)
from jobkeep_protocol.states import CheckpointState, SheetStatus
from tests.daemon_process import DaemonProcess
from tests.support import wait_until
from tests.wire import Wire

JOB = CheckpointState(job_id="job", total_sheets=64)


@pytest.fixture
def neighbour(daemon: DaemonProcess) -> Iterator[Wire]:
    """A connection that must notice nothing, with a job that exists."""
    with Wire(daemon.socket) as wire:
        wire.save(JOB)
        yield wire


# -- the hello ----------------------------------------------------------------------------------


def test_hello_tells_version_and_limits(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket) as wire:
        assert wire.welcome.protocol == PROTOCOL_VERSION
        assert wire.welcome.oldest_protocol == 1
        assert wire.welcome.max_frame_bytes == MAX_FRAME_BYTES
        assert wire.welcome.max_in_flight == SLOTS


def test_requests_need_not_wait_for_the_answer_to_the_hello(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket, hello=False) as wire:
        hello = frame(encode_request(HELLO_ID, Hello(PROTOCOL_VERSION, "test", "0")))
        wire.send_bytes(hello + frame(encode_request(1, GetNextSheet("job"))))

        assert wire.reply_to(Hello).name == "jobkeepd"
        assert wire.reply_to(GetNextSheet) == 1


def test_what_a_refused_client_says_of_itself_is_one_line_in_the_log(
    daemon: DaemonProcess,
) -> None:
    with Wire(daemon.socket, hello=False) as wire:
        wire.send(Hello(0, "evil\nCRITICAL all is lost", "x" * 10_000), HELLO_ID)
        with pytest.raises(ProtocolError, match=r"'evil\\nCRITICAL all is lost'"):
            wire.reply_to(Hello)
    (line,) = [line for line in daemon.log.splitlines() if "all is lost" in line]
    assert len(line) < 500


def test_what_comes_before_a_message_that_is_none_gets_one_reason_with_it(
    daemon: DaemonProcess, neighbour: Wire
) -> None:
    reads = [frame(encode_request(number, Load("job"))) for number in range(1, 2 * SLOTS)]
    with Wire(daemon.socket) as wire:
        wire.send_bytes(b"".join(reads) + frame(b"\xc1") + bytes(4))

        reasons = [request_id for request_id, _ in wire.rest() if request_id == HELLO_ID]

    assert len(reasons) == 1
    assert neighbour.ask(GetNextSheet("job")) == 1


@pytest.mark.parametrize("version", [0, PROTOCOL_VERSION + 1, 2**40])
def test_hello_of_another_version_is_refused_with_the_versions_that_are_spoken(
    daemon: DaemonProcess, version: int
) -> None:
    with Wire(daemon.socket, hello=False) as wire:
        with pytest.raises(ProtocolError, match=f"speaks protocol {version}; .* 1 to 1") as refused:
            wire.say_hello(protocol=version)

        assert refused.value.data == {"oldest": 1, "newest": 1}
        assert wire.is_closed()


@pytest.mark.parametrize(
    "data",
    [
        frame(b"\xc1"),
        frame(msgspec.msgpack.encode("hello")),
        frame(msgspec.msgpack.encode([0, "hello"])),
        frame(msgspec.msgpack.encode([0, ["hello", "one"]])),
        frame(encode_request(1, GetNextSheet("job"))),
        frame(encode_request(7, Hello(PROTOCOL_VERSION, "test", "0"))),
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(4),
        (MAX_HELLO_BYTES + 1).to_bytes(4, "big"),
    ],
    ids=[
        *("no msgpack", "no array", "no operation", "bad field", "another operation"),
        *("another id", "http", "empty frame", "too large"),
    ],
)
def test_anything_but_a_hello_is_refused_with_a_reason(
    daemon: DaemonProcess, neighbour: Wire, data: bytes
) -> None:
    with Wire(daemon.socket, hello=False) as wire:
        wire.send_bytes(data)
        with pytest.raises(ProtocolError):
            wire.reply_to(Hello)
        assert wire.is_closed()
    assert neighbour.ask(GetNextSheet("job")) == 1


def test_second_hello_is_an_error_and_no_more(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket) as wire:
        with pytest.raises(InvalidRequest, match="hello was said before"):
            wire.ask(Hello(PROTOCOL_VERSION, "test", "0"), 5)
        assert wire.ask(GetNextSheet("job")) == 1


# -- requests on a connection -------------------------------------------------------------------


def test_refused_request_leaves_the_connection_usable(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket) as wire:
        for message, error in (
            (["load", ""], InvalidRequest),
            (["fly"], InvalidRequest),
            (["query_jobs", "asleep"], InvalidRequest),
            (["claim_next_sheet", "unknown"], JobNotFound),
            (["load", "job", 2**64 - 1], InvalidRequest),
        ):
            wire.send_bytes(frame(msgspec.msgpack.encode([9, message])))
            request_id, reply = wire.receive()
            assert (request_id, msgspec.msgpack.decode(reply)[1]) == (9, error.code)
        assert wire.ask(GetNextSheet("job")) == 1


def test_frame_that_is_too_large_ends_this_connection_only(
    daemon: DaemonProcess, neighbour: Wire
) -> None:
    with Wire(daemon.socket) as wire:
        wire.send_bytes((MAX_FRAME_BYTES + 1).to_bytes(4, "big"))
        with pytest.raises(ProtocolError, match=f"announces {MAX_FRAME_BYTES + 1} bytes"):
            wire.reply_to(Status)
        assert wire.is_closed()
    assert neighbour.ask(GetNextSheet("job")) == 1


def test_body_without_an_id_ends_this_connection_only(
    daemon: DaemonProcess, neighbour: Wire
) -> None:
    with Wire(daemon.socket) as wire:
        wire.send_bytes(frame(b"\x93garbage"))
        with pytest.raises(ProtocolError, match=r"no \[request_id, message\]"):
            wire.reply_to(Status)
        assert wire.is_closed()
    assert neighbour.ask(GetNextSheet("job")) == 1


def test_many_requests_in_flight_are_all_answered_once(neighbour: Wire) -> None:
    sent = []
    for number in range(300):
        request = RecordExecution("job", 1, number) if number % 2 else Load("job")
        sent.append(neighbour.send(request))

    answered = [neighbour.receive()[0] for _ in sent]

    assert sorted(answered) == sent
    assert neighbour.ask(GetExecutionHistoryCount("job")) == 150


def test_request_may_come_one_byte_at_a_time(neighbour: Wire) -> None:
    for byte in frame(encode_request(5, GetNextSheet("job"))):
        neighbour.send_bytes(bytes([byte]))
    assert neighbour.receive()[0] == 5


def test_reader_that_is_slow_gets_everything_and_holds_up_nobody(
    daemon: DaemonProcess, neighbour: Wire
) -> None:
    for number in range(8):
        neighbour.ask(RecordExecution("job", 1, number, output="x" * 900_000))
    with Wire(daemon.socket) as slow:
        sent = [slow.send(GetExecutionHistory("job", limit=8)) for _ in range(40)]
        assert neighbour.ask(GetNextSheet("job")) == 1

        answered = [slow.receive()[0] for _ in sent]

    assert sorted(answered) == sent


# -- many clients -------------------------------------------------------------------------------


@pytest.mark.parametrize("clients", [2, 16])
def test_clients_at_once_get_sheets_of_their_own_and_lose_nothing(
    daemon: DaemonProcess, clients: int
) -> None:
    with Wire(daemon.socket) as wire:
        wire.save(JOB)
        done: list[list[int]] = [[] for _ in range(clients)]

        def work(mine: list[int]) -> None:
            with Wire(daemon.socket) as own:
                while (number := own.ask(ClaimNextSheet("job"))) is not None:
                    own.ask(RecordExecution("job", number, 1, output=f"output {number}"))
                    own.ask(MarkSheetStatus("job", number, SheetStatus.COMPLETED))
                    mine.append(number)

        threads = [threading.Thread(target=work, args=(mine,)) for mine in done]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        state, sheets = wire.load()
        assert sorted(number for mine in done for number in mine) == list(range(1, 65))
        assert state.status == "completed"
        assert {sheet.status for sheet in sheets.values()} == {"completed"}
        assert wire.ask(GetExecutionHistoryCount("job")) == 64


def test_idle_connections_by_the_dozen_hurt_nobody(daemon: DaemonProcess, neighbour: Wire) -> None:
    idle = [Wire(daemon.socket) for _ in range(60)]
    assert neighbour.ask(Status()).clients == 61
    for wire in idle:
        wire.close()
    wait_until(lambda: neighbour.ask(Status()).clients == 1)


# -- clients that go away -----------------------------------------------------------------------

GOODBYES: dict[str, Callable[[Wire], None]] = {
    "after a hello": lambda _: None,
    "inside a header": lambda wire: wire.send_bytes(b"\x00\x00"),
    "inside a frame": lambda wire: wire.send_bytes(frame(b"x" * 1000)[:500]),
    "right after a read": lambda wire: _send(wire, Load("job"), QueryJobs(), Load("job")),
    "right after a write": lambda wire: _send(wire, *[RecordExecution("job", 1, 1)] * 20),
}


def _send(wire: Wire, *requests: Load | QueryJobs | RecordExecution) -> None:
    for request in requests:
        wire.send(request)


@pytest.mark.parametrize("goodbye", GOODBYES)
def test_client_that_goes_away_hurts_nobody(
    daemon: DaemonProcess, neighbour: Wire, goodbye: str
) -> None:
    for _ in range(10):
        with Wire(daemon.socket) as wire:
            GOODBYES[goodbye](wire)

    wait_until(lambda: neighbour.ask(Status()).clients == 1)

    assert neighbour.ask(MarkSheetStatus("job", 1, SheetStatus.COMPLETED)) is None
    assert neighbour.ask(GetNextSheet("job")) == 2
    daemon.stop()
    assert "ERROR" not in daemon.log
    assert "Traceback" not in daemon.log


def test_write_of_a_client_that_went_away_is_done_all_the_same(
    daemon: DaemonProcess, neighbour: Wire
) -> None:
    with Wire(daemon.socket) as wire:
        wire.send(RecordExecution("job", 1, 1, output="last words"))

    wait_until(lambda: neighbour.ask(GetExecutionHistoryCount("job")) == 1)


def test_one_piece_with_more_requests_than_may_be_in_flight_is_answered_in_turn(
    daemon: DaemonProcess,
) -> None:
    count = 20 * SLOTS
    with Wire(daemon.socket) as wire:
        wire.save(JOB)
        ids = range(1_000, 1_000 + count)
        piece = b"".join(frame(encode_request(one, GetNextSheet("job"))) for one in ids)

        wire.send_bytes(piece)

        assert {wire.receive()[0] for _ in ids} == set(ids)


def test_a_client_that_never_reads_holds_no_more_than_its_share_of_memory(
    daemon: DaemonProcess, neighbour: Wire
) -> None:
    large = CheckpointState(job_id="large", total_sheets=1, extra={"text": "x" * 1_000_000})
    neighbour.save(large)
    requests = b"".join(frame(encode_request(one, Load("large"))) for one in range(1, 3_000))
    before = psutil.Process(daemon.pid).memory_info().rss

    greedy = [Wire(daemon.socket) for _ in range(3)]
    for wire in greedy:
        wire.send_bytes(requests)
    for _ in range(50):  # time enough for what would be read
        assert neighbour.load("large")[0].extra == large.extra

    growth = psutil.Process(daemon.pid).memory_info().rss - before
    for wire in greedy:
        wire.close()
    assert growth < len(greedy) * SLOTS * 2_000_000
