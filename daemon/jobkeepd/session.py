"""One connection: bytes in, requests to the operations, answers out.

What lives here: the limits of a connection, its deadlines, and back-pressure. What may not: what a
message looks like (that is `dialects`), what a request does, and what connections share (that is
`connections`).

Reading from a peer stops while it has too many requests in flight or is slow to take its replies,
so that one connection can only ever occupy so much of the daemon. While it is not read from, no
deadline runs for it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import select
import time
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from jobkeep_protocol import messages
from jobkeep_protocol.errors import JobkeepError, LimitExceeded, ProtocolError
from jobkeep_protocol.messages import ConnectedClient
from jobkeep_protocol.request import Request, Role, name_of
from jobkeepd.access import command_of
from jobkeepd.dialects import FIRST_JSON_BYTE, Dialect
from jobkeepd.dialects.binary import BinaryDialect
from jobkeepd.exchange import Exchange
from jobkeepd.limits import Limits, exceeded

if TYPE_CHECKING:
    from jobkeepd.access import Access, Peer
    from jobkeepd.connections import Connections
    from jobkeepd.operations import Operations

log = logging.getLogger(__name__)

MUCH_BYTES = 64 * 1024
"""A part of a message, or a reply, that is no larger than this is not looked at for its size."""

_ids = itertools.count(1)


class Session(asyncio.Protocol):
    """One connection, from its first byte to its end."""

    def __init__(
        self, operations: Operations, connections: Connections, access: Access, limits: Limits
    ) -> None:
        self._operations = operations
        self._connections = connections
        self._access = access
        self._limits = limits
        self._dialect: Dialect = BinaryDialect(self, limits)  # until the first byte tells
        self._transport: asyncio.Transport | None = None
        self._peer: Peer | None = None
        self._has_begun = False
        self._is_known = False
        self._in_flight = 0
        self._unsent_replies = 0
        self._is_writable = True
        self._is_draining = False
        self._is_reading = True
        self._is_beginning = False
        self._backlog: deque[Any] = deque()
        """What came in one piece with requests that are under way, and has to wait for them."""
        self._deadline: asyncio.TimerHandle | None = None
        """Of the hello, and then of a message that has begun."""
        self._idle_since = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None
        self.connection_id = next(_ids)
        self._connected_at = self._last_at = time.monotonic()
        self._requests = 0
        self._bytes_in = 0
        self._bytes_out = 0
        self._last_request: type[Request[Any]] | None = None
        self.command = "?"
        """The name of the peer's command, as it was when it connected: it may be gone soon."""

    # -- who it is (see `exchange.Caller`) ----------------------------------------------------

    @property
    def peer(self) -> Peer:
        """Who is at the other end of a connection that was let in."""
        assert self._peer is not None, "connection_made comes first"
        return self._peer

    @property
    def client_id(self) -> bytes:
        return self._dialect.client.client_id

    @property
    def dialect(self) -> messages.Dialect:
        return self._dialect.name

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def unsent_bytes(self) -> int:
        """Replies that the peer has not taken."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    @property
    def unfinished_bytes(self) -> int:
        """What has come of a message that is not complete."""
        return self._dialect.stream.pending_bytes

    # -- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._bound_writing()
        try:
            self._peer = self._access.peer_of(transport.get_extra_info("socket"))
            self._access.check_entry(self._peer)
            self._connections.let_in(self)
            self.command = command_of(self._peer.pid)
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
        self._bytes_in += len(data)
        if not self._has_begun:
            self._choose_dialect(data)
        try:
            for message in self._dialect.stream.receive_data(data):
                if self._backlog or not self._may_begin:
                    self._backlog.append(message)
                else:
                    self._dialect.receive(message)
        except ProtocolError as error:
            self._refuse(error)
        if self._in_flight or self._backlog or not self._is_reading:
            self._adjust_reading()
        if self._dialect.stream.pending_bytes or self._deadline is not None:
            self._message_is_unfinished()

    def eof_received(self) -> bool:
        """The peer sends no more, and may still read: answer what was received, then close."""
        if (last := self._dialect.end()) is not None:
            self._backlog.append(last)
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
        if self._in_flight:
            self._operations.gave_up(self)
        self._connections.ended(self)

    # -- the daemon's side --------------------------------------------------------------------

    def drain(self) -> None:
        """Take no more requests; close when those received are answered."""
        self._is_draining = True
        self._go_on()

    def end_streams(self) -> None:
        """What is answered again and again is so for the last time."""
        self._dialect.end_streams()

    def describe(self, claims: int) -> ConnectedClient:
        """What is known of it; its process has so many `claims`. The peer was let in, so it has a
        role."""
        now, peer, client = time.monotonic(), self.peer, self._dialect.client
        last = self._last_request
        return ConnectedClient(
            connection_id=self.connection_id,
            pid=peer.pid,
            uid=peer.uid,
            gid=peer.gid,
            command=self.command,
            role=cast(Role, peer.role),
            dialect=self._dialect.name if self._has_begun else None,
            name=client.name,
            version=client.version,
            connected_seconds=round(now - self._connected_at, 3),
            idle_seconds=0.0 if self._in_flight else round(now - self._last_at, 3),
            requests=self._requests,
            in_flight=self._in_flight,
            bytes_in=self._bytes_in,
            bytes_out=self._bytes_out,
            last_operation=None if last is None else name_of(last),
            claims=claims,
            unsent_bytes=self.unsent_bytes,
        )

    def abort(self) -> None:
        """End the connection without answering."""
        if self._transport is not None:
            self._transport.abort()

    def give_way(self, error: LimitExceeded) -> None:
        """End the connection because others need what it holds, with the reason if it listens."""
        if self.unsent_bytes:
            self._note_refusal(error)
            self.abort()
        else:
            self._refuse(error)

    # -- requests (see `dialects.Line`) -------------------------------------------------------

    def peer_is_known(self) -> None:
        self._is_known = True
        self._stop_deadline()
        self._connections.said_hello(self)

    def begin(self, exchange: Exchange) -> None:
        self._in_flight += 1
        self._requests += 1
        self._last_request = type(exchange.request)
        self._operations.dispatch(exchange)

    def answer(self, exchange: Exchange, body: bytes) -> int:
        self._in_flight -= 1
        self._last_at = time.monotonic()
        size = self._dialect.answer(exchange, body) if self.is_open else 0
        if self._backlog or self._is_draining or not self._is_reading or self._dialect.has_more:
            self._go_on()
        return size

    def refused(self, error: JobkeepError) -> None:
        self._operations.accounts.refused(error)

    def send(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return  # the client went away; what it asked for is done all the same
        self._bytes_out += len(data)
        is_slow = transport.get_write_buffer_size() > 0
        transport.write(data)
        if is_slow:
            self._count_unsent_reply(transport)
        else:
            self._unsent_replies = 0
        if is_slow or len(data) > MUCH_BYTES:
            self._connections.unsent.grown(self)

    def _choose_dialect(self, data: bytes) -> None:
        """The first byte tells."""
        self._has_begun = True
        if data[0] == FIRST_JSON_BYTE:
            from jobkeepd.dialects.varlink import VarlinkDialect  # when asked for

            self._dialect = VarlinkDialect(self, self._limits)
            self.peer_is_known()

    def _refuse(self, error: JobkeepError) -> None:
        """Give one reason and close; what has not begun never does."""
        self._backlog.clear()
        self._note_refusal(error)
        if self.is_open:
            self._dialect.refuse(error)
        if self._transport is not None:
            self._transport.close()

    def _note_refusal(self, error: JobkeepError) -> None:
        self.refused(error)
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
        return (
            self._is_writable
            and self._in_flight < self._dialect.max_in_flight
            and not self._dialect.has_more
        )

    def _go_on(self) -> None:
        """There may be room now: begin what had to wait, and read on."""
        if self._dialect.has_more and self._is_writable:
            if self._has_hung_up():
                self.abort()
            else:
                self._dialect.go_on()
        if self._backlog and self._may_begin and not self._is_beginning:
            self._is_beginning = True
            try:
                while self._backlog and self._may_begin:
                    self._dialect.receive(self._backlog.popleft())
            except ProtocolError as error:
                self._refuse(error)
            finally:
                self._is_beginning = False
        is_done = self._in_flight == 0 and not self._backlog and not self._dialect.has_more
        if self._is_draining and is_done and self._transport is not None:
            self._transport.close()
        self._adjust_reading()

    def _has_hung_up(self) -> bool:
        """Whether the peer neither sends nor reads any more (poll(2), POLLHUP): nothing else tells,
        as long as it is not read from and nothing is written to it."""
        if self._transport is None:
            return True
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), 0)
        return bool(poll.poll(0))

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

    def _message_is_unfinished(self) -> None:
        """A part of a message is there, or was there before."""
        if self.unfinished_bytes > MUCH_BYTES:
            self._connections.unfinished.grown(self)
        self._adjust_deadline()

    def _adjust_deadline(self) -> None:
        """A message that has begun has to end in time, unless it is us who do not read on."""
        if not self._is_known:
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
