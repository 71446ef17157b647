"""What a report is about, as SQL: which jobs, and which time.

What lives here: the conditions that the filters of a report become, for each table, with their
values bound; and the two helpers that all reports read with. What may not: any one report. No text
of a request becomes part of a statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

import aiosqlite

from jobkeepd.store.reads import glob
from jobkeepd.store.rows import SHEET_ENDED_AT, sequence_at, to_text


class Filters(Protocol):
    """A request with the filters of a report."""

    @property
    def job_id(self) -> str | None:
        """One job."""

    @property
    def name(self) -> str | None:
        """Shell wildcards over the names of jobs."""

    @property
    def since(self) -> datetime | None:
        """The first moment that counts."""

    @property
    def until(self) -> datetime | None:
        """The first moment that does not count any more."""


class Scope(NamedTuple):
    """Rows of a table: what comes after FROM, with the values bound in it."""

    source: str
    values: tuple[Any, ...]


def has_times(filters: Filters) -> bool:
    """Whether a report is asked about some time and not about all."""
    return filters.since is not None or filters.until is not None


def jobs(filters: Filters) -> Scope:
    """The jobs that were updated in the time asked for."""
    chosen = _Conditions()
    chosen.of_jobs(filters)
    if filters.since is not None:
        chosen.add("jobs.sequence >= ?", sequence_at(filters.since))
    chosen.between("jobs.updated_at", filters)
    return chosen.scope(_jobs(filters))


def sheets_ended(filters: Filters) -> Scope:
    """The sheets that ended in the time asked for, each beside its job; with `since` only those of
    jobs that were updated since."""
    chosen = _Conditions()
    chosen.of_jobs(filters)
    chosen.updated_since(filters)
    chosen.add(f"{SHEET_ENDED_AT} NOTNULL")
    chosen.between(SHEET_ENDED_AT, filters)
    return chosen.scope(f"{_jobs(filters)} CROSS JOIN sheets ON sheets.job_id = jobs.id")


def jobs_ended(filters: Filters) -> Scope:
    """The completed jobs whose `completed_at` is in the time asked for; with `since` only those
    that were updated since."""
    chosen = _Conditions()
    chosen.of_jobs(filters)
    chosen.add("jobs.status = 'completed'")
    chosen.updated_since(filters)
    chosen.add("jobs.completed_at NOTNULL")
    chosen.between("jobs.completed_at", filters)
    return chosen.scope(_jobs(filters))


def executions(filters: Filters) -> Scope:
    """The attempts of the time asked for, read from an index that covers what reports look at."""
    chosen = _of_parts(filters)
    chosen.between("executed_at", filters)
    by_time = filters.job_id is None and has_times(filters)
    index = "idx_history_time" if by_time else "idx_history_job_sheet"
    return chosen.scope(f"execution_history INDEXED BY {index}")


def failures(filters: Filters) -> Scope:
    """The failures of the time asked for."""
    chosen = _of_parts(filters)
    chosen.between("failed_at", filters)
    one_job = filters.job_id is not None
    index = "idx_failures_sheet" if one_job else "idx_failures_time"
    return chosen.scope(f"failures INDEXED BY {index}")


def counts(table: str, filters: Filters) -> Scope:
    """The rows of a table of counts that are kept for each job, whatever the time."""
    return _of_parts(filters).scope(table)


def is_about_all(filters: Filters) -> bool:
    """Whether a report is about all jobs: then those that were pruned belong to it."""
    return filters.job_id is None and filters.name is None


def pruned_executions(filters: Filters) -> Scope:
    """Attempts that were pruned, by the hour: whole hours that begin in the time asked for."""
    chosen = _of_parts(filters, "+job_id")
    chosen.hours_between(filters)
    return chosen.scope("pruned_executions")


def pruned_failures(filters: Filters) -> Scope:
    """Failures that were pruned, by the hour and by what is alike in them."""
    chosen = _of_parts(filters, "+job_id")
    chosen.hours_between(filters)
    return chosen.scope("pruned_failures")


def pruned_hours(table: str, filters: Filters) -> Scope:
    """The rows of a table about jobs that were pruned, by the hour as for `pruned_executions`; none
    where a report is about some jobs."""
    chosen = _Conditions()
    chosen.add("?", is_about_all(filters))
    chosen.hours_between(filters)
    return chosen.scope(table)


async def rows(
    connection: aiosqlite.Connection, statement: str, values: Sequence[Any] = ()
) -> list[Any]:
    """All rows of a statement."""
    return list(await connection.execute_fetchall(statement, values))


def percent(part: float, whole: float) -> float | None:
    """So many of a hundred; None of nothing."""
    return 100.0 * part / whole if whole else None


def utc(text: str) -> datetime:
    """A time as it is kept."""
    return datetime.fromisoformat(text)


class _Conditions:
    """Conditions and the values bound in them."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._values: list[Any] = []

    def add(self, text: str, *values: Any) -> None:
        self._texts.append(text)
        self._values += values

    def between(self, column: str, filters: Filters) -> None:
        if filters.since is not None:
            self.add(f"{column} >= ?", _text(filters.since))
        if filters.until is not None:
            self.add(f"{column} < ?", _text(filters.until))

    def hours_between(self, filters: Filters) -> None:
        begin = "hour || ':00:00.000000+00:00'"
        self.between(begin, filters)

    def of_jobs(self, filters: Filters) -> None:
        if filters.job_id is not None:
            self.add("jobs.id = ?", filters.job_id)
        if filters.name is not None:
            self.add("jobs.name GLOB ?", glob(filters.name))

    def updated_since(self, filters: Filters) -> None:
        """The jobs that were updated since, which an index of sequences finds."""
        if filters.since is not None:
            self.add("jobs.sequence >= ?", sequence_at(filters.since))
            self.add("jobs.updated_at >= ?", _text(filters.since))

    def scope(self, tables: str) -> Scope:
        return Scope(f"{tables} WHERE {' AND '.join(self._texts) or '1'}", tuple(self._values))


def _jobs(filters: Filters) -> str:
    """The table of jobs, searched by what was updated since where that is asked for: SQLite would
    rather read all of them in the order of their statuses, to group them."""
    is_since = filters.job_id is None and filters.since is not None
    return "jobs INDEXED BY idx_jobs_sequence" if is_since else "jobs"


def _of_parts(filters: Filters, with_a_name: str = "job_id") -> _Conditions:
    """The rows that belong to the jobs asked for, in a table with a `job_id`. A plus before it, for
    those `with_a_name`, looks at the rows first, where there are few, and then for their jobs."""
    chosen = _Conditions()
    if filters.job_id is not None:
        chosen.add("job_id = ?", filters.job_id)
    if filters.name is not None:
        chosen.add(
            f"{with_a_name} IN (SELECT id FROM jobs WHERE jobs.name GLOB ?)", glob(filters.name)
        )
    return chosen


def _text(moment: datetime) -> str:
    return to_text(moment.astimezone(UTC))
