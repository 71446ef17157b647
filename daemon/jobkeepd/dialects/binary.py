"""The binary dialect: frames of msgpack, with a hello first.

What lives here: the hello, and requests out of frames and replies into frames. What may not: the
connection (that is `session`), and what a message looks like (that is the protocol's).
"""

from __future__ import annotations

from typing import Any

from jobkeep_protocol import messages
from jobkeep_protocol.codec import decode_request, encode_error, encode_reply, open_envelope
from jobkeep_protocol.errors import InvalidRequest, JobkeepError, LimitExceeded, ProtocolError
from jobkeep_protocol.framing import HEADER_BYTES, FrameReader, frame
from jobkeep_protocol.messages import (
    HELLO_ID,
    OLDEST_PROTOCOL_VERSION,
    PROTOCOL_VERSION,
    Hello,
    Welcome,
)
from jobkeep_protocol.values import show
from jobkeep_protocol.version import __version__
from jobkeepd.dialects import Client, Line
from jobkeepd.exchange import Exchange
from jobkeepd.limits import Limits, RequestLimits


class BinaryDialect:
    """One conversation in frames."""

    name: messages.Dialect = "binary"
    has_more = False

    def __init__(self, line: Line, limits: Limits) -> None:
        self._line = line
        self._limits = limits
        self._checks = RequestLimits(limits).checks
        self._has_greeted = False
        self.stream = FrameReader(limit=limits.max_hello_bytes)
        self.client = Client()
        self.max_in_flight = limits.max_in_flight

    def receive(self, message: bytes) -> None:
        request_id, content = open_envelope(message)
        if not self._has_greeted:
            self._greet(request_id, content)
            return
        try:
            request = decode_request(content)
            if isinstance(request, Hello):
                raise InvalidRequest("hello was said before on this connection")
            for check in self._checks:
                check(request)
        except JobkeepError as error:
            self._line.refused(error)
            self._line.send(frame(encode_error(request_id, error)))
            return
        size = len(message)
        self._line.begin(Exchange(self._line, request_id, request, size, HEADER_BYTES + size))

    def end(self) -> None:
        """A frame that is cut off is none."""

    def answer(self, exchange: Exchange, body: bytes) -> int:
        try:
            framed = frame(body)
        except LimitExceeded as error:
            exchange.error = error
            framed = frame(encode_error(exchange.request_id, error))
        self._line.send(framed)
        return len(framed)

    def go_on(self) -> None:
        """Nothing does: each request has one answer."""

    def refuse(self, error: JobkeepError) -> None:
        self._line.send(frame(encode_error(HELLO_ID, error)))

    def end_streams(self) -> None:
        """There are none."""

    def _greet(self, request_id: int, content: Any) -> None:
        try:
            hello = decode_request(content)
        except JobkeepError as error:
            raise ProtocolError(f"the first message is no hello: {error}") from error
        if not isinstance(hello, Hello) or request_id != HELLO_ID:
            raise ProtocolError(
                f"the first message is {type(hello).__name__} with id {request_id}; expected a "
                f"hello with id {HELLO_ID}"
            )
        if not OLDEST_PROTOCOL_VERSION <= hello.protocol <= PROTOCOL_VERSION:
            raise ProtocolError(
                f"{show(hello.name)} {show(hello.version)} speaks protocol {hello.protocol}; this "
                f"daemon speaks {OLDEST_PROTOCOL_VERSION} to {PROTOCOL_VERSION}. Install matching "
                "versions of jobkeep",
                {"oldest": OLDEST_PROTOCOL_VERSION, "newest": PROTOCOL_VERSION},
            )
        self.client = Client(hello.client_id, hello.name, hello.version)
        self._has_greeted = True
        self._line.peer_is_known()
        self.stream.limit = self._limits.max_frame_bytes
        welcome = Welcome(
            PROTOCOL_VERSION,
            "jobkeepd",
            __version__,
            OLDEST_PROTOCOL_VERSION,
            self._limits.max_frame_bytes,
            self._limits.max_in_flight,
        )
        self._line.send(frame(encode_reply(HELLO_ID, welcome)))
