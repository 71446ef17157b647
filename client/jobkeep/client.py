"""The blocking client.

What lives here: the methods, and what a fork means to them. What may not: the connection (that is
`link`), and anything the asynchronous client needs too (that is in `core`, `states` and the
protocol's `calls`).
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar, overload

from jobkeep.address import find_socket
from jobkeep.backup_file import BackupFile
from jobkeep.core import DEFAULT_TIMEOUT, check_timeout, patience
from jobkeep.link import Link
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
from jobkeep_protocol.learning import LearnedPattern, SimilarOutcome
from jobkeep_protocol.messages import (
    DaemonStatus,
    Event,
    GetDurations,
    GetErrors,
    GetOutcomes,
    GetOverview,
    GetTimeline,
    GetValidations,
    ReadBackup,
    RecordExecution,
    StartBackup,
    Status,
)
from jobkeep_protocol.pruning import PruneResult
from jobkeep_protocol.reports import (
    Durations,
    Errors,
    Outcomes,
    Overview,
    Timeline,
    TimelineStep,
    Validations,
)
from jobkeep_protocol.request import Request
from jobkeep_protocol.search import SearchHit, SearchPage
from jobkeep_protocol.states import CheckpointState, SheetState
from jobkeep_protocol.watching import Events

T = TypeVar("T")


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
        self._link: Link | None = None
        self._losses = 0
        self._lock = threading.RLock()
        """Guards what is above: what was seen is shared by the calls of all threads, and by those
        of a signal handler in the midst of them."""
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

    def get_overview(
        self,
        *,
        job_id: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Overview:
        return self._run(calls.ask(GetOverview(job_id, name, since, until)))

    def get_durations(
        self,
        *,
        job_id: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 20,
    ) -> Durations:
        return self._run(calls.ask(GetDurations(job_id, name, since, until, limit)))

    def get_errors(
        self,
        *,
        job_id: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 20,
    ) -> Errors:
        return self._run(calls.ask(GetErrors(job_id, name, since, until, limit)))

    def get_validations(
        self,
        *,
        job_id: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> Validations:
        return self._run(calls.ask(GetValidations(job_id, name, since, until, limit)))

    def get_outcomes(
        self,
        *,
        job_id: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> Outcomes:
        return self._run(calls.ask(GetOutcomes(job_id, name, since, until, limit)))

    def get_timeline(
        self,
        *,
        job_id: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        by: TimelineStep = "hour",
    ) -> Timeline:
        return self._run(calls.ask(GetTimeline(job_id, name, since, until, by)))

    def get_learned_patterns(
        self, pattern: str | None = None, min_sheets: int = 1, limit: int = 100
    ) -> list[LearnedPattern]:
        return self._run(calls.get_learned_patterns(pattern, min_sheets, limit))

    def find_similar_outcomes(
        self,
        error_category: str | None = None,
        error_code: str | None = None,
        exit_code: int | None = None,
        text: str | None = None,
        limit: int = 20,
    ) -> list[SimilarOutcome]:
        call = calls.find_similar_outcomes(error_category, error_code, exit_code, text, limit)
        return self._run(call)

    def search_executions(
        self,
        query: str,
        *,
        job_id: str | None = None,
        limit: int = 20,
        after: SearchHit | None = None,
    ) -> SearchPage:
        return self._run(calls.search_executions(query, job_id, limit, after))

    def prune(
        self,
        *,
        older_than: timedelta | float | None = None,
        keep_last: int | None = None,
        status: str | Iterable[str] | None = None,
        max_bytes: int | None = None,
        dry_run: bool = False,
    ) -> PruneResult:
        return self._run(calls.prune(older_than, keep_last, status, max_bytes, dry_run))

    def infer_state_from_artifacts(
        self, job_id: str, workspace: str | Path, artifact_pattern: str
    ) -> int | None:
        del job_id  # the pattern says which files are the job's
        return highest_sheet(path.name for path in Path(workspace).glob(artifact_pattern))

    def status(self) -> DaemonStatus:
        """How the daemon is."""
        return self.call(Status())

    def call(self, request: Request[T]) -> T:
        """Send one request of `jobkeep_protocol.messages` and give its reply.

        For operations that have no method of their own, and for pages one at a time:
        `request.following(reply)` is the request for what comes after a reply, None after the
        last. A stream waits for its `wait_seconds` beyond the client's timeout. Raises the error
        that the daemon answers, and what every method raises. To cancel it takes nothing back: a
        request that was sent may be done all the same.
        """
        return self._run(calls.ask(request), patience(request, self.timeout))

    def watch(self, job_id: str | None = None, *, after: int | None = None) -> Iterator[Event]:
        return Events(job_id, after, self.call)

    @property
    def supports_execution_history(self) -> bool:
        return True

    def backup(self, path: str | Path) -> int:
        with BackupFile(path) as file:
            request: ReadBackup | None = ReadBackup(self.call(StartBackup()))
            while request is not None:
                piece = self.call(request)
                file.write(piece.data)
                request = request.following(piece)
            file.complete()
        return file.size

    def close(self) -> None:
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()

    def _forked(self) -> None:
        """This is a forked child: begin anew. Locks may have been held by threads not here."""
        self._lock = threading.RLock()
        link, self._link = self._link, None
        if link is not None:
            link.let_go()

    def _run(self, call: calls.Call[T], seconds: float | None = None) -> T:
        """Run a call, for so many seconds or for the timeout."""
        link = self._usable_link()
        timeout = self.timeout if seconds is None else seconds
        deadline = time.monotonic() + timeout
        return calls.run_blocking(
            call, lambda request: link.exchange(request, deadline, timeout), self._lock
        )

    def _usable_link(self) -> Link:
        with self._lock:
            if self._link is None:
                self._link = Link(self.socket)
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
