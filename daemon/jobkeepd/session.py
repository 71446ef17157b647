"""One connection: frames in, requests to the operations, replies out.

What lives here: the hello, the limits of a connection, and back-pressure. What may not: what a
request does, and what connections share (that is `connections`).

Reading from a peer stops while it has too many requests in flight or is slow to take its replies,
so that one connection can only ever occupy so much of the daemon. While it is not read from, no
deadline runs for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from jobkeep_protocol.codec import (
    decode_request,
    encode_error,
    encode_reply,
    open_envelope,
)
from jobkeep_protocol.errors import InvalidRequest, JobkeepError, LimitExceeded, ProtocolError
from jobkeep_protocol.framing import FrameReader, frame
from jobkeep_protocol.messages import (
    HELLO_ID,
    OLDEST_PROTOCOL_VERSION,
    PROTOCOL_VERSION,
    Hello,
    Welcome,
)
from jobkeep_protocol.values import show
from jobkeep_protocol.version import __version__
from jobkeepd.limits import Limits, RequestLimits, exceeded

if TYPE_CHECKING:
    from jobkeepd.access import Access, Peer
    from jobkeepd.connections import Connections
    from jobkeepd.operations import Operations

log = logging.getLogger(__name__)

MUCH_BYTES = 64 * 1024
"""A part of a message, or a reply, that is no larger than this is not looked at for its size."""


class Session(asyncio.Protocol):
    """One connection, from its first byte to its end."""

    def __init__(
        self, operations: Operations, connections: Connections, access: Access, limits: Limits
    ) -> None:
        self._operations = operations
        self._connections = connections
        self._access = access
        self._limits = limits
        self._request_checks = RequestLimits(limits).checks
        self._frames = FrameReader(limit=limits.max_hello_bytes)
        self._transport: asyncio.Transport | None = None
        self._peer: Peer | None = None
        self._hello: Hello | None = None
        self._in_flight = 0
        self._unsent_replies = 0
        self._is_writable = True
        self._is_draining = False
        self._is_reading = True
        self._is_beginning = False
        self._backlog: deque[bytes] = deque()
        """What came in one piece with requests that are under way, and has to wait for them."""
        self._deadline: asyncio.TimerHandle | None = None
        """Of the hello, and then of a frame that has begun."""
        self._idle_since = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None

    @property
    def peer(self) -> Peer:
        """Who is at the other end of a connection that was let in."""
        assert self._peer is not None, "connection_made comes first"
        return self._peer

    @property
    def unsent_bytes(self) -> int:
        """Replies that the peer has not taken."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    @property
    def unfinished_bytes(self) -> int:
        """What has come of a message that is not complete."""
        return self._frames.pending_bytes

    # -- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._bound_writing()
        try:
            self._peer = self._access.peer_of(transport.get_extra_info("socket"))
            self._access.check_entry(self._peer)
            self._connections.let_in(self)
        except JobkeepError as error:
            self._refuse(error)
            return
        self._start_deadline(self._limits.hello_seconds, "hello_seconds", "say hello at once")
        if self._limits.idle_seconds:
            self._idle_since = asyncio.get_running_loop().time()
            self._look_whether_idle()

    def data_received(self, data: bytes) -> None:
        if self._idle_timer is not None:
            self._idle_since = asyncio.get_running_loop().time()
        try:
            for body in self._frames.receive_data(data):
                if self._backlog or not self._may_begin:
                    self._backlog.append(body)
                else:
                    self._receive(body)
        except ProtocolError as error:
            self._refuse(error)
        self._adjust_reading()
        if self._frames.pending_bytes or self._deadline is not None:
            self._frame_is_unfinished()

    def eof_received(self) -> bool:
        """The peer sends no more, and may still read: answer what was received, then close."""
        self.drain()
        return True

    def pause_writing(self) -> None:
        self._is_writable = False
        self._adjust_reading()

    def resume_writing(self) -> None:
        self._is_writable = True
        self._unsent_replies = 0
        self._bound_writing()
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # whatever it was: what was begun is done all the same
        self._transport = None
        self._backlog.clear()
        self._stop_deadline()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._connections.ended(self)

    # -- the daemon's side --------------------------------------------------------------------

    def drain(self) -> None:
        """Take no more requests; close when those received are answered."""
        self._is_draining = True
        self._go_on()

    def abort(self) -> None:
        """End the connection without answering."""
        if self._transport is not None:
            self._transport.abort()

    def give_way(self, error: LimitExceeded) -> None:
        """End the connection because others need what it holds, with the reason if it listens."""
        if self.unsent_bytes:
            self._log_refusal(error)
            self.abort()
        else:
            self._refuse(error)

    # -- requests -----------------------------------------------------------------------------

    def _receive(self, body: bytes) -> None:
        request_id, message = open_envelope(body)
        if self._hello is None:
            self._greet(request_id, message)
            return
        try:
            request = decode_request(message)
            if isinstance(request, Hello):
                raise InvalidRequest("hello was said before on this connection")
            for check in self._request_checks:
                check(request)
        except JobkeepError as error:
            self._send(encode_error(request_id, error))
            return
        self._in_flight += 1
        self._operations.dispatch(
            self.peer,
            self._hello.client_id,
            request_id,
            request,
            self._answer,
            len(body),
            self._is_open,
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
                f"{show(hello.name)} {show(hello.version)} speaks protocol {hello.protocol}; this "
                f"daemon speaks {OLDEST_PROTOCOL_VERSION} to {PROTOCOL_VERSION}. Install matching "
                "versions of jobkeep",
                {"oldest": OLDEST_PROTOCOL_VERSION, "newest": PROTOCOL_VERSION},
            )
        self._hello = hello
        self._stop_deadline()
        self._connections.said_hello(self)
        self._frames.limit = self._limits.max_frame_bytes
        welcome = Welcome(
            PROTOCOL_VERSION,
            "jobkeepd",
            __version__,
            OLDEST_PROTOCOL_VERSION,
            self._limits.max_frame_bytes,
            self._limits.max_in_flight,
        )
        self._send(encode_reply(HELLO_ID, welcome))

    def _is_open(self) -> bool:
        """Whether there is anybody to answer."""
        return self._transport is not None and not self._transport.is_closing()

    def _answer(self, body: bytes) -> None:
        self._in_flight -= 1
        self._send(body)
        self._go_on()

    def _send(self, body: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return  # the client went away; what it asked for is done all the same
        try:
            framed = frame(body)
        except LimitExceeded as error:
            request_id, _ = open_envelope(body)
            framed = frame(encode_error(request_id, error))
        is_slow = transport.get_write_buffer_size() > 0
        transport.write(framed)
        if is_slow:
            self._count_unsent_reply(transport)
        else:
            self._unsent_replies = 0
        if is_slow or len(framed) > MUCH_BYTES:
            self._connections.unsent.grown(self)

    def _refuse(self, error: JobkeepError) -> None:
        """Give one reason and close; what has not begun never does."""
        self._backlog.clear()
        self._log_refusal(error)
        self._send(encode_error(HELLO_ID, error))
        if self._transport is not None:
            self._transport.close()

    def _log_refusal(self, error: JobkeepError) -> None:
        level = logging.INFO if isinstance(error, ProtocolError) else logging.WARNING
        peer = self._peer
        log.log(
            level,
            "connection of %s refused: %s",
            peer or "an unknown peer",
            error,
            extra=peer.fields if peer else None,
        )

    # -- back-pressure ------------------------------------------------------------------------

    @property
    def _may_begin(self) -> bool:
        """Whether one request more may be begun."""
        return self._is_writable and self._in_flight < self._limits.max_in_flight

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
        self._adjust_deadline()

    def _count_unsent_reply(self, transport: asyncio.Transport) -> None:
        """The peer has not taken the replies before this one: stop reading when there are many."""
        self._unsent_replies += 1
        if self._unsent_replies >= self._limits.max_unsent_replies and self._is_writable:
            transport.set_write_buffer_limits(high=0)  # until all of them are taken

    def _bound_writing(self) -> None:
        if self._transport is not None:
            self._transport.set_write_buffer_limits(
                high=self._limits.max_unsent_bytes_per_connection
            )

    # -- deadlines ----------------------------------------------------------------------------

    def _frame_is_unfinished(self) -> None:
        """A part of a frame is there, or was there before."""
        if self.unfinished_bytes > MUCH_BYTES:
            self._connections.unfinished.grown(self)
        self._adjust_deadline()

    def _adjust_deadline(self) -> None:
        """A frame that has begun has to end in time, unless it is us who do not read on."""
        if self._hello is None:
            return
        if not self.unfinished_bytes or not self._is_reading:
            self._stop_deadline()
        elif self._deadline is None:
            self._start_deadline(
                self._limits.frame_seconds, "frame_seconds", "send messages in one piece"
            )

    def _start_deadline(self, seconds: float, limit: str, advice: str) -> None:
        def too_late() -> None:
            what = f"what was begun on this connection was not complete within {seconds:g} s"
            self._refuse(exceeded(limit, seconds, what, advice))

        self._deadline = asyncio.get_running_loop().call_later(seconds, too_late)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _look_whether_idle(self) -> None:
        """Close after a time without requests. A client that has more to say connects again."""
        loop = asyncio.get_running_loop()
        if self._in_flight:
            self._idle_since = loop.time()
        closes_at = self._idle_since + self._limits.idle_seconds
        if loop.time() < closes_at:
            self._idle_timer = loop.call_at(closes_at, self._look_whether_idle)
        elif self._transport is not None:
            self._transport.close()
