"""One request and its answer, on their way through the daemon.

What lives here: what is known of a request between its arrival and its answer, and who is at the
other end. What may not: doing anything with it.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

from jobkeep_protocol.errors import JobkeepError
from jobkeep_protocol.messages import Dialect
from jobkeep_protocol.request import Request
from jobkeepd.access import Peer


class Caller(Protocol):
    """Whoever sends requests: a connection, or this process itself."""

    @property
    def peer(self) -> Peer:
        """The process."""

    @property
    def client_id(self) -> bytes:
        """Under which it sends writes again; empty for one that never does."""

    @property
    def connection_id(self) -> int:
        """The number of the connection; 0 for none."""

    @property
    def dialect(self) -> Dialect:
        """What it speaks."""

    @property
    def command(self) -> str:
        """The name of its command."""

    @property
    def is_open(self) -> bool:
        """Whether there is anybody to answer."""

    def answer(self, exchange: Exchange, body: bytes) -> int:
        """Take the body of the answer, in the binary dialect; gives how many bytes went out."""


class Exchange:
    """One request. Times are those of `time.monotonic`.

    `size` is that of the request in the binary dialect, `bytes_in` what came over the socket.
    """

    __slots__ = (
        "began_at",
        "bytes_in",
        "caller",
        "committed_at",
        "error",
        "received_at",
        "request",
        "request_id",
        "size",
    )

    def __init__(
        self, caller: Caller, request_id: int, request: Request[Any], size: int, bytes_in: int
    ) -> None:
        self.caller = caller
        self.request_id = request_id
        self.request = request
        self.size = size
        self.bytes_in = bytes_in
        self.received_at = time.monotonic()
        self.began_at = self.received_at
        """When its turn came: from here on it is worked on."""
        self.committed_at = self.received_at
        """When its transaction was on disk; when its turn came, for a read."""
        self.error: JobkeepError | None = None
        """What it is answered with instead of a reply."""

    def turn_came(self, began_at: float, committed_at: float) -> None:
        """It was worked on from the first of these moments, and on disk at the second. What is
        refused before its turn has not waited."""
        self.began_at = max(began_at, self.received_at)
        self.committed_at = max(committed_at, self.began_at)

    def wait_ended(self) -> None:
        """Until now it waited because it was asked to: that is no time that it took."""
        self.received_at = self.began_at = self.committed_at = time.monotonic()
