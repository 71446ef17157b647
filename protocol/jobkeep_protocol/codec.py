"""The codec between messages and the bodies of frames.

What lives here: every operation by its name; encoding and decoding requests, replies and errors.
What may not: sockets, frames, and what a message means (that is `messages`).

A body is a msgpack array (design: the wire):

    up      [request_id, [operation, field, …]]
    down    [request_id, ["ok", reply]]   or   [request_id, ["error", code, message, data]]
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Generic, Union

import msgspec
from msgspec import Meta, Struct

from jobkeep_protocol import messages
from jobkeep_protocol.errors import InvalidRequest, JobkeepError, ProtocolError, error_from_wire
from jobkeep_protocol.explain import (
    UNDECODABLE,
    UNENCODABLE,
    explain_request,
    explain_unencodable,
    in_one_line,
)
from jobkeep_protocol.request import ReplyT, Request, name_of, reply_type
from jobkeep_protocol.values import MAX_INTEGER
from jobkeep_protocol.weight import check_weight


class Ok(Struct, Generic[ReplyT], frozen=True, array_like=True, tag="ok"):
    """A reply."""

    value: ReplyT


OK_BEGINS = msgspec.msgpack.encode(Ok(None))[:-1]
"""The bytes that every reply which is no error begins with, told without decoding the rest."""


class Failure(Struct, frozen=True, array_like=True, tag="error"):
    """An error reply."""

    code: str
    message: str
    data: dict[str, Any] = {}


OPERATIONS: dict[str, type[Request[Any]]] = {
    name_of(declared): declared
    for declared in vars(messages).values()
    if isinstance(declared, type)
    and issubclass(declared, Request)
    and declared.__module__ == messages.__name__
}
"""Every operation by its name on the wire."""


_encoder = msgspec.msgpack.Encoder()
_RequestId = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
_envelope_decoder = msgspec.msgpack.Decoder(tuple[_RequestId, msgspec.Raw])


@cache
def _request_decoder() -> msgspec.msgpack.Decoder[Any]:
    # Made on first use: clients decode no requests, and it takes as long as all of the Structs.
    return msgspec.msgpack.Decoder(
        Union[tuple(OPERATIONS.values())]  # noqa: UP007 # a union of a computed list has no other form
    )


_reply_decoders: dict[type[Request[Any]], msgspec.msgpack.Decoder[Any]] = {
    # Made here and not on first use: that may be by several threads at once, and msgspec lets one
    # of them decode by what another has made only half of, which ends the process.
    operation: msgspec.msgpack.Decoder(Ok[reply_type(operation)] | Failure)  # type: ignore[misc] # a type known only at run time
    for operation in OPERATIONS.values()
}


def _encode(body: Any) -> bytes:
    try:
        return _encoder.encode(body)
    except UNENCODABLE as error:
        raise explain_unencodable(error, body[1]) from error


def encode_request(request_id: int, request: Request[Any]) -> bytes:
    """The body for a request. Raises InvalidRequest for a value that cannot be encoded."""
    return _encode((request_id, request))


def encode_reply(request_id: int, reply: Any) -> bytes:
    """The body for a reply."""
    return _encode((request_id, Ok(reply)))


def encode_part(part: Any) -> msgspec.Raw:
    """A part of a reply, encoded ahead so that its size is known; put it where the part goes."""
    return msgspec.Raw(_encode(part))


def encode_error(request_id: int, error: JobkeepError) -> bytes:
    """The body for an error."""
    return _encode((request_id, Failure(error.code, str(error), error.data)))


def open_envelope(body: bytes) -> tuple[int, msgspec.Raw]:
    """The request id of a body, which fits in 63 bits, and what it holds, still encoded.

    Raises ProtocolError: without an id there is nobody to answer.
    """
    try:
        return _envelope_decoder.decode(body)
    except UNDECODABLE as error:
        raise ProtocolError(f"a frame holds no [request_id, message]: {error}") from error


def decode_request(message: bytes | msgspec.Raw) -> Request[Any]:
    """The request of an envelope.

    Raises InvalidRequest with the operation, the field, the value and what is allowed, and
    LimitExceeded for what would take too much memory (see `weight`).
    """
    check_weight(memoryview(message))
    try:
        request: Request[Any] = _request_decoder().decode(message)
    except UNDECODABLE as error:
        raise InvalidRequest(explain_request(error, message, OPERATIONS)) from error
    return request


def decode_reply(operation: type[Request[ReplyT]], message: bytes | msgspec.Raw) -> ReplyT:
    """What the daemon answered.

    Raises the error of an error reply, and ProtocolError for what is no reply to `operation`.
    """
    try:
        answer = _reply_decoders[operation].decode(message)
    except UNDECODABLE as error:
        raise ProtocolError(
            f"the daemon's reply to {name_of(operation)} cannot be read: "
            f"{in_one_line(error)}; is it another version?"
        ) from error
    if isinstance(answer, Failure):
        raise error_from_wire(answer.code, answer.message, answer.data)
    value: ReplyT = answer.value
    return value
