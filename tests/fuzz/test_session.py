"""A session answers what it can read, refuses what it cannot, and never fails itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobkeep_protocol.errors import ProtocolError
from jobkeep_protocol.json_text import MessageReader
from jobkeep_protocol.messages import HELLO_ID
from jobkeep_protocol.varlink import ERROR_NAMES, decode_call
from tests.fuzz.budget import examples, within_time
from tests.fuzz.conversations import of_all_calls, of_all_requests
from tests.fuzz.dialects import FRAMES, JSON
from tests.fuzz.mutations import Mutator, seeded
from tests.fuzz.session_harness import SessionHarness
from tests.support import new_uvloop

pytestmark = within_time

CONVERSATION = of_all_requests()
CALLS = of_all_calls()
FIRST = CALLS.messages[0] + b"\n"
"""Before what is spoilt: the first byte of a stream says which dialect it is in."""


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SessionHarness]:
    """A store that is kept from one conversation to the next."""
    with SessionHarness(tmp_path_factory.mktemp("session"), new_uvloop) as harness:
        yield harness


def test_everything_that_can_be_asked_is_answered(harness: SessionHarness) -> None:
    replies = harness.converse([FRAMES.join(CONVERSATION.messages)])

    assert sorted(request_id for request_id, _ in replies) == list(range(len(replies)))
    assert len(replies) == len(CONVERSATION.messages)


@examples(150)
@given(seed=st.integers(0, 2**32 - 1))
def test_spoilt_conversation_gets_one_answer_a_request_or_one_reason(
    harness: SessionHarness, seed: int
) -> None:
    random = seeded(seed)
    mutator = Mutator(FRAMES, random)
    stream = mutator.stream(CONVERSATION.by_another_client(random))

    replies = harness.converse(mutator.pieces(stream))

    ends = [
        request_id
        for request_id, (_, code, *_) in replies
        if request_id == HELLO_ID and code == "protocol_error"
    ]
    assert len(ends) <= 1
    if not ends:
        assert len(replies) == whole_messages(stream)


def test_every_call_is_answered_in_its_order(harness: SessionHarness) -> None:
    replies = harness.call([JSON.join(CALLS.messages)])

    assert replies[0]["parameters"]["interfaces"]
    assert len(replies) == len(CALLS.messages) - 1, "a call that wants no reply is among them"


@examples(150)
@given(seed=st.integers(0, 2**32 - 1))
def test_spoilt_calls_get_one_answer_each_until_one_is_no_call(
    harness: SessionHarness, seed: int
) -> None:
    random = seeded(seed)
    mutator = Mutator(JSON, random)
    stream = FIRST + mutator.stream(CALLS.messages)

    replies = harness.call(mutator.pieces(stream))

    answered = [reply for reply in replies if not reply.get("continues")]
    expected, has_end = replies_to(stream)
    assert len(answered) == expected
    ends = [reply for reply in replies if reply.get("error") == ERROR_NAMES["protocol_error"]]
    assert len(ends) == has_end
    assert ends == replies[-1:] * has_end


def replies_to(stream: bytes) -> tuple[int, bool]:
    """How many calls of a stream are answered, and whether one of them is none, and the last."""
    count = 0
    for message in MessageReader().receive_data(stream):
        try:
            call = decode_call(message.body)
        except ProtocolError:
            return count + 1, True
        count += not call.oneway
    return count, False


def whole_messages(stream: bytes) -> int:
    """How many messages of a stream are there to the end."""
    messages = FRAMES.split(stream)
    return len(messages) - (FRAMES.join(messages) != stream)
