"""What both clients do without I/O: ids, what is unanswered, what is sent again, how long to wait.

What lives here: `Pipeline`, which knows the requests on their way, and the errors for a daemon that
is not there. What may not: sockets, asyncio, threads, sleeping. The faces feed it bytes and send
what it gives.

The life of a request: `start` gives it an id and a slot; it is unanswered until its reply arrives
or its caller abandons it. What is unanswered when a connection is lost is sent again on the next
one, under the same id, and the daemon applies it once. An abandoned request keeps its slot until
its reply arrives or the connection is lost, so that no slot ever has two requests outstanding.
"""

from __future__ import annotations

import errno
import heapq
import os
import random
from pathlib import Path
from typing import Any

import msgspec

from jobkeep.address import SYSTEM_SOCKET
from jobkeep_protocol.codec import (
    OK_BEGINS,
    decode_reply,
    encode_request,
    open_envelope,
)
from jobkeep_protocol.errors import (
    DaemonUnavailable,
    JobkeepError,
    PermissionDenied,
    RequestTimeout,
    StorageError,
)
from jobkeep_protocol.framing import MAX_FRAME_BYTES, FrameReader, frame
from jobkeep_protocol.messages import (
    HELLO_ID,
    PROTOCOL_VERSION,
    SLOTS,
    Hello,
)
from jobkeep_protocol.request import Request, Write, name_of
from jobkeep_protocol.values import check_number, refused
from jobkeep_protocol.version import __version__

DEFAULT_TIMEOUT = 10.0

FIRST_DELAY = 0.01
LONGEST_DELAY = 0.5


def check_timeout(timeout: float) -> float:
    """A client's timeout. Raises InvalidRequest for what is no number of seconds above 0."""
    check_number("timeout", timeout, 0)
    if timeout == 0:
        raise refused("timeout", timeout, "a number of seconds above 0")
    return timeout


def patience(request: Request[Any], timeout: float) -> float:
    """How many seconds the reply may take: a stream first waits for something new."""
    waits: float = getattr(request, "wait_seconds", 0.0)
    return timeout + waits


class Ticket:
    """One request on its way. `waiter` belongs to the face.

    Done once `is_done`; then `result()` gives the reply or raises the error.
    """

    __slots__ = ("_error", "_message", "frame", "is_abandoned", "request", "request_id", "waiter")

    def __init__(self, request_id: int, request: Request[Any], framed: bytes) -> None:
        self.request_id = request_id
        self.request = request
        self.frame = framed
        self.is_abandoned = False
        self.waiter: Any = None
        self._message: msgspec.Raw | None = None
        self._error: JobkeepError | None = None

    @property
    def is_done(self) -> bool:
        """Whether there is a result."""
        return self._message is not None or self._error is not None

    def answer(self, message: msgspec.Raw) -> None:
        """The reply has arrived."""
        self._message = message

    def fail(self, error: JobkeepError) -> None:
        """There will be no reply."""
        self._error = error

    def result(self) -> Any:
        """The reply, decoded. Raises the error of an error reply."""
        if self._error is not None:
            raise self._error
        assert self._message is not None, "only a ticket that is done has a result"
        return decode_reply(type(self.request), self._message)


class Pipeline:
    """The requests of one client, over any number of connections one after the other."""

    def __init__(self) -> None:
        self._client_id = os.urandom(16)
        self._free_slots = list(range(SLOTS))
        self._sequences = [0] * SLOTS
        self._unanswered: dict[int, Ticket] = {}
        self._untold: list[Ticket] = []
        """Done by a piece that then could not be read on: `fail_all` tells of them."""
        self._frames = FrameReader()
        self._max_frame_bytes = MAX_FRAME_BYTES

    @property
    def free_slots(self) -> int:
        """How many requests may be started now."""
        return len(self._free_slots)

    @property
    def is_waiting(self) -> bool:
        """Whether anybody waits for a reply."""
        return any(not one.is_abandoned for one in self._unanswered.values())

    def start(self, request: Request[Any]) -> Ticket:
        """Give a request its id and its slot. The caller sends `ticket.frame`.

        Raises InvalidRequest for what cannot be encoded, LimitExceeded for what is too large.
        """
        ticket = self.prepare(request)
        self.begin(ticket)
        return ticket

    def prepare(self, request: Request[Any]) -> Ticket:
        """The first half of `start`, which raises what it raises and changes nothing."""
        slot = self._free_slots[0]
        request_id = (self._sequences[slot] + 1) * SLOTS + slot
        body = encode_request(request_id, request)
        return Ticket(request_id, request, frame(body, self._max_frame_bytes))

    def begin(self, ticket: Ticket) -> None:
        """The second half, for the ticket that was prepared last."""
        slot = heapq.heappop(self._free_slots)
        self._sequences[slot] += 1
        self._unanswered[ticket.request_id] = ticket

    def abandon(self, ticket: Ticket) -> None:
        """Nobody waits for this reply any more."""
        ticket.is_abandoned = True

    def waiting(self) -> list[Ticket]:
        """The requests somebody waits for."""
        return [one for one in self._unanswered.values() if not one.is_abandoned]

    def connection_made(self) -> bytes:
        """What to send first on a new connection: the hello, and again what is unanswered."""
        self.connection_lost()  # also settles what was abandoned while there was no connection
        self._frames = FrameReader()
        hello = Hello(
            PROTOCOL_VERSION, "jobkeep-python", __version__, self._client_id, MAX_FRAME_BYTES
        )
        first = frame(encode_request(HELLO_ID, hello))
        return first + b"".join(ticket.frame for ticket in self.waiting())

    def receive_data(self, data: bytes) -> list[Ticket]:
        """Take bytes from the daemon; gives the requests that are done now and not abandoned.

        Raises ProtocolError, PermissionDenied or LimitExceeded when this daemon cannot be talked
        to, or refuses to go on; then `fail_all` gives those that were done before.
        """
        done = self._untold = []
        for body in self._frames.receive_data(data):
            request_id, message = open_envelope(body)
            if request_id == HELLO_ID:
                self._max_frame_bytes = decode_reply(Hello, message).max_frame_bytes
                continue
            ticket = self._unanswered.get(request_id)
            if ticket is None:
                continue  # a second reply, to a request that was sent twice
            if _is_outcome_unknown(message):
                continue  # the daemon ends; it is asked again under the same id when it is back
            if not ticket.is_abandoned:
                ticket.answer(message)
                done.append(ticket)
            del self._unanswered[request_id]
            heapq.heappush(self._free_slots, request_id % SLOTS)
        self._untold = []
        return done

    def connection_lost(self) -> None:
        """No reply comes on this connection any more; abandoned requests give their slots back.

        Whatever was interrupted before, everything is in order afterwards.
        """
        self._unanswered = {
            request_id: ticket
            for request_id, ticket in self._unanswered.items()
            if not (ticket.is_abandoned or ticket.is_done)
        }
        taken = {request_id % SLOTS for request_id in self._unanswered}
        self._free_slots = [slot for slot in range(SLOTS) if slot not in taken]

    def fail_all(self, error: JobkeepError) -> list[Ticket]:
        """Every request fails with this error; gives those somebody waits for, and those whose
        replies came just before it."""
        failed = self.waiting()
        for ticket in failed:
            ticket.fail(error)
        told, self._untold = self._untold, []
        self._unanswered.clear()
        self._free_slots = list(range(SLOTS))
        return told + failed


