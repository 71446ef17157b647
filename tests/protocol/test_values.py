"""What a single value may be."""

from __future__ import annotations

import enum
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given

from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.states import JobStatus
from jobkeep_protocol.values import (
    MAX_INTEGER,
    MAX_JOB_ID_BYTES,
    MAX_JSON_DEPTH,
    as_utc,
    check_integer,
    check_job_id,
    check_json,
    check_number,
    check_sheet_num,
    is_integer,
    member,
    refused,
    show,
)
from tests.protocol.strategies import json_values

FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)


class Theirs(enum.StrEnum):
    """An application's own statuses."""

    PAUSED = "paused"
    ASLEEP = "asleep"


def nested(depth: int) -> Any:
    """A list in a list in a list."""
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_refusal_names_field_value_and_what_is_allowed() -> None:
    error = refused("limit", -1, "an integer of 0 or more")

    assert str(error) == "limit is -1; expected an integer of 0 or more"
    assert error.data == {"field": "limit", "expected": "an integer of 0 or more"}


def test_long_values_are_cut_and_unprintable_ones_escaped() -> None:
    assert show("x" * 100) == "'" + "x" * 79 + "…"
    assert show("a\ud800\n") == r"'a\ud800\n'"
    assert show("né") == "'né'"
    assert show(b"x" * 100) == "b'" + "x" * 78 + "…"


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10_000_000,
        b"x" * 10_000_000,
        [[1] * 1_000_000] * 10,
        {"k" * 10_000_000: ["v" * 1_000_000] * 20},
    ],
    ids=["text", "bytes", "lists", "a dict"],
)
def test_large_value_is_shown_without_looking_at_all_of_it(value: object) -> None:
    tracemalloc.start()
    shown = show(value)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(shown) == 81
    assert peak < 1_000_000


def test_object_is_shown_without_its_address_in_memory() -> None:
    assert show([object()]) == "[<object object>]"
    assert show(msgspec.msgpack.Ext(5, b"x")) == "<Ext object>"


def test_integer_of_thousands_of_digits_is_shown_by_its_size() -> None:
    assert show([10**5_000]) == "[an integer of 16610 bits]"


@pytest.mark.parametrize("job_id", ["x", "a/b c", "🦊" * 128, "x" * MAX_JOB_ID_BYTES, "\0", " "])
def test_job_id_is_any_text_up_to_512_bytes(job_id: str) -> None:
    check_job_id(job_id)


@pytest.mark.parametrize("job_id", ["", "🦊" * 128 + "x", "\udfff", 7, None, b"x"])
def test_other_job_ids_are_refused(job_id: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"job_id is .*; expected a text of 1 to 512 bytes"):
        check_job_id(job_id)


def test_sheet_number_is_between_one_and_the_total() -> None:
    check_sheet_num(1, 3)
    check_sheet_num(3, 3)
    for number in (0, 4, -1):
        with pytest.raises(InvalidRequest, match=f"sheet_num is {number}; expected 1 to 3"):
            check_sheet_num(number, 3)


@pytest.mark.parametrize("value", [-(2**63), -1, 0, MAX_INTEGER])
def test_integer_fits_in_64_bits(value: int) -> None:
    check_integer("n", value)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 1.0, "1", None, True])
def test_other_integers_are_refused(value: object) -> None:
    with pytest.raises(InvalidRequest, match=r"n is .*; expected an integer that fits in 64 bits"):
        check_integer("n", value)


def test_boolean_is_no_integer() -> None:
    assert is_integer(1)
    assert not is_integer(True)


def test_number_has_inclusive_bounds() -> None:
    check_number("x", 0, 0, 1)
    check_number("x", 1.0, 0, 1)
    with pytest.raises(InvalidRequest, match="expected a number from 0 to 1"):
        check_number("x", 1.0000001, 0, 1)
    with pytest.raises(InvalidRequest, match="expected a finite number of 0 or more"):
        check_number("x", -1, low=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), "1", None, False])
def test_number_is_finite(value: object) -> None:
    with pytest.raises(InvalidRequest, match=r"x is .*; expected a finite number"):
        check_number("x", value)


@pytest.mark.parametrize("value", [JobStatus.PAUSED, "paused", Theirs.PAUSED])
def test_member_may_be_given_as_ours_as_text_or_as_theirs(value: str) -> None:
    assert member(JobStatus, "status", value) is JobStatus.PAUSED


@pytest.mark.parametrize("value", [Theirs.ASLEEP, "PAUSED", ""])
def test_unknown_member_is_refused_with_all_that_are_known(value: str) -> None:
    with pytest.raises(InvalidRequest, match=r"status is .*; expected one of pending, running, "):
        member(JobStatus, "status", value)


def test_time_becomes_utc() -> None:
    there = datetime(2026, 1, 1, 3, tzinfo=timezone(timedelta(hours=3)))
    assert as_utc("since", there).isoformat() == "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize("value", [datetime(2026, 1, 1), "2026-01-01", 0, None])  # noqa: DTZ001
def test_what_is_no_time_with_a_zone_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest, match=r"since is .*; expected a datetime with a time zone"):
        as_utc("since", value)


@pytest.mark.parametrize(("moment", "hours"), [(FIRST, 1), (LAST, -1)])
def test_time_outside_the_calendar_of_utc_is_refused(moment: datetime, hours: int) -> None:
    value = moment.replace(tzinfo=timezone(timedelta(hours=hours)))
    with pytest.raises(
        InvalidRequest, match=r"since is .*; expected a time in the years 1 to 9999"
    ):
        as_utc("since", value)


def test_first_and_last_moment_of_the_calendar_are_times() -> None:
    for moment in (FIRST, LAST):
        assert as_utc("since", moment) == moment


@given(json_values)
def test_json_values_are_allowed(value: Any) -> None:
    check_json("extra", value)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": [1, {"b": {2}}]}, r"extra\['a'\]\[1\]\['b'\] is \{2\}; expected a JSON value, not"),
        ({"a": datetime.now(UTC)}, r"extra\['a'\] .* not datetime"),
        ({1: "x"}, "a key of extra is 1; expected text"),
        ({"\ud800": 1}, "a key of extra .* UTF-8"),
        (["\ud800"], r"extra\[0\] .* UTF-8"),
        ({"a": 2**63}, r"extra\['a'\] .* 64 bits"),
        ({"a": float("nan")}, r"extra\['a'\] is nan; expected a finite number"),
        ((b"x",), r"extra\[0\] .* not bytes"),
        (nested(MAX_JSON_DEPTH + 1), "at most 64 levels"),
    ],
)
def test_what_json_does_not_have_is_refused_with_its_place(value: Any, where: str) -> None:
    with pytest.raises(InvalidRequest, match=where):
        check_json("extra", value)


def test_place_in_json_is_told_in_few_words_however_long_the_keys_are() -> None:
    key = "k" * 10_000_000
    shown = f"'{'k' * 79}…"

    with pytest.raises(InvalidRequest) as refusal:
        check_json("extra", {key: {key: [0, {key: b"x"}]}})

    assert refusal.value.data["field"] == f"extra[{shown}][{shown}][1][{shown}]"


def test_keys_that_lead_to_a_value_are_not_copied_for_each_value() -> None:
    tracemalloc.start()
    check_json("extra", {"k" * 1_000_000: [0, {}, []]})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 1_100_000, "the key itself is one megabyte"


def test_json_may_be_as_deep_as_the_limit() -> None:
    check_json("extra", nested(MAX_JSON_DEPTH))
