"""The page with the list of jobs.

What lives here: its columns, and the cells of a job. What may not: which jobs and in which order
(that is `jobs`).
"""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text

from jobkeep.cli.output import preview, printable
from jobkeep.cli.times import duration
from jobkeep.cli.top.grid import Column, Grid
from jobkeep.cli.top.jobs import JobList, Row
from jobkeep.cli.top.sample import JobDetail
from jobkeep.cli.top.words import an_hour, bar, since, status_text

BAR_WIDTH = 10
LEAST_ID_WIDTH = 12
MOST_ID_WIDTH = 40
ERROR_WIDTH = 300


def jobs_lines(jobs: JobList, width: int, height: int) -> list[Text]:
    """The lines of the page: what is shown, the names of the columns, the jobs in the window."""
    window = jobs.cursor.window(height - 2)
    rows = [jobs.rows[jobs.shown[place]] for place in window]
    grid = Grid(_columns(rows), width)
    selected = jobs.cursor.selected
    lines = [grid.row(_cells(row), row.job_id == selected) for row in rows]
    if not rows:
        lines = [Text("no job matches" if jobs.rows else "no job is kept", style="dim")]
    return [_choice(jobs), grid.titles(), *lines]


def _choice(jobs: JobList) -> Text:
    """What the list is: how many, of what, in which order."""
    line = Text(f"{len(jobs.shown):,} shown", style="dim")
    line.append(f"  by {jobs.order}{', reversed' if jobs.is_reversed else ''}")
    line.append(f"  status {' or '.join(jobs.statuses) or 'any'}")
    if jobs.text:
        line.append(f"  filter {printable(jobs.text)}", "bold not dim")
    return line


def _columns(rows: list[Row]) -> list[Column]:
    longest = max((cell_len(printable(row.job_id)) for row in rows), default=0)
    statuses = max((len(row.label) for row in rows), default=0)
    done = max((len(_done(row)) for row in rows), default=0)
    return [
        Column("JOB", LEAST_ID_WIDTH, most=min(longest, MOST_ID_WIDTH)),
        Column("STATUS", max(6, statuses)),
        Column("", BAR_WIDTH, rank=5),
        Column("DONE", max(4, done), rank=1, is_right=True),
        Column("%", 4, rank=2, is_right=True),
        Column("RATE", 8, rank=4, is_right=True),
        Column("LEFT", 12, rank=6, is_right=True),
        Column("SHEET", 6, rank=7, is_right=True),
        Column("UNCHANGED", 12, rank=3, is_right=True),
        Column("RETRIES", 7, rank=9, is_right=True),
        Column("PID", 12, rank=8),
        Column("ERROR", 12, rank=10, most=ERROR_WIDTH),
    ]


def _cells(row: Row) -> list[str | Text]:
    detail = row.detail
    return [
        row.job_id,
        status_text(row.label),
        bar(row.progress, BAR_WIDTH),
        _done(row),
        f"{int(row.progress * 100)}%",
        an_hour(row.per_second),
        duration(row.left_seconds),
        _sheets(detail),
        since(row.unchanged_seconds),
        "-" if detail is None else str(detail.retries),
        _process(detail),
        Text(preview(row.error, ERROR_WIDTH), style="red" if row.error else ""),
    ]


def _done(row: Row) -> str:
    return f"{row.done}/{row.total}"


def _sheets(detail: JobDetail | None) -> str:
    """The first sheet that is worked on, and how many there are beside it."""
    if detail is None or not detail.in_progress:
        return "-"
    first, more = detail.in_progress[0], len(detail.in_progress) - 1
    return f"{first} +{more}" if more else str(first)


def _process(detail: JobDetail | None) -> Text | str:
    if detail is None or detail.pid is None:
        return "-"
    if detail.is_alive is None:
        return str(detail.pid)
    return (
        Text(f"{detail.pid} alive") if detail.is_alive else Text(f"{detail.pid} GONE", "bold red")
    )
