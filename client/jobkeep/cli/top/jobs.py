"""The list of jobs: one row each, in some order, through some filters.

What lives here: what is known of each job, which of them are shown and in which order. What may
not: how it is drawn (that is `jobs_page`), reading.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from jobkeep.cli.output import why_not_completed
from jobkeep.cli.top.cursor import Cursor
from jobkeep.cli.top.rates import Rates
from jobkeep.cli.top.sample import JobDetail, Sample
from jobkeep_protocol.backend import JobSummary
from jobkeep_protocol.states import JobStatus

RATE_WINDOW_SECONDS = 600.0
"""A sheet may well take minutes."""

STUCK = "STUCK"
"""What takes the place of the status of a running job in which nothing changes."""


class Row(Struct, frozen=True):
    """One job. What is not known is None; `label` is its status, or STUCK."""

    job_id: str
    name: str
    status: str
    label: str
    done: int
    total: int
    updated_at: datetime
    unchanged_seconds: float
    per_second: float | None
    left_seconds: float | None
    detail: JobDetail | None
    error: str | None

    @property
    def is_stuck(self) -> bool:
        """Whether it is running, and nothing has changed for too long."""
        return self.label == STUCK

    @property
    def progress(self) -> float:
        """How much of it is done, from 0 to 1."""
        return min(1.0, self.done / self.total)


_URGENCY = [
    JobStatus.RUNNING,
    JobStatus.FAILED,
    JobStatus.PAUSED,
    JobStatus.PAUSED_AT_CHAIN,
    JobStatus.PENDING,
    JobStatus.CANCELLED,
    JobStatus.COMPLETED,
]
"""The order of statuses: what needs somebody comes first."""


def _stuck_first(row: Row) -> tuple[bool, float]:
    return not row.is_stuck, -row.unchanged_seconds if row.is_stuck else row.unchanged_seconds


ORDERS: dict[str, Callable[[Row], Any]] = {
    "updated": lambda row: row.unchanged_seconds,
    "name": lambda row: (row.job_id.casefold(), row.job_id),
    "progress": lambda row: -row.progress,
    "rate": lambda row: -(row.per_second or 0.0),
    "status": lambda row: (not row.is_stuck, [*_URGENCY, row.status].index(row.status)),
    "stuck first": _stuck_first,
}
"""What rows may be sorted by; what is equal stays in the order of the last change."""


class JobList:
    """The rows that are shown, and the choices of whoever looks at them.

    `statuses` are those that were asked for on the command line; none is all.
    """

    def __init__(self, statuses: Sequence[str], stuck_after: float) -> None:
        self._stuck_after = stuck_after
        self._filters: list[tuple[str, ...]] = [(), *((str(one),) for one in _URGENCY)]
        if statuses and tuple(statuses) not in self._filters:
            self._filters.insert(0, tuple(statuses))
        self.statuses = tuple(statuses)
        self.order = next(iter(ORDERS))
        self.is_reversed = False
        self.text = ""
        self.rows: dict[str, Row] = {}
        """By id, all that were read; `shown` are those that pass the filters, in order."""
        self.shown: list[str] = []
        self.cursor: Cursor[str] = Cursor()
        self._rates: Rates[str] = Rates(RATE_WINDOW_SECONDS)

    def take(self, sample: Sample) -> None:
        """Show how the jobs are now."""
        self._rates.sample(
            sample.at, {job["id"]: job["last_completed_sheet"] for job in sample.jobs}
        )
        self.rows = {job["id"]: self._row(job, sample) for job in sample.jobs}
        self.arrange()

    def next_order(self) -> None:
        """Sort by the next of ORDERS."""
        names = list(ORDERS)
        self.order = names[(names.index(self.order) + 1) % len(names)]
        self.arrange()

    def reverse(self) -> None:
        """The last comes first."""
        self.is_reversed = not self.is_reversed
        self.arrange()

    def next_statuses(self) -> None:
        """Show jobs with the next status; after the last, all."""
        place = self._filters.index(self.statuses)
        self.statuses = self._filters[(place + 1) % len(self._filters)]
        self.arrange()

    def filter(self, text: str) -> None:
        """Show jobs that have this text in the id or in the name, however it is written."""
        self.text = text
        self.arrange()

    @property
    def stuck(self) -> int:
        """How many of all that were read are stuck."""
        return sum(row.is_stuck for row in self.rows.values())

    def arrange(self) -> None:
        """Filter and sort again."""
        wanted = self.text.casefold()
        rows = [
            row
            for row in self.rows.values()
            if (not self.statuses or row.status in self.statuses)
            and (wanted in row.job_id.casefold() or wanted in row.name.casefold())
        ]
        rows.sort(key=ORDERS["updated"])
        rows.sort(key=ORDERS[self.order])
        if self.is_reversed:
            rows.reverse()
        self.shown = [row.job_id for row in rows]
        self.cursor.show(self.shown)

    def _row(self, job: JobSummary, sample: Sample) -> Row:
        status, done, total = job["status"], job["last_completed_sheet"], job["total_sheets"]
        updated_at = datetime.fromisoformat(job["updated_at"])
        unchanged = max(0.0, (sample.now - updated_at).total_seconds())
        is_running = status == JobStatus.RUNNING
        rate = self._rates.per_second(job["id"])
        left = (total - done) / rate if rate and is_running else None
        return Row(
            job_id=job["id"],
            name=job["name"],
            status=status,
            label=STUCK if is_running and unchanged >= self._stuck_after else status,
            done=done,
            total=total,
            updated_at=updated_at,
            unchanged_seconds=unchanged,
            per_second=rate,
            left_seconds=left,
            detail=sample.details.get(job["id"]),
            error=why_not_completed(status, job["error_message"]),
        )
