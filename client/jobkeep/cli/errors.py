"""`jobkeep errors`: what goes wrong, and how often."""

from __future__ import annotations

from typing import Any

import click

from jobkeep.cli.common import json_option, limit_option
from jobkeep.cli.output import document, local_now, message, preview, table
from jobkeep.cli.reported import ask, filter_options, nothing_matches, or_dash
from jobkeep.cli.times import ago
from jobkeep_protocol.reports import ErrorGroup

EXAMPLE_WIDTH = 60


@click.command("errors")
@filter_options
@limit_option(20)
@json_option
@click.pass_context
def command(ctx: click.Context, /, limit: int, as_json: bool, **filters: Any) -> None:
    """Show failures by category, code, exit code and signal.

    ERROR is the message of the newest, and LIKE the sheet that had it.
    """
    report = ask(ctx, lambda client: client.get_errors, filters, limit=limit)
    if as_json:
        document(report)
        return
    if not report.groups:
        nothing_matches()
        return
    now = local_now()
    table(
        (
            "FAILURES",
            "JOBS",
            "CATEGORY",
            "CODE",
            "EXIT",
            "SIGNAL",
            "FIRST",
            "LAST",
            "LIKE",
            "ERROR",
        ),
        [
            (
                group.failures,
                group.jobs,
                or_dash(group.error_category),
                or_dash(group.error_code),
                or_dash(group.exit_code),
                or_dash(group.exit_signal),
                ago(group.first_failed_at, now),
                ago(group.last_failed_at, now),
                *_example(group),
            )
            for group in report.groups
        ],
    )
    shown = sum(group.failures for group in report.groups)
    if shown < report.failures:
        message(f"{report.failures - shown} of {report.failures} failures are of other kinds")


def _example(group: ErrorGroup) -> tuple[str, str]:
    if group.example is None:
        return "-", "-"
    example = group.example
    return (
        f"{example.job_id} {example.sheet_num}",
        preview(example.error_message, EXAMPLE_WIDTH),
    )
