"""One connection: frames in, requests to the operations, replies out.

What lives here: the hello, the limits of a connection, and back-pressure. What may not: what a
request does.

Reading from a peer stops while it has too many requests in flight or is slow to take its replies,
so that one connection can only ever occupy so much of the daemon.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from jobkeep_protocol.errors import InvalidRequest, JobkeepError, LimitExceeded, ProtocolError
from jobkeep_protocol.framing import MAX_FRAME_BYTES, MAX_HELLO_BYTES, FrameReader, frame
from jobkeep_protocol.messages import (
    HELLO_ID,
    OLDEST_PROTOCOL_VERSION,
    PROTOCOL_VERSION,
    SLOTS,
    Hello,
    Welcome,
    decode_request,
    encode_error,
    encode_reply,
    open_envelope,
)
from jobkeep_protocol.version import __version__
from jobkeepd.access import Peer

if TYPE_CHECKING:
    from jobkeepd.operations import Operations

log = logging.getLogger(__name__)

MAX_UNSENT_BYTES = 256 * 1024
"""Replies waiting for a slow reader before nothing more is read from it."""


class Session(asyncio.Protocol):
    """One connection, from its hello to its end."""

    def __init__(self, operations: Operations, on_end: Callable[[Session], None]) -> None:
        self._operations = operations
        self._on_end = on_end
        self._frames = FrameReader(limit=MAX_HELLO_BYTES)
        self._transport: asyncio.Transport | None = None
        self._peer: Peer | None = None
        self._hello: Hello | None = None
        self._in_flight = 0
        self._is_writable = True
        self._is_draining = False
        self._is_reading = True
        self._is_beginning = False
        self._backlog: deque[bytes] = deque()
        """What came in one piece with requests that are under way, and has to wait for them."""

    # -- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=MAX_UNSENT_BYTES)
        self._peer = Peer.of(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._frames.receive_data(data):
                if self._backlog or not self._may_begin:
                    self._backlog.append(body)
                else:
                    self._receive(body)
        except ProtocolError as error:
            self._refuse(error)
        self._adjust_reading()

    def pause_writing(self) -> None:
        self._is_writable = False
        self._adjust_reading()

    def resume_writing(self) -> None:
        self._is_writable = True
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # whatever it was: what was received is done all the same
        self._transport = None
        self._on_end(self)

    # -- the daemon's side --------------------------------------------------------------------

    def drain(self) -> None:
        """Take no more requests; close when those received are answered."""
        self._is_draining = True
        self._go_on()

    def abort(self) -> None:
        """End the connection without answering."""
        if self._transport is not None:
            self._transport.abort()

    # -- inside -------------------------------------------------------------------------------

    def _receive(self, body: bytes) -> None:
        request_id, message = open_envelope(body)
        if self._hello is None:
            self._greet(request_id, message)
            return
        try:
            request = decode_request(message)
            if isinstance(request, Hello):
                raise InvalidRequest("hello was said before on this connection")
        except JobkeepError as error:
            self._send(encode_error(request_id, error))
            return
        assert self._peer is not None, "connection_made comes first"
        self._in_flight += 1
        self._operations.dispatch(
            self._peer, self._hello.client_id, request_id, request, self._answer, len(body)
        )

    def _greet(self, request_id: int, message: Any) -> None:
        try:
            hello = decode_request(message)
        except JobkeepError as error:
            raise ProtocolError(f"the first message is no hello: {error}") from error
        if not isinstance(hello, Hello) or request_id != HELLO_ID:
            raise ProtocolError(
                f"the first message is {type(hello).__name__} with id {request_id}; expected a "
                f"hello with id {HELLO_ID}"
            )
        if not OLDEST_PROTOCOL_VERSION <= hello.protocol <= PROTOCOL_VERSION:
            raise ProtocolError(
                f"{hello.name} {hello.version} speaks protocol {hello.protocol}; this daemon "
                f"speaks {OLDEST_PROTOCOL_VERSION} to {PROTOCOL_VERSION}. Install matching "
                "versions of jobkeep",
                {"oldest": OLDEST_PROTOCOL_VERSION, "newest": PROTOCOL_VERSION},
            )
        self._hello = hello
        self._frames.limit = MAX_FRAME_BYTES
        welcome = Welcome(
            PROTOCOL_VERSION,
            "jobkeepd",
            __version__,
            OLDEST_PROTOCOL_VERSION,
            MAX_FRAME_BYTES,
            SLOTS,
        )
        self._send(encode_reply(HELLO_ID, welcome))

    def _answer(self, body: bytes) -> None:
        self._in_flight -= 1
        self._send(body)
        self._go_on()

    def _send(self, body: bytes) -> None:
        if self._transport is None:
            return  # the client went away; what it asked for is done all the same
        try:
            framed = frame(body)
        except LimitExceeded as error:
            request_id, _ = open_envelope(body)
            framed = frame(encode_error(request_id, error))
        self._transport.write(framed)

    def _refuse(self, error: ProtocolError) -> None:
        """Give one reason and close."""
        log.info("connection of pid %d refused: %s", self._peer.pid if self._peer else 0, error)
        self._send(encode_error(HELLO_ID, error))
        if self._transport is not None:
            self._transport.close()

    @property
    def _may_begin(self) -> bool:
        """Whether one request more may be begun."""
        return self._is_writable and self._in_flight < SLOTS

    def _go_on(self) -> None:
        """There may be room now: begin what had to wait, and read on."""
        if self._backlog and self._may_begin and not self._is_beginning:
            self._is_beginning = True
            try:
                while self._backlog and self._may_begin:
                    self._receive(self._backlog.popleft())
            except ProtocolError as error:
                self._refuse(error)
            finally:
                self._is_beginning = False
        is_done = self._in_flight == 0 and not self._backlog
        if self._is_draining and is_done and self._transport is not None:
            self._transport.close()
        self._adjust_reading()

    def _adjust_reading(self) -> None:
        wants = self._may_begin and not self._backlog and not self._is_draining
        if wants is self._is_reading or self._transport is None or self._transport.is_closing():
            return
        self._is_reading = wants
        if wants:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()
