"""The blocking client.

What lives here: one connection, shared by all threads of a process, without an event loop. What may
not: anything the asynchronous client needs too (that is in `core`, `states` and the protocol's
`calls`).

No thread is started. Of the threads that wait for a reply, one *drives*: it connects, sends what
is left over, and reads for all; when its own reply is there it leaves the wheel to another. The
socket is non-blocking, so that no thread ever holds the lock while it waits for the daemon.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
import weakref
from datetime import datetime
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar, overload

from jobkeep.address import find_socket
from jobkeep.core import (
    DEFAULT_TIMEOUT,
    Backoff,
    Pipeline,
    Ticket,
    check_timeout,
    is_passing,
    timed_out,
    unreachable,
)
from jobkeep.states import TypedStateCalls
from jobkeep_protocol import calls
from jobkeep_protocol.backend import (
    ExecutionRecord,
    JobStatistics,
    JobSummary,
    StateBackend,
    StateT,
    highest_sheet,
)
from jobkeep_protocol.errors import DaemonUnavailable, JobkeepError
from jobkeep_protocol.messages import DaemonStatus, RecordExecution, Request, Status
from jobkeep_protocol.states import CheckpointState, SheetState

T = TypeVar("T")

READ_BYTES = 256 * 1024


class Client(Generic[StateT]):
    """A state backend over a daemon's socket, blocking.

    The methods are those of AsyncClient, without `await`. `socket` is a path or `unix:///path`;
    without it the usual places are looked at (`address`). `state_type` may be a pydantic model, a
    dataclass or a Struct of your own. `timeout` is in seconds, for each call as a whole, connecting
    and sending again included.

    It connects on first use, or on `with`. All threads of a process share one connection and any
    number of them may call at the same time. A daemon that was never reached raises
    DaemonUnavailable at once; one that goes away is waited for until the timeout, and what was
    unanswered is sent again and applied once. In a forked child the client connects anew.
    """

    @overload
    def __init__(
        self: Client[CheckpointState],
        socket: str | os.PathLike[str] | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None: ...

    @overload
    def __init__(
        self,
        socket: str | os.PathLike[str] | None = None,
        *,
        state_type: type[StateT],
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None: ...

    def __init__(
        self,
        socket: str | os.PathLike[str] | None = None,
        *,
        state_type: type[Any] = CheckpointState,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        self.socket = find_socket(socket)
        self.timeout = check_timeout(timeout)
        self._states: TypedStateCalls[StateT] = TypedStateCalls(state_type)
        self._link: _Link | None = None
        self._losses = 0
        self._lock = threading.Lock()
        """Guards what is above: what was seen is shared by the calls of all threads."""
        _clients.add(self)

    def __enter__(self) -> Client[StateT]:
        self._usable_link().connect(self.timeout)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def load(self, job_id: str) -> StateT | None:
        return self._run(self._states.load(job_id))

    def save(self, state: StateT, *, if_revision: int | None = None) -> int:
        return self._run(self._states.save(state, if_revision))

    def delete(self, job_id: str) -> bool:
        return self._run(self._states.delete(job_id))

    def list_jobs(self) -> list[StateT]:
        return self._run(self._states.list_jobs())

    def get_next_sheet(self, job_id: str) -> int | None:
        return self._run(calls.get_next_sheet(job_id))

    def mark_sheet_status(
        self,
        job_id: str,
        sheet_num: int,
        status: str,
        error_message: str | None = None,
    ) -> None:
        self._run(calls.mark_sheet_status(job_id, sheet_num, status, error_message))

    def save_sheet(self, job_id: str, sheet: SheetState) -> int:
        return self._run(self._states.save_sheet(job_id, sheet))

    def claim_next_sheet(self, job_id: str, *, max_attempts: int = 1) -> int | None:
        return self._run(calls.claim_next_sheet(job_id, max_attempts))

    def record_execution(
        self,
        job_id: str,
        sheet_num: int,
        attempt_num: int,
        prompt: str | None = None,
        output: str | None = None,
        exit_code: int | None = None,
        duration_seconds: float | None = None,
    ) -> int | None:
        request = RecordExecution(
            job_id, sheet_num, attempt_num, prompt, output, exit_code, duration_seconds
        )
        return self._run(calls.ask(request))

    def get_execution_history(
        self,
        job_id: str,
        sheet_num: int | None = None,
        limit: int = 100,
        before_id: int | None = None,
    ) -> list[ExecutionRecord]:
        return self._run(calls.get_execution_history(job_id, sheet_num, limit, before_id))

    def get_execution_history_count(self, job_id: str, sheet_num: int | None = None) -> int:
        return self._run(calls.get_execution_history_count(job_id, sheet_num))

    def get_job_statistics(self, job_id: str) -> JobStatistics:
        return self._run(calls.get_job_statistics(job_id))

    def query_jobs(
        self,
        status: str | None = None,
        since: datetime | None = None,
        limit: int = 50,
        after: JobSummary | str | None = None,
    ) -> list[JobSummary]:
        return self._run(calls.query_jobs(status, since, limit, after))

    def infer_state_from_artifacts(
        self, job_id: str, workspace: str | Path, artifact_pattern: str
    ) -> int | None:
        del job_id  # the pattern says which files are the job's
        return highest_sheet(path.name for path in Path(workspace).glob(artifact_pattern))

    def status(self) -> DaemonStatus:
        """How the daemon is."""
        return self._run(calls.ask(Status()))

    @property
    def supports_execution_history(self) -> bool:
        return True

    def close(self) -> None:
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()

    def _forked(self) -> None:
        """This is a forked child: begin anew. Locks may have been held by threads not here."""
        self._lock = threading.Lock()
        link, self._link = self._link, None
        if link is not None:
            link.let_go()

    def _run(self, call: calls.Call[T]) -> T:
        link = self._usable_link()
        deadline = time.monotonic() + self.timeout
        return calls.run_blocking(
            call, lambda request: link.exchange(request, deadline, self.timeout), self._lock
        )

    def _usable_link(self) -> _Link:
        with self._lock:
            if self._link is None:
                self._link = _Link(self.socket)
                self._losses = -1
            if self._losses != self._link.losses:
                self._losses = self._link.losses
                self._states.forget()
            return self._link


def _share_docstrings() -> None:
    """The contract of each method is written once, in StateBackend."""
    for name, method in vars(Client).items():
        if method.__doc__ is None and name in vars(StateBackend):
            method.__doc__ = vars(StateBackend)[name].__doc__


_share_docstrings()

_clients: weakref.WeakSet[Client[Any]] = weakref.WeakSet()


def _after_fork() -> None:
    for client in _clients:
        client._forked()  # noqa: SLF001 # for this module only: no part of the API


os.register_at_fork(after_in_child=_after_fork)


class _Link:
    """The connection of one process, made again whenever it is lost.

    `_changed` guards all state and is notified when replies have come or the driver has left.
    """

    def __init__(self, path: Path) -> None:
        self.losses = 0
        """How often the connection was lost: what was seen before is not to be relied on."""
        self._path = path
        self._pipeline = Pipeline()
        self._changed = threading.Condition()
        self._socket: socket.socket | None = None
        self._outgoing = bytearray()
        self._has_driver = False
        self._is_closed = False
        self._wake_up: FileIO | None = None
        """An eventfd(2) that ends the driver's wait when there is something to send."""
        self._was_connected = False
        self._may_come_back = False
        self._backoff = Backoff()
        self._connect_at = 0.0

    def connect(self, timeout: float) -> None:
        """Connect now. Raises DaemonUnavailable or PermissionDenied."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while self._socket is None and (error := self._try_to_connect()) is not None:
                if not self._may_come_back or time.monotonic() >= deadline:
                    raise error
                self._changed.wait(self._backoff.next_delay())

    def exchange(self, request: Request[Any], deadline: float, timeout: float) -> Any:
        """Send a request, as often as it takes, and give its reply."""
        ticket: Ticket | None = None
        try:
            with self._changed:
                while not self._pipeline.free_slots and time.monotonic() < deadline:
                    self._wait_or_drive(deadline)
                if self._is_closed:
                    raise _closed()
                if self._pipeline.free_slots:
                    ticket = self._pipeline.start(request)
                    self._send_or_disconnect(ticket.frame)
                while ticket is not None and not ticket.is_done and time.monotonic() < deadline:
                    self._wait_or_drive(deadline)
                if ticket is None or not ticket.is_done:
                    raise timed_out(request, self._path, timeout, self._socket is not None)
        finally:
            if ticket is not None and not ticket.is_done:
                self._pipeline.abandon(ticket)
        return ticket.result()

    def close(self) -> None:
        """Close the connection. What is unanswered stays so, and its callers are told."""
        with self._changed:
            self._is_closed = True
            self._pipeline.fail_all(_closed())
            while self._has_driver:
                self._wake_driver()
                self._changed.wait()
            self._disconnect()
            if self._wake_up is not None:
                self._wake_up.close()

    def let_go(self) -> None:
        """Close our copy of a parent's connection; the parent's own stays as it is."""
        if self._socket is not None:
            self._socket.close()
        if self._wake_up is not None:
            self._wake_up.close()

    # -- holding the lock ---------------------------------------------------------------------

    def _wait_or_drive(self, deadline: float) -> None:
        """Let something happen: by driving, or by waiting for the thread that does."""
        if self._has_driver:
            self._changed.wait(deadline - time.monotonic())
            return
        self._has_driver = True
        try:
            self._drive(deadline)
        except BaseException:
            # Ctrl-C, say: bytes may have been read or sent that are not accounted for. On a new
            # connection all that is unanswered is sent again.
            self._disconnect()
            raise
        finally:
            self._has_driver = False
            self._changed.notify_all()

    def _drive(self, deadline: float) -> None:
        if self._socket is None:
            pause = self._connect_at - time.monotonic()
            if pause > 0:
                self._changed.wait(min(pause, deadline - time.monotonic()))
                return
            error = self._try_to_connect()
            if error is not None and not self._may_come_back:
                self._pipeline.fail_all(error)
            return
        assert self._wake_up is not None, "made with the first connection"
        events = select.POLLIN | (select.POLLOUT if self._outgoing else 0)
        poll = select.poll()
        poll.register(self._socket, events)
        poll.register(self._wake_up, select.POLLIN)
        try:
            self._changed.release()
            ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        finally:
            self._take_lock_again()
        if ready and self._socket is not None:
            self._drain_wake_up()
            self._flush()
            self._receive()

    def _take_lock_again(self) -> None:
        """Acquire, whatever signal handlers raise meanwhile: the callers are inside of `with`."""
        raised: BaseException | None = None
        is_held = False
        while not is_held:
            try:
                is_held = self._changed.acquire()
            except BaseException as error:  # noqa: BLE001 # raised again below
                raised = error
        if raised is not None:
            raise raised

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

    def _send_or_disconnect(self, data: bytes) -> None:
        if self._socket is not None:
            try:
                self._send(data)
            except BaseException:  # as in _wait_or_drive
                self._disconnect()
                raise

    def _send(self, data: bytes) -> None:
        """Send now, or leave it to the driver, in order."""
        had_more = bool(self._outgoing)
        self._outgoing += data
        if not had_more:
            self._flush()
        if self._outgoing and self._has_driver:
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
        try:
            done = self._pipeline.receive_data(data)
        except JobkeepError as error:
            self._pipeline.fail_all(error)
            self._disconnect()
            return
        if done:
            self._backoff.reset()

    def _wake_driver(self) -> None:
        if self._wake_up is not None:
            os.eventfd_write(self._wake_up.fileno(), 1)

    def _drain_wake_up(self) -> None:
        if self._wake_up is not None:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake_up.fileno())

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self.losses += 1
            self._outgoing.clear()
            self._pipeline.connection_lost()
            self._wake_driver()  # it may be waiting on the socket that was just closed
            self._connect_at = time.monotonic() + self._backoff.next_delay()


def _closed() -> DaemonUnavailable:
    return DaemonUnavailable("the client was closed by another thread")
