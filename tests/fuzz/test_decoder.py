"""Any bytes, cut in any way, are messages, the beginning of one, or an error of ours."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.budget import examples, within_time
from tests.fuzz.checks import Outcome, outcomes_in_client, outcomes_in_daemon
from tests.fuzz.conversations import (
    Conversation,
    of_all_errors,
    of_all_replies,
    of_all_requests,
)
from tests.fuzz.dialects import FRAMES
from tests.fuzz.mutations import Mutator, seeded, with_each_value_replaced

pytestmark = within_time

Reading = Callable[[list[bytes]], list[Outcome]]

SIDES: dict[str, tuple[Reading, list[Conversation]]] = {
    "daemon": (outcomes_in_daemon, [of_all_requests()]),
    "client": (outcomes_in_client, [of_all_replies(), of_all_errors()]),
}

randoms = st.integers(0, 2**32 - 1).map(seeded)


@pytest.mark.parametrize("side", SIDES)
def test_conversation_that_is_not_spoilt_is_understood_whole(side: str) -> None:
    read, conversations = SIDES[side]
    for conversation in conversations:
        outcomes = read([FRAMES.join(conversation.messages)])

        assert "the end" not in dict(outcomes)
        assert len(outcomes) >= len(conversation.messages) - 1  # a client does not tell of a hello


@pytest.mark.parametrize("side", SIDES)
@examples(100)
@given(stream=st.binary(max_size=300), random=randoms)
def test_any_bytes_are_read_the_same_however_they_are_cut(
    side: str, stream: bytes, random: Random
) -> None:
    read, _ = SIDES[side]

    assert read(Mutator(FRAMES, random).pieces(stream)) == read([stream])


@pytest.mark.parametrize("side", SIDES)
@examples(300)
@given(random=randoms)
def test_spoilt_conversation_is_read_the_same_however_it_is_cut(side: str, random: Random) -> None:
    read, conversations = SIDES[side]
    mutator = Mutator(FRAMES, random)
    stream = mutator.stream(random.choice(conversations).messages)

    assert read(mutator.pieces(stream)) == read([stream])


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("odd", FRAMES.odd_values, ids=lambda odd: odd[:9].hex())
def test_odd_value_in_any_place_is_understood_or_refused(side: str, odd: bytes) -> None:
    read, conversations = SIDES[side]
    for conversation in conversations:
        hello, *others = conversation.messages
        for message in others:
            for spoilt in with_each_value_replaced(FRAMES, message, msgspec.Raw(odd)):
                read([FRAMES.join([hello, spoilt])])


@pytest.mark.parametrize("side", SIDES)
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
