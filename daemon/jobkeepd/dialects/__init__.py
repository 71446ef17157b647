"""The dialects of the socket: how messages lie in the stream, and how they are answered.

What lives here: the choice of the dialect by the first byte, and what every dialect offers to a
session. What may not: the connection (that is `session`), and what a request does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from jobkeep_protocol import messages
from jobkeep_protocol.errors import JobkeepError
from jobkeepd.exchange import Caller, Exchange

FIRST_JSON_BYTE = 0x7B
"""`{`: no frame begins so, since none is that long (see `jobkeep_protocol.framing`)."""


class Stream(Protocol):
    """Takes a stream of bytes apart."""

    @property
    def pending_bytes(self) -> int:
        """How much has come of a message that is not complete."""

    def receive_data(self, data: bytes) -> Iterable[Any]:
        """The messages that are complete now. Raises ProtocolError."""


class Dialect(Protocol):
    """One conversation in one dialect."""

    @property
    def name(self) -> messages.Dialect:
        """Which one it is."""

    @property
    def stream(self) -> Stream:
        """What takes the stream apart."""

    @property
    def client(self) -> Client:
        """Who the peer says it is."""

    @property
    def max_in_flight(self) -> int:
        """How many requests may be under way at once."""

    def receive(self, message: Any) -> None:
        """Act on one message that the stream gave.

        Raises ProtocolError for one after which nothing can follow.
        """

    def end(self) -> Any:
        """The stream has ended: a last message that is complete by that, None without one."""

    def answer(self, exchange: Exchange, body: bytes) -> int:
        """Send the answer to a request, which comes in the binary dialect; gives its bytes."""

    @property
    def has_more(self) -> bool:
        """Whether a request that was answered goes on by itself."""

    def go_on(self) -> None:
        """There is room again: begin what goes on."""

    def refuse(self, error: JobkeepError) -> None:
        """Send the reason for which the connection is closed."""

    def end_streams(self) -> None:
        """The daemon ends: a request that is answered again and again is so for the last time."""


class Client(NamedTuple):
    """What a peer says of itself. `client_id` names it over several connections."""

    client_id: bytes = b""
    name: str = ""
    version: str = ""


class Line(Caller, Protocol):
    """What a dialect needs of its connection."""

    def peer_is_known(self) -> None:
        """The peer has said who it is, or speaks a dialect in which it need not."""

    def begin(self, exchange: Exchange) -> None:
        """Have a request worked on; its answer comes to `Dialect.answer`."""

    def send(self, data: bytes) -> None:
        """Write bytes to the peer."""

    def refused(self, error: JobkeepError) -> None:
        """A message was answered with an error before it was a request."""
