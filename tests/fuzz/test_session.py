"""A session answers what it can read, refuses what it cannot, and never fails itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobkeep_protocol.messages import HELLO_ID
from tests.fuzz.budget import examples, within_time
from tests.fuzz.conversations import of_all_requests
from tests.fuzz.dialects import FRAMES
from tests.fuzz.mutations import Mutator, seeded
from tests.fuzz.session_harness import SessionHarness
from tests.support import new_uvloop

pytestmark = within_time

CONVERSATION = of_all_requests()


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


def whole_messages(stream: bytes) -> int:
    """How many messages of a stream are there to the end."""
    messages = FRAMES.split(stream)
    return len(messages) - (FRAMES.join(messages) != stream)
