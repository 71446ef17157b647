"""`jobkeep timeline`: what happened hour by hour, or day by day."""

from __future__ import annotations

from typing import Any

import click

from jobkeep.cli.common import json_option
from jobkeep.cli.output import document, table
from jobkeep.cli.reported import ask, filter_options, nothing_matches
from jobkeep.cli.times import duration
from jobkeep_protocol.reports import TimelineBucket, TimelineStep

BAR_WIDTH = 30
_FORMATS = {"hour": "%Y-%m-%d %H:%M", "day": "%Y-%m-%d"}


@click.command("timeline")
@click.option(
    "--by",
    type=click.Choice(["hour", "day"]),
    default="hour",
    show_default=True,
    help="One line for each hour, or day.",
)
@filter_options
@json_option
@click.pass_context
def command(ctx: click.Context, /, by: TimelineStep, as_json: bool, **filters: Any) -> None:
    """Show what happened in each hour or day of UTC, those without anything included.

    The bar is as long as there were attempts; its part of `x` is that of those with another exit
    code than 0.
    """
    report = ask(ctx, lambda client: client.get_timeline, filters, by=by)
    if as_json:
        document(report)
        return
    if not report.buckets:
        nothing_matches()
        return
    most = max(one.executions for one in report.buckets)
    table(
        ("UTC", "ATTEMPTS", "EXIT 0", "FAILED", "MEAN", "SHEETS", "FAILED SHEETS", "JOBS", "BAR"),
        [
            (
                one.start.strftime(_FORMATS[by]),
                one.executions,
                one.successful,
                one.failed,
                duration(one.mean_seconds),
                one.sheets_completed,
                one.sheets_failed,
                one.jobs_completed,
                _bar(one, most),
            )
            for one in report.buckets
        ],
    )


def _bar(bucket: TimelineBucket, most: int) -> str:
    """A mark for each so many attempts, at least one where there was any."""
    if not bucket.executions:
        return ""
    length = max(1, round(BAR_WIDTH * bucket.executions / most))
    failed = round(length * bucket.failed / bucket.executions)
    return "=" * (length - failed) + "x" * failed
