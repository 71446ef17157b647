"""Reading the daemon, time and again, in a thread of its own.

What lives here: `Sampler`, and what one sample takes. What may not: what is shown of it. The thread
is there so that a daemon that is slow, or away, delays samples and never a key.

A sample costs a few requests whatever the number of jobs that are kept: those that changed last are
read, and of the jobs in the window only those in full that have changed since.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from jobkeep.cli.output import local_now, user_name
from jobkeep.cli.top.sample import JobDetail, OpenedJob, Sample, Silence, Wanted
from jobkeep.client import Client
from jobkeep_protocol.backend import ExecutionRecord, JobSummary
from jobkeep_protocol.errors import JobkeepError, StorageError
from jobkeep_protocol.messages import DaemonStatus, ListClients, Load, Loaded
from jobkeep_protocol.states import CheckpointState, JobStatus, SheetStatus

REPLY_SECONDS = 2.0
"""The client's timeout: after this a daemon that does not answer is said to be away."""

JOBS_READ = 1000
"""Of those with each wanted status, the ones that changed last."""

DETAIL_SECONDS = 0.25
"""How much of each sample may go into the details of jobs; large ones take long to read."""

ATTEMPTS_READ = 10
OUTPUT_TAIL = 10_000
"""Characters at the end of each output; the rest is not kept here."""


class Sampler:
    """Takes samples every `interval` seconds while it is entered as a context.

    `ready` is a descriptor that can be read when there is something to `collect`.
    """

    def __init__(self, client: Client[CheckpointState], interval: float) -> None:
        self._reader = Reader(client)
        self._client = client
        self._interval = interval
        self._taken: deque[Sample | Silence | BaseException] = deque()
        self._changed = threading.Condition()
        """Guards `_wanted`, `_is_urgent` and `_is_over`."""
        self._wanted = Wanted()
        self._is_urgent = False
        self._is_over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.ready = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify()
        self._client.close()  # ends the wait for a daemon that does not answer
        self._thread.join(REPLY_SECONDS)
        if not self._thread.is_alive():
            os.close(self.ready)

    def want(self, wanted: Wanted) -> None:
        """Read this from now on; at once, unless only the window has moved."""
        with self._changed:
            self._is_urgent = self._is_urgent or _kind(wanted) != _kind(self._wanted)
            self._wanted = wanted
            self._changed.notify()

    def collect(self) -> list[Sample | Silence]:
        """What was taken since the last time. Raises what the thread has died of."""
        os.eventfd_read(self.ready)
        taken = []
        while self._taken:
            one = self._taken.popleft()
            if isinstance(one, BaseException):
                raise one
            taken.append(one)
        return taken

    def _run(self) -> None:
        try:
            while not self._is_over:
                began = time.monotonic()
                self._is_urgent = False
                sample = self._sample()
                self._put(sample)
                took = 0.0 if isinstance(sample, Silence) else time.monotonic() - began
                # A daemon that is slow to answer is asked half of the time at most.
                self._pause(max(self._interval, took))
        except BaseException as error:  # noqa: BLE001 # raised in the main thread
            self._put(error)

    def _sample(self) -> Sample | Silence:
        try:
            return self._reader.sample(self._wanted)
        except JobkeepError as error:
            return Silence(time.monotonic(), str(error))

    def _put(self, one: Sample | Silence | BaseException) -> None:
        self._taken.append(one)
        os.eventfd_write(self.ready, 1)

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or self._is_urgent, seconds)


def _kind(wanted: Wanted) -> tuple[object, ...]:
    return wanted.statuses, wanted.clients, wanted.opened, bool(wanted.visible)


class _Known(NamedTuple):
    """The detail of a job, of which change it is, and when it was read."""

    updated_at: str
    read_at: float
    detail: JobDetail | None


_UNREAD = _Known("", 0.0, None)


