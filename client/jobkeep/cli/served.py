"""Requests that were answered, for people: a line each, with where its time went.

What lives here: the columns that `jobkeep monitor` and `jobkeep slowlog` share. What may not:
asking the daemon, and figures of many requests (that is `tally`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from jobkeep.cli.output import printable, size
from jobkeep.cli.times import latency
from jobkeep_protocol.messages import ServedRequest

COLUMNS = {
    "TIME": 12,
    "CLIENT": 18,
    "UID": 5,
    "OPERATION": 27,
    "IN": 8,
    "OUT": 8,
    "TOOK": 6,
    "QUEUE": 6,
    "COMMIT": 6,
    "REPLY": 6,
    "RESULT": 6,
    "JOB": 0,
}
"""The columns, and how wide each is where lines are printed as they come. A cell may be longer; it
pushes the others to the right."""


def cells(request: ServedRequest, time_format: str = "%H:%M:%S") -> tuple[str, ...]:
    """What the columns say of a request. Times are local, with milliseconds."""
    return (
        clock(request.at, time_format),
        f"{printable(request.command)}[{request.pid}]",
        str(request.uid),
        request.operation,
        size(request.bytes_in),
        size(request.bytes_out),
        latency(request.duration_seconds),
        latency(request.queue_seconds),
        latency(request.commit_seconds) if request.commit_seconds else "-",
        latency(request.reply_seconds),
        request.error or "ok",
        subject(request),
    )


def line(row: Sequence[str]) -> str:
    """Cells as one line."""
    padded = (cell.ljust(width) for cell, width in zip(row, COLUMNS.values(), strict=True))
    return "  ".join(padded).rstrip()


def subject(request: ServedRequest) -> str:
    """The job and the sheet that a request named; `-` for none."""
    if request.job_id is None:
        return "-"
    job = printable(request.job_id)
    return job if request.sheet_num is None else f"{job} sheet {request.sheet_num}"


def clock(when: datetime, time_format: str) -> str:
    """A point in time, local, with milliseconds."""
    local = when.astimezone()
    return f"{local.strftime(time_format)}.{local.microsecond // 1000:03d}"
