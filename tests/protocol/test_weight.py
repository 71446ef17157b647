"""What a message takes in memory is told before it is decoded, and limited."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobkeep_protocol import weight
from jobkeep_protocol.codec import decode_request
from jobkeep_protocol.errors import InvalidRequest, JobkeepError, LimitExceeded
from jobkeep_protocol.weight import (
    CONTAINER_BYTES,
    MAX_DEPTH,
    SMALL_BYTES,
    VALUE_BYTES,
    check_weight,
    weigh,
)
from tests.protocol.strategies import anything

JOB = b"\x83\xa6job_id\xa1j\xactotal_sheets\x01\xa5extra"
SAVE = b"\x93\xa4save"


def array_of(item: bytes, size: int) -> bytes:
    """As many of these encoded values as make an array of about `size` bytes."""
    count = size // len(item)
    return b"\xdd" + count.to_bytes(4, "big") + item * count


def save_with_extra(value: bytes) -> bytes:
    """A save of a job that keeps this encoded value in its `extra`."""
    return SAVE + JOB + b"\x81\xa1x" + value + b"\x90"


def save_with_sheets(sheets: bytes) -> bytes:
    """A save of a job with this encoded array of sheets."""
    return SAVE + JOB + b"\x80" + sheets


def weight_of(value: Any) -> int:
    """The same as `weigh` without the bytes, counted in the value itself."""
    if isinstance(value, list):
        return CONTAINER_BYTES + sum(VALUE_BYTES + weight_of(one) for one in value)
    if isinstance(value, dict):
        return CONTAINER_BYTES + sum(2 * VALUE_BYTES + weight_of(one) for one in value.values())
    return 0


def is_as_heavy_as_counted(value: Any) -> bool:
    """Whether `weigh` says of an encoded value what `weight_of` says of the value."""
    value_and_more = [value, [None]]  # what comes after it is found only where it ends
    message = msgspec.msgpack.encode(value_and_more)
    return weigh(message) == len(message) + weight_of(value_and_more)


@given(anything())
def test_weight_is_the_size_and_what_lists_and_values_take(value: Any) -> None:
    assert is_as_heavy_as_counted(value)


@pytest.mark.parametrize("size", [0, 1, 2, 4, 8, 15, 16, 17, 31, 32, 255, 256, 65_535, 65_536])
def test_weight_is_the_same_for_every_form_that_a_size_has(size: int) -> None:
    for value in (
        "x" * size,
        bytes(size),
        msgspec.msgpack.Ext(5, bytes(size)),
        [None] * size,
        dict.fromkeys(range(size)),
    ):
        assert is_as_heavy_as_counted(value), type(value)


@given(anything(), st.binary(max_size=9), st.data())
def test_bytes_that_are_no_message_have_a_weight_all_the_same(
    value: Any, rest: bytes, data: st.DataObject
) -> None:
    message = msgspec.msgpack.encode(value)
    broken = message[: data.draw(st.integers(0, len(message)))] + rest

    try:
        assert weigh(broken) >= len(broken)
    except JobkeepError as error:
        assert str(error)  # noqa: PT017 # huge counts that the rest announces


SHAPES = {
    "empty maps": lambda size: save_with_extra(array_of(b"\x80", size)),
    "empty lists": lambda size: save_with_extra(array_of(b"\x90", size)),
    "lists in lists": lambda size: save_with_extra(array_of(b"\x91" * 50 + b"\x90", size)),
    "small maps": lambda size: save_with_extra(array_of(b"\x81\xa1x\x00", size)),
    "numbers": lambda size: save_with_extra(array_of(b"\xcd\xff\xff", size)),
    "short texts": lambda size: save_with_extra(array_of(b"\xa2xy", size)),
    "one text": lambda size: save_with_extra(b"\xdb" + size.to_bytes(4, "big") + b"x" * size),
    "sheets": lambda size: save_with_sheets(array_of(b"\x81\xa9sheet_num\x01", size)),
    "no sheets but maps": lambda size: save_with_sheets(array_of(b"\x80", size)),
    "no request": lambda size: array_of(b"\x80", size),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_no_message_takes_much_more_memory_than_it_weighs(shape: str) -> None:
    message = SHAPES[shape](30_000)
    kept: object
    tracemalloc.start()

    try:
        kept = decode_request(message)
    except InvalidRequest as error:
        kept = error
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert kept is not None
    assert peak < 1.6 * weigh(message)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "one text"])
def test_message_that_would_take_too_much_memory_is_refused_before_it_does(
    monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    monkeypatch.setattr(weight, "MAX_WEIGHT", 300_000)
    message = SHAPES[shape](30_000)
    tracemalloc.start()

    try:
        with pytest.raises(LimitExceeded, match="holds more values than 300000 bytes") as refused:
            decode_request(message)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert refused.value.data == {"limit": "decoded", "maximum": 300_000}
    assert peak < 30_000


@pytest.mark.parametrize("key", [b"\x90", b"\x91\x01", b"\x80", b"\xdc\x00\x01\x01"])
def test_list_or_map_as_a_key_is_refused(key: bytes) -> None:
    message = save_with_extra(b"\x81" + key + array_of(b"\xa1x", SMALL_BYTES))

    with pytest.raises(InvalidRequest, match="a key of a map is a list or a map"):
        decode_request(message)


def test_nesting_without_end_is_refused() -> None:
    filling = array_of(b"\xa1x", SMALL_BYTES)
    check_weight(b"\x91" * (MAX_DEPTH - 1) + filling)

    with pytest.raises(InvalidRequest, match="has more than 128 levels of lists and maps"):
        check_weight(b"\x91" * MAX_DEPTH + filling)


def test_count_that_no_message_can_have_is_refused_at_once() -> None:
    for head in (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff"):
        with pytest.raises(LimitExceeded):
            weigh(head)


def test_small_message_is_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight, "MAX_WEIGHT", 0)
    message = array_of(b"\x00", SMALL_BYTES - 5)

    check_weight(message)
    with pytest.raises(LimitExceeded):
        check_weight(message + b"\x00")


def test_job_with_100_000_sheets_that_have_run_is_no_heavier_than_allowed() -> None:
    sheet = {
        "sheet_num": 100_000,
        "status": "completed",
        "started_at": "2026-03-01T12:30:45.123456Z",
        "completed_at": "2026-03-01T12:30:45.123456Z",
        "attempt_count": 1,
        "exit_code": 0,
        "validation_passed": True,
        "execution_duration_seconds": 1.5,
    }
    packed = msgspec.msgpack.encode(sheet)

    check_weight(save_with_sheets(array_of(packed, 100_000 * len(packed))))
