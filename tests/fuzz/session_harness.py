"""A session of the daemon without a socket: bytes go in, its replies come out.

What lives here: a real `Session` over a real store in a file, with a transport that keeps what is
written, for fuzzers that need thousands of conversations a minute. What may not: choosing bytes.
Everything that knows how a session is made is in `_converse`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from jobkeep_protocol.codec import open_envelope
from jobkeep_protocol.framing import FrameReader
from jobkeep_protocol.messages import ConnectedClient, DaemonStatus
from jobkeep_protocol.varlink import ERROR_NAMES
from jobkeepd.access import Access, Peer
from jobkeepd.connections import Connections
from jobkeepd.limits import DEFAULT_LIMITS
from jobkeepd.operations import Operations
from jobkeepd.session import Session
from jobkeepd.store.store import Store
from tests.fuzz.dialects import FRAMES, JSON
from tests.protocol.examples import REPLIES

Reply = tuple[int, list[Any]]
"""The request id, and `["ok", …]` or `["error", code, …]`."""


class SessionHarness:
    """A store and its operations, and one session after the other. Use as a context manager.

    Raises AssertionError for what no bytes may cause: a defect that is logged, an exception that
    the loop has to handle, a reply that is none.
    """

    def __init__(
        self, directory: Path, new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None
    ) -> None:
        self._database = directory / "state.db"
        self._new_loop = new_loop
        self._defects: list[str] = []
        self._resources = ExitStack()

    def __enter__(self) -> SessionHarness:
        with ExitStack() as resources:
            self._runner = resources.enter_context(asyncio.Runner(loop_factory=self._new_loop))
            self._runner.get_loop().set_exception_handler(
                lambda _, context: self._defects.append(str(context))
            )
            handler = _Collector(self._defects)
            logger = logging.getLogger("jobkeepd")
            logger.addHandler(handler)
            resources.callback(logger.removeHandler, handler)
            self._runner.run(self._open())
            resources.callback(lambda: self._runner.run(self._close()))
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._resources.close()

    def converse(self, pieces: Iterable[bytes]) -> list[Reply]:
        """What a session answers to these bytes, when the client then goes away."""
        self._defects.clear()
        written = self._runner.run(self._converse(pieces))
        assert not self._defects, "\n".join(self._defects)
        replies = [_reply_in(body) for body in FrameReader().receive_data(written)]
        assert FRAMES.join(FRAMES.split(written)) == written, "a reply is cut off"
        return replies

    def call(self, pieces: Iterable[bytes]) -> list[dict[str, Any]]:
        """The same in JSON, as it comes: with several replies to a call that asked for more."""
        self._defects.clear()
        written = self._runner.run(self._converse(pieces))
        assert not self._defects, "\n".join(self._defects)
        *replies, rest = written.replace(b"\0", b"\n").split(b"\n")
        assert rest == b"", "a reply is cut off"
        return [_call_reply_in(body) for body in replies]

    async def _open(self) -> None:
        self._store = Store(
            self._database, "normal", lambda error: self._defects.append(str(error))
        )
        self._operations = Operations(self._store, inspector=_Inspector())
        self._operations.end_waits()  # no conversation waits for something new
        await self._operations.start()

    async def _close(self) -> None:
        await self._operations.close()
        await self._store.close()

    async def _converse(self, pieces: Iterable[bytes]) -> bytes:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            connections = Connections(DEFAULT_LIMITS)
            session = Session(self._operations, connections, Access(), DEFAULT_LIMITS)
            transport = _Transport(ours, session)
            session.connection_made(transport)
            for piece in pieces:
                await transport.may_read.wait()
                if transport.is_closing():
                    break
                session.data_received(piece)
            await connections.drain()
            await self._operations.drain()
        return bytes(transport.written)


class _Inspector:
    """Tells of a daemon that there is none of."""

    async def status(self) -> DaemonStatus:
        status: DaemonStatus = REPLIES["status"][1]
        return status

    async def clients(self) -> list[ConnectedClient]:
        return []

    def kill(self, connection_id: int, by: Peer) -> bool:
        del connection_id, by
        return False


class _Transport(asyncio.Transport):
    """Keeps what is written, and takes it as fast as it comes."""

    def __init__(self, connection: socket.socket, session: Session) -> None:
        super().__init__({"socket": connection})
        self.written = bytearray()
        self.may_read = asyncio.Event()
        self.may_read.set()
        self._session = session
        self._is_closing = False

    def write(self, data: bytes | bytearray | memoryview[int]) -> None:
        """Keep it."""
        self.written += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is buffered."""

    def get_write_buffer_size(self) -> int:
        """Nothing is."""
        return 0

    def pause_reading(self) -> None:
        """No more data for now."""
        self.may_read.clear()

    def resume_reading(self) -> None:
        """More data."""
        self.may_read.set()

    def is_closing(self) -> bool:
        """Whether the session has closed it."""
        return self._is_closing

    def close(self) -> None:
        """End the connection on the next turn of the loop, as a transport does."""
        if not self._is_closing:
            self._is_closing = True
            self.may_read.set()
            asyncio.get_running_loop().call_soon(self._session.connection_lost, None)

    def abort(self) -> None:
        """The same."""
        self.close()


class _Collector(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self, found: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._found = found

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self._found.append(self.format(record))


def _reply_in(body: bytes) -> Reply:
    request_id, message = open_envelope(body)
    reply = FRAMES.decode(bytes(message))
    assert reply[0] in {"ok", "error"}, reply
    assert reply[1:2] != ["internal_error"], reply
    return request_id, reply


def _call_reply_in(body: bytes) -> dict[str, Any]:
    reply: dict[str, Any] = JSON.decode(body)
    assert reply.keys() <= {"parameters", "continues", "error"}, reply
    assert reply.get("error") != ERROR_NAMES["internal_error"], reply
    return reply
