"""Protocol version 1 is these bytes, and stays these bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobkeep_protocol.codec import (
    OPERATIONS,
    decode_reply,
    decode_request,
    encode_error,
    encode_reply,
    encode_request,
    open_envelope,
)
from jobkeep_protocol.errors import JobkeepError
from jobkeep_protocol.messages import PROTOCOL_VERSION
from jobkeep_protocol.request import Request, operation_name
from tests.protocol.examples import ERRORS, REPLIES, REQUESTS

REQUEST_ID = 4_097
GOLDEN: dict[str, dict[str, str]] = json.loads(
    Path(__file__).with_name("golden_v1.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", REQUESTS)
def test_request_is_encoded_as_ever(name: str) -> None:
    assert encode_request(REQUEST_ID, REQUESTS[name]).hex() == GOLDEN["requests"][name]


@pytest.mark.parametrize(("name", "request_"), REQUESTS.items())
def test_bytes_of_a_request_are_understood_as_ever(name: str, request_: Request[Any]) -> None:
    request_id, message = open_envelope(bytes.fromhex(GOLDEN["requests"][name]))

    assert (request_id, decode_request(message)) == (REQUEST_ID, request_)


@pytest.mark.parametrize("name", REPLIES)
def test_reply_is_encoded_as_ever(name: str) -> None:
    assert encode_reply(REQUEST_ID, REPLIES[name][1]).hex() == GOLDEN["replies"][name]


@pytest.mark.parametrize(("name", "operation", "reply"), [(n, *r) for n, r in REPLIES.items()])
def test_bytes_of_a_reply_are_understood_as_ever(
    name: str, operation: type[Request[Any]], reply: Any
) -> None:
    request_id, message = open_envelope(bytes.fromhex(GOLDEN["replies"][name]))
    understood = decode_reply(operation, message)

    assert (request_id, type(understood)) == (REQUEST_ID, type(reply))
    assert msgspec.to_builtins(understood) == msgspec.to_builtins(reply)


@pytest.mark.parametrize("name", GOLDEN["outgrown"])
def test_bytes_of_a_reply_before_it_had_more_fields_are_understood(name: str) -> None:
    operation, reply = REPLIES[name]
    _, message = open_envelope(bytes.fromhex(GOLDEN["outgrown"][name]))

    assert decode_reply(operation, message) == reply


@pytest.mark.parametrize(("code", "error"), ERRORS.items())
def test_error_is_encoded_as_ever(code: str, error: JobkeepError) -> None:
    assert encode_error(REQUEST_ID, error).hex() == GOLDEN["errors"][code]


@pytest.mark.parametrize(("code", "error"), ERRORS.items())
def test_bytes_of_an_error_are_understood_as_ever(code: str, error: JobkeepError) -> None:
    _, message = open_envelope(bytes.fromhex(GOLDEN["errors"][code]))

    with pytest.raises(type(error)) as raised:
        decode_reply(OPERATIONS["load"], message)

    assert type(raised.value) is type(error)
    assert (str(raised.value), raised.value.data) == (str(error), error.data)


def test_golden_file_is_of_this_version_and_covers_every_operation() -> None:
    operations = set(OPERATIONS)

    assert PROTOCOL_VERSION == 1
    assert {operation_name(type(one).__name__) for one in REQUESTS.values()} == operations
    assert {operation_name(one.__name__) for one, _ in REPLIES.values()} == operations
    assert GOLDEN.keys() == {"requests", "replies", "errors", "outgrown"}
    assert GOLDEN["requests"].keys() == REQUESTS.keys()
    assert GOLDEN["replies"].keys() == REPLIES.keys()
    assert GOLDEN["errors"].keys() == ERRORS.keys()