def _is_outcome_unknown(message: msgspec.Raw) -> bool:
    """Whether this is the reply of a daemon whose disk failed; see its committer."""
    if memoryview(message)[: len(OK_BEGINS)] == OK_BEGINS:
        return False
    try:
        decode_reply(Hello, message)
    except StorageError as error:
        return error.data.get("outcome") == "unknown"
    except JobkeepError:
        pass
    return False


class Backoff:
    """The pauses between attempts to connect: each twice as long, up to half a second, with
    jitter, so that the clients of a daemon that restarts do not all come at once."""

    def __init__(self) -> None:
        self._delay = FIRST_DELAY

    def reset(self) -> None:
        """The daemon answers: begin with short pauses the next time."""
        self._delay = FIRST_DELAY

    def next_delay(self) -> float:
        """How many seconds to wait before the next attempt."""
        delay, self._delay = self._delay, min(self._delay * 2, LONGEST_DELAY)
        return delay * random.uniform(0.5, 1.0)  # noqa: S311 # spreads load, keeps no secret


def is_passing(error: OSError) -> bool:
    """Whether connecting may work in a moment although nothing changes: the backlog is full."""
    return error.errno in {errno.EAGAIN, errno.EINTR}


def unreachable(path: Path, error: OSError) -> JobkeepError:
    """The error for a connection that cannot be made."""
    facts = {"socket": str(path)}
    if error.errno in {errno.EACCES, errno.EPERM}:
        return PermissionDenied(
            f"uid {os.geteuid()} may not connect to {path}: {error.strerror}; {_way_in(path)}, or "
            "start a daemon of your own with `jobkeepd`",
            {**facts, "role": "read"},
        )
    reason = error.strerror or str(error)
    if os.path.exists(path) and not path.is_socket():  # noqa: PTH110 # raises nothing
        reason = "it is no socket"
    elif error.errno is not None:
        return DaemonUnavailable(
            f"no daemon answers at {path} ({reason}); start one with `{_start(path)}`, or "
            "name another socket (--socket, $JOBKEEP_SOCKET)",
            facts,
        )
    return DaemonUnavailable(
        f"no daemon can be at {path} ({reason}); name the socket of one (--socket, "
        "$JOBKEEP_SOCKET), or start one with `jobkeepd`",
        facts,
    )


def timed_out(request: Request[Any], path: Path, timeout: float, connected: bool) -> JobkeepError:
    """The error for a request without a reply."""
    name = name_of(type(request))
    facts = {"socket": str(path), "operation": name, "timeout": timeout}
    fate = ""
    if isinstance(request, Write):
        fate = "; it may or may not have been applied"
    if connected:
        return RequestTimeout(f"{name} got no reply from {path} within {timeout:g} s{fate}", facts)
    return DaemonUnavailable(
        f"{name}: the daemon at {path} went away and did not come back within {timeout:g} s{fate}; "
        f"start it again with `{_start(path)}`",
        facts,
    )


def _start(path: Path) -> str:
    """The command that starts the daemon of a socket."""
    return (
        "systemctl start jobkeep.socket" if path == SYSTEM_SOCKET else f"jobkeepd --socket {path}"
    )


def _way_in(path: Path) -> str:
    """How to become somebody who may connect."""
    if path == SYSTEM_SOCKET:
        return "join its group with `usermod -aG jobkeep USER` and log in anew"
    return "run as the user that the daemon runs as"
