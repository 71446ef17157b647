"""A refusal says in plain words what was wrong with a request."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from jobkeep_protocol.codec import OPERATIONS, decode_request
from jobkeep_protocol.errors import InvalidRequest

JOB: dict[str, Any] = {"job_id": "j", "total_sheets": 2}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (["fly", 1], "operation is 'fly'; expected one of claim_next_sheet, delete, "),
        (["fly", 1], "is the daemon older than the client?"),
        ([], "the message is []; expected [operation, field, …]"),
        ("load", "the message is 'load'; expected [operation, field, …]"),
        ([7, "job"], "the message is [7, 'job']; expected [operation, field, …]"),
        (["load"], "load: "),
        (["load", 5], "load: job_id is 5; expected `str`, got `int`"),
        (["load", "j", "x"], "load: after_sheet is 'x'; expected `int | null`, got `str`"),
        (["load", ""], "load: job_id is ''; expected a text of 1 to 512 bytes of UTF-8"),
        (["query_jobs", "asleep"], "query_jobs: status is 'asleep'; expected one of pending, "),
        (
            ["mark_sheet_status", "j", 1, "DONE"],
            "mark_sheet_status: status is 'DONE'; expected one of pending, ready, dispatched, ",
        ),
        (
            ["save", {"job_id": "j", "total_sheets": 0}, []],
            "save: state.total_sheets is 0; expected an integer of 1 or more",
        ),
        (
            ["save", {**JOB, "status": "asleep"}, []],
            "save: state.status is 'asleep'; expected one of pending, running, ",
        ),
        (
            ["save", {**JOB, "job_name": 5}, []],
            "save: state.job_name is 5; expected `str`, got `int`",
        ),
        (["save", {"job_id": "j"}, []], "save: state is {'job_id': 'j'}; "),
        (
            ["save", JOB, [{"sheet_num": 1}, {"sheet_num": 2, "confidence_score": 1.5}]],
            "save: sheets[1].confidence_score is 1.5; expected a number from 0 to 1",
        ),
        (
            ["save", JOB, [{"sheet_num": 1, "status": "DONE"}]],
            "save: sheets[0].status is 'DONE'; expected one of pending, ready, ",
        ),
        (
            ["save", JOB, [{"sheet_num": 1, "learned_patterns": ["a", 5]}]],
            "save: sheets[0].learned_patterns[1] is 5; expected `str`, got `int`",
        ),
        (
            ["save_sheet", "j", {"sheet_num": 1, "extra": {"x": [b"y"]}}],
            "save_sheet: sheet.extra['x'][0] is b'y'; expected a JSON value, not bytes",
        ),
        (
            ["save", {**JOB, "created_at": "2026-01-01T00:00:00"}, []],
            "save: state.created_at is ",
        ),
    ],
)
def test_refusal_names_operation_field_value_and_what_is_allowed(message: Any, words: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode_request(msgspec.msgpack.encode(message))

    assert words in str(refused.value)


@pytest.mark.parametrize("message", [b"", b"\xc1", b"\x91", b"\xa2\xff\xff", b"\x91" * 5000])
def test_bytes_that_cannot_be_read_are_said_to_be_so(message: bytes) -> None:
    with pytest.raises(InvalidRequest, match="the message cannot be read"):
        decode_request(message)


@pytest.mark.parametrize("name", ["fl\ny", "x" * 60_000])
def test_what_cannot_be_read_is_told_in_one_short_line(name: str) -> None:
    no_text = b"\xa1\xff"
    message = b"\x92" + msgspec.msgpack.encode(name) + no_text

    with pytest.raises(InvalidRequest, match="the message cannot be read") as refused:
        decode_request(message)

    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("part", ["x", " - at `$", " - at `$[1]`"])
def test_long_value_is_told_with_its_place(part: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^query_jobs: status is .*; expected one of pend"):
        decode_request(msgspec.msgpack.encode(["query_jobs", part * 100_000]))


def test_unknown_operation_is_told_all_that_are_known() -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode_request(msgspec.msgpack.encode(["fly"]))

    for name in OPERATIONS:
        assert name in str(refused.value)
