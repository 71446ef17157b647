"""A client that is only a socket and the protocol: it sends what it is told to, when it is told.

It never retries, never reconnects and never hides a reply, so that tests of the daemon see what
happens on the wire.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from jobkeep_protocol.codec import decode_reply, encode_request, open_envelope
from jobkeep_protocol.framing import FrameReader, frame
from jobkeep_protocol.messages import (
    HELLO_ID,
    PROTOCOL_VERSION,
    Hello,
    Load,
    Save,
    Saved,
    Welcome,
)
from jobkeep_protocol.request import Request
from jobkeep_protocol.states import CheckpointState, SheetState, trusted_state
from tests.support import PATIENCE, scaled

T = TypeVar("T")
READ_BYTES = 65_536


class Wire:
    """One connection. Without `hello=False` it has said hello when it is made."""

    def __init__(self, path: Path, client_id: bytes = b"", *, hello: bool = True) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(scaled(PATIENCE))
        try:
            self._socket.connect(str(path))
        except OSError:
            self.close()
            raise
        self._frames = FrameReader()
        self._received: list[bytes] = []
        self._ids = itertools.count(1)
        self._filled = 0
        if hello:
            try:
                self.welcome = self.say_hello(client_id)
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def say_hello(self, client_id: bytes = b"", protocol: int = PROTOCOL_VERSION) -> Welcome:
        """The first exchange; gives the daemon's part of it."""
        self.send(Hello(protocol, "test", "0", client_id), HELLO_ID)
        return self.reply_to(Hello)

    def send(self, request: Request[Any], request_id: int | None = None) -> int:
        """Send a request without waiting; gives its id."""
        request_id = next(self._ids) if request_id is None else request_id
        self.send_bytes(frame(encode_request(request_id, request)))
        return request_id

    def send_bytes(self, data: bytes) -> None:
        """Send anything."""
        self._socket.sendall(data)

    def receive(self) -> tuple[int, Any]:
        """The next answer: the id of its request and what it holds, still encoded.

        Raises EOFError when the daemon has closed the connection.
        """
        while not self._received:
            data = self._socket.recv(READ_BYTES)
            if not data:
                raise EOFError("the daemon closed the connection")
            self._received.extend(self._frames.receive_data(data))
        return open_envelope(self._received.pop(0))

    def rest(self) -> Iterator[tuple[int, Any]]:
        """All that the daemon says until it closes the connection."""
        with suppress(EOFError, ConnectionError):
            while True:
                yield self.receive()

    def is_closed(self) -> bool:
        """Whether the daemon closes the connection, after what it may say; waits for that."""
        for _ in self.rest():
            pass
        return True

    def reply_to(self, operation: type[Request[T]]) -> T:
        """The next answer, decoded as one to `operation`. Raises its error."""
        return decode_reply(operation, self.receive()[1])

    def ask(self, request: Request[T], request_id: int | None = None) -> T:
        """Send a request and wait for its reply, which must be the next one."""
        sent = self.send(request, request_id)
        request_id, message = self.receive()
        assert request_id == sent, "another reply came first"
        return decode_reply(type(request), message)

    def ask_raw(self, message: list[Any], request_id: int = 9) -> Any:
        """Send a message that no request may be; gives what the answer holds, decoded."""
        self.send_bytes(frame(msgspec.msgpack.encode([request_id, message])))
        return msgspec.msgpack.decode(self.receive()[1])

    def fill_up(self, request: Request[Any]) -> None:
        """Send a request again and again, taking no reply, until the kernel takes no more.

        Afterwards a part of a request may be on its way, and nothing more can be asked.
        """
        data = frame(encode_request(next(self._ids), request))
        self._socket.setblocking(False)
        try:
            while True:
                taken = 0
                while taken < len(data):
                    taken += self._socket.send(data[taken:])
                self._filled += 1
        except BlockingIOError:
            pass
        finally:
            self._socket.settimeout(scaled(PATIENCE))

    def replies_to(self, request: Request[T]) -> Iterator[T]:
        """The replies to all that `fill_up` has sent."""
        while self._filled:
            self._filled -= 1
            yield self.reply_to(type(request))

    def send_with_descriptors(self, request: Request[Any], descriptors: list[int]) -> None:
        """Send a request, and open files along with it where the kernel allows that."""
        data = frame(encode_request(next(self._ids), request))
        try:
            socket.send_fds(self._socket, [data], descriptors)
        except PermissionError:  # from Linux 6.16 on the daemon has it refused
            self.send_bytes(data)

    def shut_down(self, how: int) -> None:
        """Close one direction."""
        self._socket.shutdown(how)

    def save(self, state: CheckpointState, request_id: int | None = None) -> Saved:
        """Save a whole state."""
        sheets = list(state.sheets.values())
        saved = self.ask(Save(_without_sheets(state), sheets), request_id)
        assert saved is not None, "a whole state needs no base"
        return saved

    def load(self, job_id: str = "job") -> tuple[CheckpointState, dict[int, SheetState]]:
        """The kept job and its sheets."""
        loaded = self.ask(Load(job_id))
        assert loaded is not None, f"no job {job_id!r}"
        assert loaded.state is not None, "the first page has the job"
        state = trusted_state(loaded.state, loaded.sheets)
        sheets, state.sheets = state.sheets, {}
        return state, sheets

    def close(self) -> None:
        """Go away."""
        self._socket.close()


def _without_sheets(state: CheckpointState) -> CheckpointState:
    fields = {name: getattr(state, name) for name in state.__struct_fields__}
    return CheckpointState(**{**fields, "sheets": {}})
