"""Any bytes, cut in any way, are messages, the beginning of one, or an error of ours."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobkeep_protocol.json_text import MessageReader
from tests.fuzz.budget import examples, within_time
from tests.fuzz.checks import (
    Outcome,
    outcomes_in_client,
    outcomes_in_daemon,
    outcomes_of_calls,
)
from tests.fuzz.conversations import (
    Conversation,
    of_all_calls,
    of_all_errors,
    of_all_replies,
    of_all_requests,
)
from tests.fuzz.dialects import FRAMES, JSON, Dialect
from tests.fuzz.mutations import Mutator, seeded, with_each_value_replaced

pytestmark = within_time

Reading = Callable[[list[bytes]], list[Outcome]]

SIDES: dict[str, tuple[Reading, list[Conversation]]] = {
    "daemon": (outcomes_in_daemon, [of_all_requests()]),
    "client": (outcomes_in_client, [of_all_replies(), of_all_errors()]),
    "daemon, JSON": (outcomes_of_calls, [of_all_calls()]),
}
ODD = [
    pytest.param(side, odd, id=f"{side}-{odd[:9].hex()}-{len(odd)}")
    for side, (_, (conversation, *_)) in SIDES.items()
    for odd in conversation.dialect.odd_values
]

randoms = st.integers(0, 2**32 - 1).map(seeded)


@pytest.mark.parametrize("side", SIDES)
def test_conversation_that_is_not_spoilt_is_understood_whole(side: str) -> None:
    read, conversations = SIDES[side]
    for conversation in conversations:
        outcomes = read([conversation.dialect.join(conversation.messages)])

        assert "the end" not in dict(outcomes)
        assert len(outcomes) >= len(conversation.messages) - 1  # a client does not tell of a hello


@pytest.mark.parametrize("side", SIDES)
@examples(100)
@given(stream=st.binary(max_size=300), random=randoms)
def test_any_bytes_are_read_the_same_however_they_are_cut(
    side: str, stream: bytes, random: Random
) -> None:
    read, (conversation, *_) = SIDES[side]

    assert read(Mutator(conversation.dialect, random).pieces(stream)) == read([stream])


@pytest.mark.parametrize("side", SIDES)
@examples(300)
@given(random=randoms)
def test_spoilt_conversation_is_read_the_same_however_it_is_cut(side: str, random: Random) -> None:
    read, conversations = SIDES[side]
    conversation = random.choice(conversations)
    mutator = Mutator(conversation.dialect, random)
    stream = mutator.stream(conversation.messages)

    assert read(mutator.pieces(stream)) == read([stream])


@pytest.mark.parametrize(("side", "odd"), ODD)
def test_odd_value_in_any_place_is_understood_or_refused(side: str, odd: bytes) -> None:
    read, conversations = SIDES[side]
    for conversation in conversations:
        dialect: Dialect = conversation.dialect
        hello, *others = conversation.messages
        for message in others:
            for spoilt in with_each_value_replaced(dialect, message, msgspec.Raw(odd)):
                read([dialect.join([hello, spoilt])])


@examples(300)
@given(random=randoms)
def test_calls_are_found_where_a_slow_search_finds_them(random: Random) -> None:
    stream = Mutator(JSON, random).stream(of_all_calls().messages[:8])

    found = list(MessageReader().receive_data(stream))

    assert [body for body, _ in found] == JSON.split(stream)[: len(found)]


@pytest.mark.parametrize("side", ["daemon", "client"])
def test_size_that_is_told_and_not_there_takes_no_memory(side: str) -> None:
    read, conversations = SIDES[side]
    sizes = [odd for odd in FRAMES.odd_values if odd[1:5] == b"\xff\xff\xff\xff" and len(odd) < 7]
    assert len(sizes) == 5
    for conversation in conversations:
        hello, *others = conversation.messages
        for message in others:
            for size in sizes:
                spoilt = with_each_value_replaced(FRAMES, message, msgspec.Raw(size))
                stream = FRAMES.join([hello, *spoilt])
                assert peak_of_reading(read, stream) < 1_000_000


def peak_of_reading(read: Reading, stream: bytes) -> int:
    """The most memory that reading takes."""
    tracemalloc.start()
    try:
        read([stream])
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
