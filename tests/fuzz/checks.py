"""What must hold of any bytes, on both sides of the wire.

What lives here: what each side makes of a stream, and the assertions that are true whatever it
holds. What may not: making streams.

Messages, 'more is needed', or one of the errors for it: any other exception leaves these functions.
"""

from __future__ import annotations

from collections.abc import Iterable

from jobkeep.core import Pipeline, Ticket
from jobkeep_protocol.codec import (
    decode_request,
    encode_error,
    encode_request,
    open_envelope,
)
from jobkeep_protocol.errors import InvalidRequest, JobkeepError, LimitExceeded, ProtocolError
from jobkeep_protocol.framing import FrameReader
from jobkeep_protocol.json_text import MessageReader
from jobkeep_protocol.request import Request, operation_name
from jobkeep_protocol.varlink import decode_call, own_reply, to_request
from jobkeep_protocol.varlink import encode_error as encode_call_error
from tests.fuzz.conversations import requests_of_replies

LONGEST_REASON = 1_000
"""Characters in what an error says: all operations are named in some, whole values in none."""

Outcome = tuple[str, str]
"""What was told apart, and what came of it."""


def outcomes_in_daemon(pieces: Iterable[bytes]) -> list[Outcome]:
    """What a daemon makes of the bytes of a client, message by message."""
    reader = FrameReader()
    found: list[Outcome] = []
    try:
        for piece in pieces:
            for body in reader.receive_data(piece):
                request_id, message = open_envelope(body)
                found.append((f"{request_id} {bytes(message).hex()}", _request_in(message)))
    except ProtocolError as error:
        found.append(("the end", reason(error)))
    return found


def outcomes_of_calls(pieces: Iterable[bytes]) -> list[Outcome]:
    """What a daemon makes of the bytes of a client that speaks JSON, message by message."""
    reader = MessageReader()
    found: list[Outcome] = []
    try:
        for piece in pieces:
            for body, end in reader.receive_data(piece):
                found.append((f"{body.hex()} {end.hex()}", _called_in(body)))
    except ProtocolError as error:
        found.append(("the end", reason(error)))
    return found


def outcomes_in_client(pieces: Iterable[bytes]) -> list[Outcome]:
    """What a client makes of the bytes of a daemon, when it waits for a reply to everything."""
    pipeline = Pipeline()
    for request in requests_of_replies():
        pipeline.start(request)
    found: list[Outcome] = []
    try:
        for piece in pieces:
            found.extend(map(_outcome_of, pipeline.receive_data(piece)))
    except JobkeepError as error:
        found.extend(map(_outcome_of, pipeline.fail_all(error)))
        found.append(("the end", type(error).__name__))  # what it says may be the daemon's words
    return found


def reason(error: JobkeepError) -> str:
    """What an error says: in one line, and in few words however much it is about."""
    text = str(error)
    assert text.isprintable(), text
    assert len(text) <= LONGEST_REASON, text
    assert len(encode_error(1, error)) <= 2 * LONGEST_REASON
    return f"{type(error).__name__}: {text}"


def _request_in(message: bytes) -> str:
    try:
        request = decode_request(message)
    except (InvalidRequest, LimitExceeded) as error:
        return reason(error)
    _check_can_be_sent_again(request)
    return operation_name(type(request).__name__)


def _called_in(body: bytes) -> str:
    call = decode_call(body)
    try:
        if own_reply(call) is not None:
            return "of the service"
        request, _ = to_request(call)
    except JobkeepError as error:
        _check_is_short(error)
        return reason(error)
    _check_can_be_sent_again(request)
    return operation_name(type(request).__name__)


def _check_is_short(error: JobkeepError) -> None:
    assert len(encode_call_error(error)) <= 2 * LONGEST_REASON, error


def _check_can_be_sent_again(request: Request[object]) -> None:
    """What is understood is a request like one of ours: it means the same when we send it."""
    _, message = open_envelope(encode_request(1, request))
    assert decode_request(message) == request


def _outcome_of(ticket: Ticket) -> Outcome:
    try:
        result: object = ticket.result()
    except JobkeepError as error:
        result = error
    return str(ticket.request_id), type(result).__name__
