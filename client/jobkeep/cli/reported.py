"""What the commands for reports share: their filters, and how figures are shown.

What lives here: the options `--job`, `--name`, `--since` and `--until`, asking a client for a
report with them, and the cells of tables. What may not: any one report.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from jobkeep.cli.common import FunctionT, check_job, complete_job, connect
from jobkeep.cli.output import local_now, message
from jobkeep.cli.times import duration, parse_since
from jobkeep.client import Client
from jobkeep_protocol.reports import DurationFigures
from jobkeep_protocol.states import CheckpointState
from jobkeep_protocol.values import refused

ReportT = TypeVar("ReportT")
Ask = Callable[..., ReportT]

DURATION_COLUMNS = ("EXECUTIONS", "TOTAL", "MEAN", "P50", "P95", "P99", "LONGEST")


def filter_options(function: FunctionT) -> FunctionT:
    """`--job`, `--name`, `--since` and `--until`."""
    for option in (
        click.option("--until", metavar="WHEN", help="Only what happened before."),
        click.option(
            "--since",
            metavar="WHEN",
            help="Only what happened since: 2h, yesterday, 2026-03-01 12:00.",
        ),
        click.option(
            "--name", metavar="PATTERN", help="Only jobs whose name matches, such as 'night*'."
        ),
        click.option(
            "--job", "job_id", metavar="JOB", shell_complete=complete_job, help="Only this job."
        ),
    ):
        function = option(function)
    return function


def ask(
    ctx: click.Context,
    method: Callable[[Client[CheckpointState]], Ask[ReportT]],
    filters: dict[str, Any],
    **others: Any,
) -> ReportT:
    """Ask for a report with what `filter_options` gave.

    Raises JobNotFound for a job that there is not, and InvalidRequest for a time that is none, and
    for times that nothing can lie between.
    """
    now = local_now()
    times = {
        name: None if filters[name] is None else parse_since(f"--{name}", filters[name], now)
        for name in ("since", "until")
    }
    since, until = times["since"], times["until"]
    if since is not None and until is not None and since > until:
        raise refused("--until", filters["until"], f"a time after --since, {since.isoformat(' ')}")
    job_id = filters["job_id"]
    with connect(ctx) as client:
        check_job(client, job_id)
        return method(client)(job_id=job_id, name=filters["name"], **times, **others)


def duration_cells(figures: DurationFigures) -> tuple[object, ...]:
    """The cells of DURATION_COLUMNS."""
    return (
        figures.executions,
        duration(figures.total_seconds),
        duration(figures.mean_seconds),
        duration(figures.p50_seconds),
        duration(figures.p95_seconds),
        duration(figures.p99_seconds),
        duration(figures.max_seconds),
    )


def or_dash(value: object) -> object:
    """What there is; `-` for nothing."""
    return "-" if value is None else value


def nothing_matches() -> None:
    """Say so."""
    message("nothing matches")
