"""The pipeline that both clients share, fed with bytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobkeep.core import LONGEST_DELAY, Backoff, Pipeline, patience, timed_out, unreachable
from jobkeep_protocol.codec import (
    decode_request,
    encode_error,
    encode_reply,
    open_envelope,
)
from jobkeep_protocol.errors import (
    DaemonUnavailable,
    InvalidRequest,
    JobNotFound,
    LimitExceeded,
    PermissionDenied,
    ProtocolError,
    RequestTimeout,
    StorageError,
)
from jobkeep_protocol.framing import MAX_FRAME_BYTES, FrameReader, frame
from jobkeep_protocol.messages import (
    HELLO_ID,
    SLOTS,
    Delete,
    GetNextSheet,
    Hello,
    Monitor,
    RecordExecution,
    Save,
    Welcome,
)
from jobkeep_protocol.states import CheckpointState, SheetState

NEXT = GetNextSheet("nightly")


def sent(data: bytes) -> list[tuple[int, object]]:
    """The requests in some bytes, with their ids."""
    envelopes = (open_envelope(body) for body in FrameReader().receive_data(data))
    return [(request_id, decode_request(message)) for request_id, message in envelopes]


def reply(request_id: int, value: object) -> bytes:
    return frame(encode_reply(request_id, value))


def test_a_reply_finds_its_request_in_whatever_order_it_comes() -> None:
    pipeline = Pipeline()
    first, second = pipeline.start(NEXT), pipeline.start(Delete("nightly"))

    done = pipeline.receive_data(reply(second.request_id, True) + reply(first.request_id, 7))

    assert done == [second, first]
    assert first.result() == 7
    assert second.result() is True


def test_replies_may_arrive_one_byte_at_a_time() -> None:
    pipeline = Pipeline()
    ticket = pipeline.start(NEXT)

    done = [pipeline.receive_data(bytes([byte])) for byte in reply(ticket.request_id, 3)]

    assert done[-1] == [ticket]
    assert not any(done[:-1])


def test_an_error_reply_raises_the_error_of_its_code() -> None:
    pipeline = Pipeline()
    ticket = pipeline.start(NEXT)

    pipeline.receive_data(frame(encode_error(ticket.request_id, JobNotFound.named("nightly"))))

    with pytest.raises(JobNotFound, match="No state found for job 'nightly'") as caught:
        ticket.result()
    assert caught.value.data == {"job_id": "nightly"}


def test_ids_name_a_slot_and_grow_in_it() -> None:
    pipeline = Pipeline()
    ids = []

    for _ in range(3):
        ticket = pipeline.start(NEXT)
        ids.append(ticket.request_id)
        pipeline.receive_data(reply(ticket.request_id, 1))

    assert [one % SLOTS for one in ids] == [0, 0, 0]
    assert ids == sorted(set(ids))
    assert HELLO_ID not in ids


def test_no_two_outstanding_requests_share_a_slot() -> None:
    pipeline = Pipeline()

    tickets = [pipeline.start(NEXT) for _ in range(SLOTS)]

    assert len({ticket.request_id % SLOTS for ticket in tickets}) == SLOTS
    assert pipeline.free_slots == 0


def test_a_connection_begins_with_a_hello_and_what_is_unanswered_under_the_same_id() -> None:
    pipeline = Pipeline()
    unanswered, answered = pipeline.start(Delete("a")), pipeline.start(NEXT)
    pipeline.receive_data(reply(answered.request_id, 1))
    pipeline.connection_lost()

    (hello_id, hello), *again = sent(pipeline.connection_made())

    assert hello_id == HELLO_ID
    assert isinstance(hello, Hello)
    assert again == [(unanswered.request_id, Delete("a"))]


def test_the_client_id_stays_the_same_over_connections_and_is_no_other_clients() -> None:
    pipeline, other = Pipeline(), Pipeline()

    hellos = [sent(one.connection_made())[0][1] for one in (pipeline, pipeline, other)]

    ids = [hello.client_id for hello in hellos if isinstance(hello, Hello)]
    assert ids[0] == ids[1] != ids[2]
    assert len(ids[0]) == 16


def test_an_abandoned_request_keeps_its_slot_until_the_reply_arrives() -> None:
    pipeline = Pipeline()
    ticket = pipeline.start(NEXT)

    pipeline.abandon(ticket)
    in_between = pipeline.free_slots
    done = pipeline.receive_data(reply(ticket.request_id, 1))

    assert in_between == SLOTS - 1
    assert done == []
    assert pipeline.free_slots == SLOTS


def test_an_abandoned_request_is_not_sent_again_and_its_slot_is_free_after_the_connection() -> None:
    pipeline = Pipeline()
    abandoned = pipeline.start(Delete("a"))
    pipeline.abandon(abandoned)

    pipeline.connection_lost()
    successor = pipeline.start(NEXT)

    assert sent(pipeline.connection_made())[1:] == [(successor.request_id, NEXT)]
    assert successor.request_id > abandoned.request_id
    assert successor.request_id % SLOTS == abandoned.request_id % SLOTS


def test_a_second_reply_to_a_request_that_was_sent_twice_is_passed_over() -> None:
    pipeline = Pipeline()
    ticket = pipeline.start(NEXT)
    pipeline.receive_data(reply(ticket.request_id, 1))

    assert pipeline.receive_data(reply(ticket.request_id, 1)) == []
    assert ticket.result() == 1


def test_a_write_whose_outcome_is_unknown_stays_unanswered() -> None:
    pipeline = Pipeline()
    ticket = pipeline.start(Delete("a"))
    unknown = StorageError("the disk failed", {"outcome": "unknown"})

    done = pipeline.receive_data(frame(encode_error(ticket.request_id, unknown)))

    assert done == []
    assert (ticket.request_id, Delete("a")) in sent(pipeline.connection_made())


def test_a_storage_error_that_is_certain_is_an_answer() -> None:
    pipeline = Pipeline()
    ticket = pipeline.start(Delete("a"))

    pipeline.receive_data(frame(encode_error(ticket.request_id, StorageError("the disk is full"))))

    with pytest.raises(StorageError, match="the disk is full"):
        ticket.result()


def test_a_welcome_is_nobodys_reply() -> None:
    pipeline = Pipeline()
    pipeline.start(NEXT)

    assert pipeline.receive_data(reply(HELLO_ID, Welcome(1, "jobkeepd", "1", 1, 1, 1))) == []


def test_a_daemon_that_refuses_the_hello_raises_its_reason() -> None:
    refusal = ProtocolError("this daemon speaks 3 to 4")

    with pytest.raises(ProtocolError, match="this daemon speaks 3 to 4"):
        Pipeline().receive_data(frame(encode_error(HELLO_ID, refusal)))


@pytest.mark.parametrize(
    "data", [b"\x00\x00\x00\x00", b"\x02\x00\x00\x01", b"\x00\x00\x00\x01\xc1"]
)
def test_what_is_no_message_raises_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Pipeline().receive_data(data)


def test_reply_just_before_what_cannot_be_read_is_not_lost() -> None:
    pipeline = Pipeline()
    answered, unanswered = pipeline.start(NEXT), pipeline.start(NEXT)
    with pytest.raises(ProtocolError) as broken:
        pipeline.receive_data(reply(answered.request_id, 7) + bytes(4))

    assert pipeline.fail_all(broken.value) == [answered, unanswered]

    assert answered.result() == 7
    with pytest.raises(ProtocolError, match="announces 0 bytes"):
        unanswered.result()
    assert pipeline.fail_all(broken.value) == []


def test_failing_all_tells_those_who_wait_and_frees_the_slots() -> None:
    pipeline = Pipeline()
    waiting, abandoned = pipeline.start(NEXT), pipeline.start(NEXT)
    pipeline.abandon(abandoned)

    assert pipeline.fail_all(DaemonUnavailable("gone")) == [waiting]

    assert pipeline.free_slots == SLOTS
    with pytest.raises(DaemonUnavailable, match="gone"):
        waiting.result()


def test_what_cannot_be_encoded_takes_no_slot() -> None:
    pipeline = Pipeline()
    sheet = SheetState(sheet_num=1, error_message="\ud800")

    with pytest.raises(InvalidRequest, match=r"error_message is .*encoded as UTF-8"):
        pipeline.start(Save(CheckpointState(job_id="a", total_sheets=1), [sheet]))

    assert pipeline.free_slots == SLOTS


def test_what_is_larger_than_a_frame_takes_no_slot() -> None:
    pipeline = Pipeline()
    half = "x" * (MAX_FRAME_BYTES // 2)

    with pytest.raises(LimitExceeded, match="does not fit in a frame"):
        pipeline.start(RecordExecution("a", 1, 1, half, half))

    assert pipeline.free_slots == SLOTS


def test_pauses_double_up_to_a_limit_and_begin_again_after_a_reset() -> None:
    backoff = Backoff()

    delays = [backoff.next_delay() for _ in range(12)]
    backoff.reset()

    assert all(0 < delay <= LONGEST_DELAY for delay in delays)
    assert delays[-1] >= LONGEST_DELAY / 2 > delays[0]
    assert backoff.next_delay() < delays[-1]


def test_no_daemon_names_the_socket_and_the_command_that_starts_one() -> None:
    error = unreachable(Path("/run/x.sock"), FileNotFoundError(2, "No such file or directory"))

    assert isinstance(error, DaemonUnavailable)
    assert "/run/x.sock" in str(error)
    assert "jobkeepd --socket /run/x.sock" in str(error)


def test_no_permission_names_the_user_and_is_a_permission_denied() -> None:
    error = unreachable(Path("/run/x.sock"), PermissionError(13, "Permission denied"))

    assert isinstance(error, PermissionDenied)
    assert f"uid {os.geteuid()}" in str(error)


def test_a_stream_may_wait_beyond_the_timeout_for_something_new() -> None:
    assert patience(Monitor(wait_seconds=30), 5.0) == 35.0
    assert patience(NEXT, 5.0) == 5.0


def test_a_timeout_of_a_write_says_that_it_may_have_been_applied() -> None:
    write = timed_out(Delete("a"), Path("/x"), 5.0, connected=True)
    read = timed_out(NEXT, Path("/x"), 5.0, connected=True)

    assert isinstance(write, RequestTimeout)
    assert "may or may not have been applied" in str(write)
    assert "applied" not in str(read)


def test_a_timeout_without_a_connection_is_a_daemon_that_is_unavailable() -> None:
    error = timed_out(NEXT, Path("/x"), 5.0, connected=False)

    assert isinstance(error, DaemonUnavailable)
    assert "5 s" in str(error)


def test_a_path_that_no_socket_can_have_says_so(tmp_path: Path) -> None:
    refused = ConnectionRefusedError(111, "Connection refused")

    assert "it is no socket" in str(unreachable(tmp_path, refused))
    assert "AF_UNIX path too long" in str(
        unreachable(Path("/" + "x" * 200), OSError("AF_UNIX path too long"))
    )


def test_what_was_abandoned_without_a_connection_gives_its_slot_back_on_the_next_one() -> None:
    pipeline = Pipeline()
    for _ in range(SLOTS):
        pipeline.abandon(pipeline.start(NEXT))

    pipeline.connection_made()

    assert pipeline.free_slots == SLOTS


def test_who_does_not_reach_the_service_of_the_machine_is_told_of_systemd() -> None:
    service = Path("/run/jobkeep/jobkeep.sock")

    assert "`systemctl start jobkeep.socket`" in str(
        unreachable(service, FileNotFoundError(2, "No such file or directory"))
    )
    assert "`systemctl start jobkeep.socket`" in str(timed_out(NEXT, service, 1.0, connected=False))
    assert "`usermod -aG jobkeep USER`" in str(unreachable(service, PermissionError(13, "no")))
