"""Messages in JSON are found in a stream however it is cut, and heavy ones are refused unread."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobkeep_protocol.errors import LimitExceeded, ProtocolError
from jobkeep_protocol.framing import MAX_FRAME_BYTES
from jobkeep_protocol.json_text import Message, MessageReader, check_json_weight
from jobkeep_protocol.weight import MAX_WEIGHT, SMALL_BYTES
from tests.protocol.strategies import json_objects

CALL = b'{"method":"org.jobkeep.Status"}'
PRETTY = b'{\n  "method": "org.jobkeep.Load",\r\n\n  "parameters": {\n    "job_id": "x"\n  }\n}'


def read(*pieces: bytes, limit: int = MAX_FRAME_BYTES) -> list[Message]:
    """The messages in a stream that arrives in these pieces."""
    reader = MessageReader(limit)
    return [message for piece in pieces for message in reader.receive_data(piece)]


# -- where a message ends -------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\0", b"\n"])
@pytest.mark.parametrize("body", [CALL, PRETTY, b'{"a": "}\\"{\\\\"}', b"{}"])
def test_message_ends_with_nul_or_newline_and_says_with_which(body: bytes, end: bytes) -> None:
    assert read(body + end) == [(body, end)]


def test_two_messages_at_once_are_two_messages() -> None:
    assert read(CALL + b"\n" + PRETTY + b"\0" + CALL + b"\0") == [
        (CALL, b"\n"),
        (PRETTY, b"\0"),
        (CALL, b"\0"),
    ]


@pytest.mark.parametrize("between", [b"\n\n", b" \t\r\n", b"\0", b"\n\0\n", b"\0 \0"])
def test_white_space_and_further_ends_between_messages_are_skipped(between: bytes) -> None:
    assert read(CALL + b"\n" + between + CALL + b"\n") == [(CALL, b"\n")] * 2


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":\n{"b": "}"}\n}\n',
        b'{"a": "{",\n"b": 1}\n',
        b'{"a\\"": "\\\\",\n"{": 1}\n',
        b'{"a": "\\\\\\"}",\n"b": 1}\n',
        b'{\n\n"a": [{},\n{}]\n}\n',
    ],
)
def test_newline_within_an_object_does_not_cut_it(text: bytes) -> None:
    ((body, end),) = read(text)

    assert (body, end) == (text[:-1], b"\n")
    msgspec.json.decode(body)


@pytest.mark.parametrize("line", [b"hello", b'{"a": "b}', b"[1, 2", b'"', b"}{", b'{"a\\'])
def test_line_that_can_be_no_message_ends_at_its_newline(line: bytes) -> None:
    assert read(line + b"\n" + CALL + b"\n") == [(line, b"\n"), (CALL, b"\n")]


@pytest.mark.parametrize("shift", range(8))
def test_text_that_is_looked_at_in_steps_is_one_text(shift: int) -> None:
    text = b'{"a": "' + b"x" * (64 * 1024 - 4 - shift) + b'\\\\\\"}", "b":'
    body = text + b"\n[]}"

    assert read(body + b"\n") == [(body, b"\n")]
    check_json_weight(text + b'"' + b"{" * (16 * 1024 * 1024) + b'"}')


@pytest.mark.parametrize("text", [CALL, b'{"method":'])
def test_last_message_ends_with_the_stream(text: bytes) -> None:
    reader = MessageReader()
    assert list(reader.receive_data(CALL + b"\0" + text)) == [(CALL, b"\0")]

    assert reader.end() == (text, b"\n")
    assert reader.end() is None


def test_nul_ends_even_what_is_not_complete() -> None:
    assert read(b'{"a": {"\0' + CALL + b"\0") == [(b'{"a": {"', b"\0"), (CALL, b"\0")]


def test_what_is_pending_counts_from_the_first_byte_of_a_message() -> None:
    reader = MessageReader()

    assert list(reader.receive_data(CALL + b"\n \n")) == [(CALL, b"\n")]
    assert reader.pending_bytes == 0
    assert list(reader.receive_data(b" " + CALL)) == []
    assert reader.pending_bytes == len(CALL)


@pytest.mark.parametrize("end", [b"\0", b"\n", b""])
@pytest.mark.parametrize("cuts", [1, 7, 1000])
def test_message_that_is_too_large_is_a_protocol_error(end: bytes, cuts: int) -> None:
    body = PRETTY + b" " * 30 + b"x"
    pieces = [(body + end)[place : place + cuts] for place in range(0, len(body) + 1, cuts)]

    with pytest.raises(ProtocolError, match=f"more than {len(body) - 1} bytes") as refused:
        read(*pieces, limit=len(body) - 1)

    assert refused.value.data == {"limit": "max_frame_bytes", "maximum": len(body) - 1}
    if end:
        assert read(CALL + end, *pieces, limit=len(body))[0] == (CALL, end)


STREAMS = st.lists(
    st.sampled_from([*(bytes([byte]) for byte in b'{}[]",:\\ \n\r\0ax'), CALL, PRETTY, b'\\"'])
).map(b"".join)


@given(st.one_of(STREAMS, st.binary(max_size=200)), st.lists(st.integers(0, 300), max_size=4))
def test_stream_gives_the_same_messages_however_it_is_cut(stream: bytes, cuts: list[int]) -> None:
    whole = read(stream)
    places = [0, *sorted(cuts), len(stream)]

    assert read(*(stream[place : place + 1] for place in range(len(stream)))) == whole
    assert read(*(stream[a:b] for a, b in itertools.pairwise(places))) == whole


@given(st.lists(st.tuples(json_objects, st.sampled_from([b"\n", b"\0"])), max_size=3))
def test_any_objects_however_they_are_laid_out_are_found(told: list[tuple[Any, bytes]]) -> None:
    messages = [(msgspec.json.format(msgspec.json.encode(one), indent=2), end) for one, end in told]

    assert read(b"".join(body + end for body, end in messages)) == messages


# -- weight ---------------------------------------------------------------------------------------

MANY = MAX_WEIGHT // 200
"""More containers than this are refused."""


@pytest.mark.parametrize(
    "text",
    [
        b"[" + b"{}," * MANY + b"0]",
        b"[" + b"[]," * MANY + b"0]",
        b"[" * MANY,
        b"[" + b"1," * (MAX_WEIGHT // 40) + b"1]",
        b'{"a": "' + b'\\"' * 99 + b'", "b": [' + b'{"a":1},' * (MAX_WEIGHT // 300) + b"0]}",
    ],
    ids=["maps", "lists", "deep", "numbers", "after a text"],
)
def test_text_that_would_take_much_memory_is_refused_unread(text: bytes) -> None:
    assert len(text) < MAX_FRAME_BYTES
    with pytest.raises(LimitExceeded, match="more values than 134217728 bytes") as refused:
        check_json_weight(text)

    assert refused.value.data == {"limit": "decoded", "maximum": MAX_WEIGHT}


@pytest.mark.parametrize("filling", [b",", b"{", b"[:,", b'\\"', b"\\\\", b'\\\\\\",', b"]"])
def test_text_that_is_one_long_text_weighs_little_whatever_it_is_full_of(filling: bytes) -> None:
    check_json_weight(b'{"output": "' + filling * (16 * 1024 * 1024 // len(filling)) + b'"}')


@pytest.mark.parametrize("text", [b"", b'"', b"{" * SMALL_BYTES, b"\xff" * 100_000, b"\\" * 70_000])
def test_what_is_small_or_no_json_is_left_for_the_decoder(text: bytes) -> None:
    check_json_weight(text)
