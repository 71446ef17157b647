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
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypedDict, TypeVar

from jobkeep_protocol.states import SheetState

if TYPE_CHECKING:
    from jobkeep_protocol.learning import LearnedPattern, SimilarOutcome
    from jobkeep_protocol.messages import Event
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
    from jobkeep_protocol.search import SearchHit, SearchPage

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

        `attempt_num` is the sheet's `attempt_count` in this try, by which the record and a sheet
        that is marked as failed are known to be of one failure.
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
    async def get_overview(
        self,
        *,
        job_id: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Overview:
        """How the work goes: jobs and sheets by status, rates, throughput, tokens and cost.

        The filters are those of every report. `job_id` is one job; `name` is a pattern over the
        names of jobs with the shell's wildcards `*`, `?` and `[…]`, in which case matters; both
        may be given. `since` and `until` are aware datetimes: what happened at `since` or later,
        and before `until`. Where nothing matches, as for an unknown job, all figures are 0 or
        None. A report is one moment of the database and holds up no writes; one that reads for
        too long is ended with LimitExceeded.

        Jobs count by `updated_at`, and their sheets in all and retries with them; executions by
        `executed_at`, failures by `failed_at`. Sheets, their tokens and their cost count by
        `completed_at` when there is a time to compare, and then only in jobs that were updated
        since. Sheets above `total_sheets` have tokens and cost, and no part in the counts. The
        throughput is over the time from `since`, else from when the first of the jobs was created,
        to `until` or now, whichever comes first; without either, to the last update.
        """

    @abstractmethod
    async def get_durations(
        self,
        *,
        job_id: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 20,
    ) -> Durations:
        """How long executions took, by `executed_at`: all, by job, by sheet, and the slowest.

        There are at most `limit` jobs, those with the most time in all; with a `job_id` also at
        most `limit` of its sheets; and the `limit` slowest executions. Percentiles are exact, by
        nearest rank. Executions without a duration, and those not kept any more, have no part in
        it. Filters as in `get_overview`.
        """

    @abstractmethod
    async def get_errors(
        self,
        *,
        job_id: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 20,
    ) -> Errors:
        """Failures by category, code, exit code and signal, by `failed_at`: at most `limit` groups.

        The most frequent group comes first, each with its newest failure as an example. A sheet
        that is tried again keeps the failures it had. Filters as in `get_overview`.
        """

    @abstractmethod
    async def get_validations(
        self,
        *,
        job_id: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> Validations:
        """How often validations passed and failed, by rule: at most `limit` rules.

        Counted is what sheets hold in `passed_validations` and `failed_validations`; with `since`
        or `until` those of sheets with a `completed_at` in between, in jobs updated since. The
        rule that failed most often comes first. Filters as in `get_overview`.
        """

    @abstractmethod
    async def get_outcomes(
        self,
        *,
        job_id: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> Outcomes:
        """How sheets came out, by `outcome_category`: at most `limit` of these.

        Counted are sheets that have a category, or `success_without_retry`; with `since` or
        `until` those with a `completed_at` in between, in jobs updated since. The category of the
        most sheets comes first. Filters as in `get_overview`.
        """

    @abstractmethod
    async def get_timeline(
        self,
        *,
        job_id: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        by: TimelineStep = "hour",
    ) -> Timeline:
        """What happened in each hour or day of UTC: executions, sheets and jobs.

        Executions are in the hour of `executed_at`; sheets that are completed or failed, and jobs
        that are completed, in that of `completed_at`, and with `since` only in jobs updated since.
        It goes from `since` or from the first hour in which anything happened, to `until` or to
        the last such hour; hours without anything are included. Raises InvalidRequest for more
        than 10,000 of them. Filters as in `get_overview`.
        """

    @abstractmethod
    async def get_learned_patterns(
        self, pattern: str | None = None, min_sheets: int = 1, limit: int = 100
    ) -> list[LearnedPattern]:
        """What is known of each pattern in the `learned_patterns` of sheets, over all jobs: how
        many sheets carry it, in which jobs, and whether those fare better than those without it.

        Those of most sheets first, and of `min_sheets` or more. `pattern` is one, or several with
        the wildcards of a shell (`*`, `?`, `[…]`); letters match as they are. Counts are kept as
        sheets change, so that asking reads no sheet: it can be done before every attempt.
        """

    @abstractmethod
    async def find_similar_outcomes(
        self,
        error_category: str | None = None,
        error_code: str | None = None,
        exit_code: int | None = None,
        text: str | None = None,
        limit: int = 20,
    ) -> list[SimilarOutcome]:
        """Earlier attempts, in any job, that failed like this one, each with what happened next on
        its sheet, so that a worker can decide whether to try again.

        Every criterion that is given must match: the category, code and exit code as they are, and
        of `text`, which may be a whole error message, some of its words in the error message of
        the attempt. Words with digits in them are numbers, ids and addresses mostly, and count
        only when there are no others. The newest come first; with `text`, first those that have
        all the words, then those among the newest 1,000 with some that have the rarest and the
        most. The attempt that has just failed is among them once it is kept.

        Cheap enough to be asked before every attempt, however much is kept: of several criteria,
        the newest 10,000 failures are looked at that match the rarest, or have the words. `limit`
        is at most 1,000. Raises InvalidRequest without any criterion, for a
        `text` without words, and with `text` when search is off in the daemon.
        """

    @abstractmethod
    async def search_executions(
        self,
        query: str,
        *,
        job_id: str | None = None,
        limit: int = 20,
        after: SearchHit | None = None,
    ) -> SearchPage:
        """The attempts whose prompt or output matches, and the failures whose message does, the
        best first, and of two that are as good the newest.

        Words are letters and digits of any script, without regard to case and accents. All words
        of `query` must be there; `"these words"` beside each other, `word*` any that begins so,
        `-word` not, `this OR that` one of both; all else in it is text. To page, give the last hit
        of the page before as `after`; the pages belong together as long as nothing is recorded
        meanwhile. Of more than 100,000 attempts that match, the newest so many are ranked.
        Raises InvalidRequest for a query without a word to look for, and where texts are not
        indexed (`--search off`).
        """

    @abstractmethod
    async def prune(
        self,
        *,
        older_than: timedelta | float | None = None,
        keep_last: int | None = None,
        status: str | Iterable[str] | None = None,
        max_bytes: int | None = None,
        dry_run: bool = False,
    ) -> PruneResult:
        """Remove what is old; gives what went, or with `dry_run` what would go.

        Without `status`, attempts go that were recorded more than `older_than` ago and are not
        among the newest `keep_last` of their sheet; where only one of both is given, it decides
        alone. The attempts of a sheet go oldest first: none goes as long as an older one of the
        same sheet stays. Failures, as `get_errors` counts them, go by the same two criteria, each
        by itself. With `max_bytes`, given alone, the oldest attempts go until the prompts and
        outputs of the others take no more than that; failures stay then, to be learned from.

        With `status`, one or several, whole jobs of that status go that were last updated more than
        `older_than` ago, which must be given, and are not among the `keep_last` of their status
        that were updated last. A job's attempts and failures go before it, and it goes at once
        with all its sheets.

        Nothing goes of a live job: one that is running, has a sheet claimed or a process that works
        on it, or has a pid and is not completed, failed or cancelled. What was pruned is counted:
        the statistics of a job, and reports over all jobs, go on including it. `delete` counts
        nothing. An age is a timedelta, or a number of seconds.

        It is done in small batches, each a transaction, with the writes of others in between; so
        cancelling it, or the end of anybody, leaves a state that is in order, and calling it again
        goes on. Then the room in the file is given back to the file system. Each step has the
        client's timeout, the whole has none.

        Raises InvalidRequest without any criterion and PermissionDenied without the role admin.
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
