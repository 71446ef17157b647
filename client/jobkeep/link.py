"""The connection that all threads of a process share, without an event loop.

What lives here: `Link`, which sends the requests of many threads and reads the replies for all of
them. What may not: what a request means (that is `client` and the protocol's `calls`).

No thread is started. Of the threads that wait for a reply, one *drives*: it connects, sends what
is left over, and reads for all. Each of the others sleeps on a bell of its own, which is rung when
its reply is there, or when the driver leaves and another has to drive.

A signal handler may raise anywhere, KeyboardInterrupt for one. So the lock is taken by `with` alone
(which the interpreter does not interrupt between taking it and entering the block), it is never
held while a thread waits, and what it guards is marked as dirty while it changes. Whoever finds it
dirty begins with a new connection, on which all that is unanswered is sent again.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import threading
import time
from io import FileIO
from pathlib import Path
from typing import Any

from jobkeep.core import Backoff, Pipeline, Ticket, is_passing, timed_out, unreachable
from jobkeep_protocol.errors import DaemonUnavailable, JobkeepError
from jobkeep_protocol.request import Request

READ_BYTES = 256 * 1024

LONGEST_WAIT = 3600.0
"""Seconds; poll(2) cannot wait for longer than 24 days, and waiting again costs nothing."""


class Link:
    """The connection of one process, made again whenever it is lost."""

    def __init__(self, path: Path) -> None:
        self.losses = 0
        """How often the connection was lost: what was seen before is not to be relied on."""
        self._path = path
        self._lock = threading.Lock()
        """Guards all that follows, but for `_callers`, whose every change is a single step."""
        self._is_dirty = False
        self._pipeline = Pipeline()
        self._socket: socket.socket | None = None
        self._outgoing = bytearray()
        self._callers: dict[int, _Caller] = {}
        """By thread: each has one call at a time."""
        self._driver: _Caller | None = None
        self._is_closed = False
        self._wake_up: FileIO | None = None
        """An eventfd(2) that ends the driver's wait; open while there is a driver to wake."""
        self._was_connected = False
        self._may_come_back = False
        self._backoff = Backoff()
        self._connect_at = 0.0

    def connect(self, timeout: float) -> None:
        """Connect now. Raises DaemonUnavailable or PermissionDenied."""
        deadline = time.monotonic() + timeout
        while (error := self._connect_once()) is not None:
            if not self._may_come_back or time.monotonic() >= deadline:
                raise error
            time.sleep(self._backoff.next_delay())

    def exchange(self, request: Request[Any], deadline: float, timeout: float) -> Any:
        """Send a request, as often as it takes, and give its reply."""
        thread = threading.get_ident()
        if thread in self._callers:
            return self._exchange_apart(request, deadline, timeout)
        caller = _Caller(thread, request)
        raised: BaseException | None = None
        try:
            self._callers[thread] = caller
            while not self._advance(caller) and (left := deadline - time.monotonic()) > 0:
                self._wait(caller, left)
        finally:
            while not caller.has_left:
                try:
                    self._leave(caller)
                except BaseException as error:  # noqa: BLE001 # raised again below
                    raised = error
        if raised is not None:
            raise raised
        if caller.ticket is None or not caller.ticket.is_done:
            raise timed_out(request, self._path, timeout, self._socket is not None)
        return caller.ticket.result()

    def close(self) -> None:
        """Close the connection. What is unanswered stays so, and its callers are told."""
        with self._lock:
            self._is_closed = True
            self._fail_all(_closed())
            self._disconnect()
            if self._driver is None:
                self._close_wake_up()

    def let_go(self) -> None:
        """Close our copy of a parent's connection; the parent's own stays as it is."""
        if self._socket is not None:
            self._socket.close()
        self._close_wake_up()

    def _connect_once(self) -> JobkeepError | None:
        with self._lock:
            if self._is_dirty:
                self._disconnect()
            self._is_dirty = True
            error = None
            if self._socket is None:
                error = self._try_to_connect()
                self._wake_driver()
            self._is_dirty = False
            return error

    def _exchange_apart(self, request: Request[Any], deadline: float, timeout: float) -> Any:
        """For a signal handler: the call it interrupted cannot go on before it returns."""
        link = Link(self._path)
        try:
            return link.exchange(request, deadline, timeout)
        finally:
            link.close()

    def _advance(self, caller: _Caller) -> bool:
        """Do what can be done now; whether the call has its reply. Never waits."""
        with self._lock:
            if self._is_dirty:
                self._disconnect()
            ticket = self._prepared(caller)
            self._is_dirty = True
            if ticket is not None:
                self._pipeline.begin(ticket)
                self._send(ticket.frame)
            if self._driver is None:
                self._driver = caller
            if self._driver is caller:
                self._drive(caller)
            self._is_dirty = False
            return caller.ticket is not None and caller.ticket.is_done

    def _wait(self, caller: _Caller, seconds: float) -> None:
        """Until there is something to do for this caller, or the time is over."""
        seconds = min(seconds, LONGEST_WAIT)
        if self._driver is not caller:
            caller.bell.acquire(timeout=seconds)
            return
        seconds = min(seconds, caller.pause)
        if caller.poll is None:
            time.sleep(seconds)
            return
        caller.has_news = bool(caller.poll.poll(seconds * 1000))

    def _leave(self, caller: _Caller) -> None:
        """End a call, and wake another if nobody drives now. If interrupted it can be done again.

        The last step comes without the lock: a signal handler that makes a call of its own has to
        find this one as long as the lock may be held.
        """
        with self._lock:
            caller.is_leaving = True
            if caller.ticket is not None and not caller.ticket.is_done:
                self._pipeline.abandon(caller.ticket)
            if self._driver is caller:
                self._driver = None
            if self._driver is None:
                self._hand_over()
        self._callers.pop(caller.thread, None)
        caller.has_left = True

    # -- holding the lock ---------------------------------------------------------------------

    def _hand_over(self) -> None:
        if self._is_closed:
            self._close_wake_up()
        for caller in tuple(self._callers.values()):
            if not caller.is_leaving:
                caller.ring()
                return

    def _prepared(self, caller: _Caller) -> Ticket | None:
        """A ticket for a caller that has none yet; None for one that has, or that has to wait."""
        if caller.ticket is not None:
            return None
        if self._is_closed:
            raise _closed()
        if self._pipeline.free_slots:
            caller.ticket = self._pipeline.prepare(caller.request)
            caller.ticket.waiter = caller
        return caller.ticket

    def _drive(self, caller: _Caller) -> None:
        if self._socket is None and self._connect_at <= time.monotonic():
            error = self._try_to_connect()
            if error is not None and not self._may_come_back:
                self._fail_all(error)
        if caller.has_news:
            caller.has_news = False
            self._drain_wake_up()
            self._flush()
            self._receive()
        self._prepare_to_wait(caller)

    def _prepare_to_wait(self, caller: _Caller) -> None:
        """What the driver waits for once it has let the lock go.

        A socket that another thread closes meanwhile is no danger: closing it wakes the driver.
        """
        caller.pause = max(0.0, self._connect_at - time.monotonic())
        if self._wake_up is None:
            caller.poll = None
            return
        caller.poll = select.poll()
        caller.poll.register(self._wake_up, select.POLLIN)
        if self._socket is not None:
            caller.pause = math.inf
            caller.poll.register(
                self._socket, select.POLLIN | (select.POLLOUT if self._outgoing else 0)
            )

    def _try_to_connect(self) -> JobkeepError | None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            connection.connect(os.fspath(self._path))
        except OSError as error:
            connection.close()
            self._may_come_back = self._was_connected or is_passing(error)
            self._connect_at = time.monotonic() + self._backoff.next_delay()
            return unreachable(self._path, error)
        if self._wake_up is None:
            self._wake_up = FileIO(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC), "r+")
        self._socket = connection
        self._was_connected = True
        self._outgoing.clear()
        self._send(self._pipeline.connection_made())
        return None

    def _send(self, data: bytes) -> None:
        """Send now, or leave it to the driver, in order. Without a connection: on the next one."""
        if self._socket is None:
            return
        had_more = bool(self._outgoing)
        self._outgoing += data
        if not had_more:
            self._flush()
        if self._outgoing:
            self._wake_driver()

    def _flush(self) -> None:
        while self._outgoing and self._socket is not None:
            try:
                sent = self._socket.send(self._outgoing)
            except BlockingIOError:
                return
            except OSError:
                self._disconnect()
                return
            del self._outgoing[:sent]

    def _receive(self) -> None:
        if self._socket is None:
            return
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._disconnect()
            return
        has_waiting = not self._pipeline.free_slots
        try:
            done = self._pipeline.receive_data(data)
        except JobkeepError as error:
            self._fail_all(error)
            self._disconnect()
            return
        for ticket in done:
            ticket.waiter.ring()
        if done:
            self._backoff.reset()
        if has_waiting:
            self._ring_all()

    def _fail_all(self, error: JobkeepError) -> None:
        self._pipeline.fail_all(error)
        self._ring_all()

    def _disconnect(self) -> None:
        """Forget the connection. If interrupted it can, and will, be done again."""
        self._is_dirty = True
        if self._socket is not None:
            self.losses += 1
            self._socket.close()
            self._socket = None
            self._connect_at = time.monotonic() + self._backoff.next_delay()
        self._outgoing.clear()
        self._pipeline.connection_lost()
        self._ring_all()
        self._wake_driver()

    def _ring_all(self) -> None:
        for caller in tuple(self._callers.values()):
            caller.ring()

    def _wake_driver(self) -> None:
        if self._wake_up is not None:
            os.eventfd_write(self._wake_up.fileno(), 1)

    def _drain_wake_up(self) -> None:
        if self._wake_up is not None:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake_up.fileno())

    def _close_wake_up(self) -> None:
        if self._wake_up is not None:
            self._wake_up.close()
            self._wake_up = None


class _Caller:
    """A thread that waits for the reply to one request."""

    __slots__ = (
        "bell",
        "has_left",
        "has_news",
        "is_leaving",
        "pause",
        "poll",
        "request",
        "thread",
        "ticket",
    )

    def __init__(self, thread: int, request: Request[Any]) -> None:
        self.thread = thread
        self.request = request
        self.ticket: Ticket | None = None
        self.bell = threading.Lock()
        self.bell.acquire()
        self.is_leaving = self.has_left = False
        self.poll: select.poll | None = None
        """What to wait for as the driver."""
        self.pause = 0.0
        """The longest wait as the driver, in seconds."""
        self.has_news = False
        """Whether the driver's wait has found something."""

    def ring(self) -> None:
        """Wake the thread, or let it not fall asleep. For holders of the link's lock."""
        if self.bell.locked():
            self.bell.release()


def _closed() -> DaemonUnavailable:
    return DaemonUnavailable("the client was closed by another thread")