class Reader:
    """Takes one sample, and remembers what need not be read again for the next one."""

    def __init__(self, client: Client[CheckpointState]) -> None:
        self._client = client
        self._details: dict[str, _Known] = {}
        self._opened: OpenedJob | None = None
        self._opened_at = ""

    def sample(self, wanted: Wanted) -> Sample:
        """Read what is wanted. Raises what the client raises."""
        status = self._client.status()
        jobs = self._jobs(wanted.statuses)
        clients = self._client.call(ListClients()) if wanted.clients else None
        return Sample(
            at=time.monotonic(),
            now=local_now(),
            status=status,
            jobs=list(jobs.values()),
            details=self._details_of([jobs[one] for one in wanted.visible if one in jobs], status),
            clients=clients,
            users={one.uid: user_name(one.uid) for one in clients or ()},
            opened=None if wanted.opened is None else self._open(wanted.opened, jobs),
        )

    def _jobs(self, statuses: Sequence[str]) -> dict[str, JobSummary]:
        """The jobs with these statuses that changed last; and those that run, however long ago."""
        found = {}
        wanted: Sequence[str | None] = statuses or [None]
        for status in (JobStatus.RUNNING, *wanted):
            for job in self._client.query_jobs(status=status, limit=JOBS_READ):
                found[job["id"]] = job
        return found

    def _details_of(self, jobs: Sequence[JobSummary], status: DaemonStatus) -> dict[str, JobDetail]:
        """What is known of these jobs, once as much of it was read anew as there is time for."""
        known = {job["id"]: self._details.get(job["id"], _UNREAD) for job in jobs}
        changed = [job for job in jobs if known[job["id"]].updated_at != job["updated_at"]]
        changed.sort(key=lambda job: known[job["id"]].read_at)
        deadline = time.monotonic() + DETAIL_SECONDS
        for job in changed:
            if time.monotonic() > deadline:
                break
            page = self._client.call(Load(job["id"]))
            if page is not None:
                known[job["id"]] = _Known(job["updated_at"], time.monotonic(), _detail(page))
        self._details = known
        sees_processes = _is_there(status.pid)
        return {
            job_id: _with_life(one.detail) if sees_processes else one.detail
            for job_id, one in known.items()
            if one.detail is not None
        }

    def _open(self, job_id: str, jobs: dict[str, JobSummary]) -> OpenedJob:
        """The job as it is now; what has not changed is not read again."""
        before = self._opened if self._opened and self._opened.job_id == job_id else None
        updated_at = jobs[job_id]["updated_at"] if job_id in jobs else ""
        state, trouble = None if before is None else before.state, None
        if before is None or before.trouble or not updated_at or updated_at != self._opened_at:
            try:
                state = self._client.load(job_id)
            except StorageError as error:  # so large, and so busy, that it changes while it is read
                trouble = str(error)
        kept = self._client.get_execution_history_count(job_id)
        attempts = before.attempts if before is not None else ()
        if before is None or kept != before.attempts_kept:
            attempts = self._newest(job_id, attempts)
        self._opened, self._opened_at = (
            OpenedJob(job_id, state, attempts, kept, trouble),
            updated_at,
        )
        return self._opened

    def _newest(self, job_id: str, seen: Sequence[ExecutionRecord]) -> list[ExecutionRecord]:
        """The newest attempts. One at a time: each may have an output of 16 MiB."""
        known = {record["id"]: record for record in seen}
        found: list[ExecutionRecord] = []
        while len(found) < ATTEMPTS_READ:
            before_id = found[-1]["id"] if found else None
            records = self._client.get_execution_history(job_id, limit=1, before_id=before_id)
            if not records:
                break
            if records[0]["id"] in known:
                found += [one for one in seen if one["id"] <= records[0]["id"]]
                break
            found.append(_cut(records[0]))
        return found[:ATTEMPTS_READ]


def _detail(page: Loaded) -> JobDetail:
    assert page.state is not None, "the first page has the job"
    in_progress = tuple(
        sheet.sheet_num for sheet in page.sheets if sheet.status is SheetStatus.IN_PROGRESS
    )
    return JobDetail(page.state.pid, None, page.state.total_retry_count, in_progress)


def _with_life(detail: JobDetail) -> JobDetail:
    if detail.pid is None:
        return detail
    return JobDetail(detail.pid, _is_there(detail.pid), detail.retries, detail.in_progress)


def _is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _cut(record: ExecutionRecord) -> ExecutionRecord:
    output = record["output"]
    return {**record, "prompt": None, "output": output and output[-OUTPUT_TAIL:]}
