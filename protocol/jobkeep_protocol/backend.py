"""The API of a state backend, and the plain dicts it gives.

What lives here: `StateBackend`, which the embedded backend and the asynchronous client implement
and the blocking client mirrors, with the contract of every method in its docstring. What may not:
how any of them does it.

Cancelling any of these methods is safe: a write that was sent may still be applied, once.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypedDict, TypeVar

from jobkeep_protocol.states import SheetState

if TYPE_CHECKING:
    from jobkeep_protocol.messages import Event

StateT = TypeVar("StateT")


class ExecutionRecord(TypedDict):
    """One attempt at a sheet. `executed_at` is ISO 8601 in UTC, `duration_seconds` in seconds."""

    id: int
    job_id: str
    sheet_num: int
    attempt_num: int
    prompt: str | None
    output: str | None
    exit_code: int | None
    duration_seconds: float | None
    executed_at: str


class JobStatistics(TypedDict, total=False):
    """Figures of one job; without any key for an unknown job.

    `success_rate` is the percentage of sheets up to `last_completed_sheet`; an execution is
    successful when its exit code is 0.
    """

    total_sheets: int
    completed_sheets: int
    success_rate: float
    total_retries: int
    total_executions: int
    successful_executions: int
    avg_duration_seconds: float | None


class JobSummary(TypedDict):
    """A job without its sheets. Times are ISO 8601 in UTC."""

    id: str
    name: str
    status: str
    total_sheets: int
    last_completed_sheet: int
    created_at: str
    updated_at: str
    completed_at: str | None
    error_message: str | None


class StateBackend(ABC, Generic[StateT]):
    """Anything that keeps the states of jobs.

    `StateT` is the type of states that go in and come out. A status may be given as our enum, as
    its text, or as any str enum with that value. All methods raise InvalidRequest for a value that
    is not allowed, StorageError when the database cannot do it, and, over a socket,
    DaemonUnavailable, RequestTimeout and PermissionDenied.
    """

    @abstractmethod
    async def load(self, job_id: str) -> StateT | None:
        """The state of a job with all its sheets, None for an unknown job.

        A zombie (running, but its process is dead) is set to paused, and that is on disk, before
        it is returned.
        """

    @abstractmethod
    async def save(self, state: StateT, *, if_revision: int | None = None) -> int:
        """Make the kept job equal to `state`; gives the new revision.

        Sheets that the state no longer has are removed; the history stays, and so does the kept
        `created_at`. `updated_at` and `revision` are set on `state` too. It is on disk when this
        returns. Raises RevisionConflict, and changes nothing, when `if_revision` is given and the
        kept job is at another revision (0 is the revision of a job that does not exist).
        """

    @abstractmethod
    async def delete(self, job_id: str) -> bool:
        """Remove a job with its sheets and its history; False when there was none."""

    @abstractmethod
    async def list_jobs(self) -> list[StateT]:
        """The states of all jobs, last updated first. For an overview `query_jobs` is cheaper."""

    @abstractmethod
    async def get_next_sheet(self, job_id: str) -> int | None:
        """The sheet to work on next, as `CheckpointState.get_next_sheet`; 1 for an unknown job."""

    @abstractmethod
    async def mark_sheet_status(
        self,
        job_id: str,
        sheet_num: int,
        status: str,
        error_message: str | None = None,
    ) -> None:
        """Set the status of one sheet, atomically, with the transition that belongs to it.

        `in_progress`, `completed`, `failed` and `skipped` do what the methods of the same name on
        `CheckpointState` do; any other status is set as it is. `error_message` is kept on the
        sheet when given. Raises JobNotFound for an unknown job.
        """

    @abstractmethod
    async def save_sheet(self, job_id: str, sheet: SheetState) -> int:
        """Insert or replace one sheet and leave the others alone; gives the job's new revision.

        Raises JobNotFound for an unknown job.
        """

    @abstractmethod
    async def claim_next_sheet(self, job_id: str, *, max_attempts: int = 1) -> int | None:
        """Take the next sheet for this process, and mark it in progress, in one step.

        It is the first sheet that is missing, pending or ready, or failed after fewer attempts
        than `max_attempts`; no two claims ever get the same one. None when there is nothing to
        claim now, and for a job that is completed or cancelled. When this process dies, the sheet
        is pending again. Raises JobNotFound for an unknown job.
        """

    @abstractmethod
    async def record_execution(
        self,
        job_id: str,
        sheet_num: int,
        attempt_num: int,
        prompt: str | None = None,
        output: str | None = None,
        exit_code: int | None = None,
        duration_seconds: float | None = None,
    ) -> int | None:
        """Keep one attempt at a sheet; gives the id of the record, None for an unknown job.

        Prompt and output are kept whole, up to 16 MiB each (LimitExceeded above).
        """

    @abstractmethod
    async def get_execution_history(
        self,
        job_id: str,
        sheet_num: int | None = None,
        limit: int = 100,
        before_id: int | None = None,
    ) -> list[ExecutionRecord]:
        """The attempts of a job, or of one of its sheets, newest first.

        To page, give the smallest id seen so far as `before_id`.
        """

    @abstractmethod
    async def get_execution_history_count(self, job_id: str, sheet_num: int | None = None) -> int:
        """How many attempts are kept of a job, or of one of its sheets."""

    @abstractmethod
    async def get_job_statistics(self, job_id: str) -> JobStatistics:
        """Counts and averages of a job; `{}` for an unknown one."""

    @abstractmethod
    async def query_jobs(
        self,
        status: str | None = None,
        since: datetime | None = None,
        limit: int = 50,
        after: JobSummary | str | None = None,
    ) -> list[JobSummary]:
        """Summaries of the jobs that match, last updated first.

        `since` is an aware datetime: only jobs updated then or later. To page, give the last
        summary of the page before as `after`; its id alone will do for jobs that do not change
        meanwhile.
        """

    @abstractmethod
    async def infer_state_from_artifacts(
        self, job_id: str, workspace: str | Path, artifact_pattern: str
    ) -> int | None:
        """The highest N of `sheetN` in the names of the files that match, None without any.

        `artifact_pattern` is a glob pattern below the directory `workspace`, which is read where
        the caller runs. For when no state was kept.
        """

    @abstractmethod
    async def backup(self, path: str | Path) -> int:
        """Write a copy of the whole database to a new file; gives its size in bytes.

        The copy holds all that was acknowledged before the call and is one moment of the database;
        others go on reading and writing meanwhile. The file is made where the caller runs, for its
        user only, and is on disk when this returns; a daemon starts on it as it is. While it is
        written it is called `<path>.partial`. Each step of the copy has the client's timeout, the
        whole has none.

        Raises FileExistsError for a file that is there, another OSError when it cannot be
        written, PermissionDenied without the role admin, StorageError when the daemon has no room
        for the copy it makes first.
        """

    @abstractmethod
    def watch(self, job_id: str | None = None, *, after: int | None = None) -> AsyncIterator[Event]:
        """What happens to one job, or to all: as it is committed, in that order, for ever.

        Without `after` it begins now, which is the moment when the first event is asked for, not
        that of this call. `after=0` begins with the oldest event that is kept, and
        `after=event.sequence` with the one after an event that was seen, by this process or by
        another. A job that does not exist may come.

        While the daemon is away this waits, up to half a minute beyond the client's timeout, and
        goes on where it was. Nothing is left out without a word: an event of the kind `missed`
        stands for what is not kept any more, when the daemon was restarted or the watcher was away
        for long, and for what is not told one by one. Whoever has to know then looks at the jobs
        themselves, and goes on: what comes after is complete.

        Leaving the loop is safe at any time, and holds nothing. So is to cancel or to interrupt
        the wait for an event; the iterator may be asked again afterwards, after an error too.
        """

    @property
    @abstractmethod
    def supports_execution_history(self) -> bool:
        """Whether attempts can be recorded and read: True for every backend of jobkeep."""

    @abstractmethod
    async def close(self) -> None:
        """Give back what is held. Idempotent; what was acknowledged stays.

        A call after it opens or connects again.
        """


_SHEET_IN_NAME = re.compile(r"sheet[-_ ]?(\d+)", re.IGNORECASE)


def highest_sheet(names: Iterable[str]) -> int | None:
    """The highest N of `sheetN` in these file names, None when none has one."""
    numbers = [int(number) for name in names for number in _SHEET_IN_NAME.findall(name)]
    return max(numbers, default=None)
