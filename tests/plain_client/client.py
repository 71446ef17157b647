"""The client: frames of msgpack, request ids, and sending again what was not answered."""

import os
import socket
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from .packing import pack, unpack

PROTOCOL = 1
SLOTS = 64
HELLO_ID = 0


class DaemonError(Exception):
    """What the daemon answers to a request that it does not do."""

    def __init__(self, code: str, message: str, data: dict[str, Any]) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.data = data


class Welcome(NamedTuple):
    """The answer to a hello, as far as this client knows it."""

    protocol: int
    name: str
    version: str
    oldest_protocol: int
    max_frame_bytes: int
    max_in_flight: int


class Client:
    """One identity at the daemon, over as many connections as it takes.

    ``begin`` sends a request, ``finish`` waits for its reply; in between the connection, or the
    daemon, may go away and come back.
    """

    def __init__(self, path: str, connect_seconds: float = 10.0) -> None:
        self.path = path
        self.connect_seconds = connect_seconds
        self.client_id = os.urandom(16)
        self._sequence = 0
        self._unanswered: dict[int, bytes] = {}
        self._replies: dict[int, list[Any]] = {}
        self._connect()

    def call(self, operation: str, *fields: Any) -> Any:
        """Return the reply to a request. Raises ``DaemonError`` when it is an error."""
        return self.finish(self.begin(operation, *fields))

    def begin(self, operation: str, *fields: Any) -> int:
        """Send a request and return its id."""
        request_id = self._next_id()
        frame = _frame([request_id, [operation, *fields]])
        self._unanswered[request_id] = frame
        try:
            self._socket.sendall(frame)
        except OSError:
            self._connect()
        return request_id

    def finish(self, request_id: int) -> Any:
        """Wait for the reply to a request, sending it again where that is needed."""
        while request_id not in self._replies:
            try:
                self._receive()
            except OSError:
                self._connect()
        outcome, *rest = self._replies.pop(request_id)
        if outcome == "ok":
            return rest[0]
        raise DaemonError(*rest[:3])

    def break_off(self) -> None:
        """Lose the connection with all that is unread on it, and come back."""
        self.close()
        self._connect()

    def close(self) -> None:
        """End the connection; what has no reply yet may or may not be done."""
        self._stream.close()
        self._socket.close()

    def _next_id(self) -> int:
        """Return an id in a slot in which nothing is outstanding."""
        taken = {request_id % SLOTS for request_id in self._unanswered}
        slot = min(set(range(SLOTS)) - taken)
        self._sequence += 1
        return self._sequence * SLOTS + slot

    def _connect(self) -> None:
        """Connect, say hello and send again all that has no reply, under the ids it had."""
        give_up_at = time.monotonic() + self.connect_seconds
        while True:
            self._socket = socket.socket(socket.AF_UNIX)
            try:
                self._socket.connect(self.path)
                self.welcome = self._greet()
                for request_id in sorted(self._unanswered):
                    self._socket.sendall(self._unanswered[request_id])
            except OSError:
                self._socket.close()
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(0.02)
            else:
                return

    def _greet(self) -> Welcome:
        self._stream = self._socket.makefile("rb")
        hello = ["hello", PROTOCOL, "plain client", "1.0", self.client_id]
        self._socket.sendall(_frame([HELLO_ID, hello]))
        _, (outcome, *rest) = self._read()
        if outcome != "ok":
            raise DaemonError(*rest[:3])
        return Welcome(*rest[0][: len(Welcome._fields)])

    def _receive(self) -> None:
        request_id, reply = self._read()
        if request_id == HELLO_ID:
            raise DaemonError(*reply[1:4])
        if reply[0] == "error" and reply[3].get("outcome") == "unknown":
            raise ConnectionError(f"the daemon ends: {reply[2]}")
        del self._unanswered[request_id]
        self._replies[request_id] = reply

    def _read(self) -> list[Any]:
        length = int.from_bytes(self._read_exactly(4), "big")
        message: list[Any] = unpack(self._read_exactly(length))
        return message

    def _read_exactly(self, count: int) -> bytes:
        data = self._stream.read(count)
        if len(data) < count:
            raise ConnectionError("the daemon closed the connection")
        return data


def _frame(message: list[Any]) -> bytes:
    body = pack(message)
    return len(body).to_bytes(4, "big") + body


def load(
    client: Client, job_id: str
) -> tuple[dict[str, Any], dict[int, dict[str, Any]], int] | None:
    """Return a job without its sheets, its sheets by number, and their sequence."""
    while loaded := client.call("load", job_id):
        state, page, sequence, more = loaded[:4]
        sheets = {sheet["sheet_num"]: sheet for sheet in page}
        while more:
            following = client.call("load", job_id, max(sheets, default=0))
            if following is None or following[2] != sequence:
                break
            _, page, _, more = following[:4]
            sheets |= {sheet["sheet_num"]: sheet for sheet in page}
        else:
            return state, sheets, sequence
    return None


def history(client: Client, job_id: str, page: int) -> Iterator[dict[str, Any]]:
    """Yield the records of a job, newest first, ``page`` at a time."""
    before = None
    while True:
        records, more = client.call("get_execution_history", job_id, None, page, before)[:2]
        yield from records
        if len(records) < page and not more:
            return
        before = min(record["id"] for record in records)


class Watcher:
    """Follows the events of one job, or of all; what happens between pages is in the next one."""

    def __init__(self, client: Client, job_id: str | None = None, after: int | None = None) -> None:
        self.client = client
        self.job_id = job_id
        self.after = after

    def page(self, wait_seconds: float = 30.0) -> list[dict[str, Any]]:
        """Return what is new, or nothing when nothing was in ``wait_seconds``."""
        events, self.after = self.client.call("watch", self.job_id, self.after, wait_seconds)[:2]
        return list(events)
