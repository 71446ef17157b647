"""Frames: however the bytes arrive, the same bodies come out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobkeep_protocol.errors import LimitExceeded, ProtocolError
from jobkeep_protocol.framing import (
    HEADER_BYTES,
    MAX_FRAME_BYTES,
    MAX_HELLO_BYTES,
    FrameReader,
    frame,
)

BODIES = [b"first", b"x", b"third" * 100]
STREAM = b"".join(frame(body) for body in BODIES)


def read_all(reader: FrameReader, pieces: Iterable[bytes]) -> list[bytes]:
    """The bodies that a reader finds in these pieces of a stream."""
    return [body for piece in pieces for body in reader.receive_data(piece)]


def test_frame_is_a_big_endian_length_and_the_body() -> None:
    assert frame(b"abc") == b"\x00\x00\x00\x03abc"
    assert frame(b"x" * 258)[:5] == b"\x00\x00\x01\x02x"


@pytest.mark.parametrize(
    "pieces",
    [
        [STREAM],
        [STREAM[index : index + 1] for index in range(len(STREAM))],
        [frame(body) for body in BODIES],
        [STREAM[:13], STREAM[13:15], STREAM[15:]],
        [b"", STREAM, b""],
    ],
    ids=["whole", "one byte at a time", "frame by frame", "cut anywhere", "with empty pieces"],
)
def test_bodies_are_the_same_however_they_arrive(pieces: list[bytes]) -> None:
    assert read_all(FrameReader(), pieces) == BODIES


@given(st.lists(st.binary(min_size=1), max_size=5), st.lists(st.integers(0, 200), max_size=9))
def test_any_bodies_survive_any_cutting(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(frame(body) for body in bodies)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader = FrameReader()

    found = read_all(reader, [stream[a:b] for a, b in itertools.pairwise(places)])

    assert found == bodies
    assert reader.pending_bytes == 0


def test_reader_knows_how_much_has_come_of_a_frame() -> None:
    reader = FrameReader()
    assert reader.pending_bytes == 0
    assert read_all(reader, [frame(b"abc")[:2]]) == []
    assert reader.pending_bytes == 2
    assert read_all(reader, [frame(b"abc")[2:] + frame(b"def")[:5]]) == [b"abc"]
    assert reader.pending_bytes == 5
    assert read_all(reader, [frame(b"def")[5:]]) == [b"def"]
    assert reader.pending_bytes == 0


def test_frame_at_the_cap_is_sent_and_received() -> None:
    body = bytes(MAX_FRAME_BYTES)
    assert read_all(FrameReader(), [frame(body)]) == [body]


def test_frame_one_byte_above_the_cap_is_not_sent() -> None:
    with pytest.raises(LimitExceeded, match="does not fit in a frame") as refused:
        frame(bytes(MAX_FRAME_BYTES + 1))

    assert refused.value.data == {
        "limit": "max_frame_bytes",
        "maximum": MAX_FRAME_BYTES,
        "value": MAX_FRAME_BYTES + 1,
    }


def test_frame_for_a_peer_that_accepts_less_is_held_to_that() -> None:
    assert frame(bytes(100), limit=100) == b"\x00\x00\x00\x64" + bytes(100)
    with pytest.raises(LimitExceeded, match="a message of 101 bytes does not fit") as refused:
        frame(bytes(101), limit=100)
    assert refused.value.data["maximum"] == 100


def test_frame_one_byte_above_the_cap_is_refused_at_its_header() -> None:
    header = (MAX_FRAME_BYTES + 1).to_bytes(HEADER_BYTES, "big")

    with pytest.raises(ProtocolError, match=f"announces {MAX_FRAME_BYTES + 1} bytes"):
        read_all(FrameReader(), [header])


def test_empty_frame_is_refused() -> None:
    with pytest.raises(ProtocolError, match="announces 0 bytes"):
        read_all(FrameReader(), [bytes(HEADER_BYTES)])


def test_frames_before_a_bad_one_are_given() -> None:
    reading = FrameReader().receive_data(frame(b"good") + b"\xff\xff\xff\xff")

    assert next(reading) == b"good"
    with pytest.raises(ProtocolError, match="announces 4294967295 bytes"):
        next(reading)


def test_limit_may_be_raised_between_two_frames_of_one_piece() -> None:
    large = bytes(MAX_HELLO_BYTES + 1)
    reader = FrameReader(limit=MAX_HELLO_BYTES)

    found = []
    for body in reader.receive_data(frame(b"hello") + frame(large)):
        reader.limit = MAX_FRAME_BYTES
        found.append(body)

    assert found == [b"hello", large]


def test_limit_before_the_hello_is_kept() -> None:
    with pytest.raises(ProtocolError, match=f"1 to {MAX_HELLO_BYTES} are allowed"):
        read_all(FrameReader(limit=MAX_HELLO_BYTES), [frame(bytes(MAX_HELLO_BYTES + 1))])


def test_first_byte_of_any_frame_is_below_five() -> None:
    assert MAX_FRAME_BYTES.to_bytes(HEADER_BYTES, "big")[0] < 5
