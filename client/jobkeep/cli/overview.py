"""`jobkeep overview`: how the work goes, in one look."""

from __future__ import annotations

from typing import Any

import click

from jobkeep.cli.common import json_option
from jobkeep.cli.output import document, fields, percentage
from jobkeep.cli.reported import ask, filter_options
from jobkeep.cli.times import duration
from jobkeep_protocol.reports import Overview


@click.command("overview")
@filter_options
@json_option
@click.pass_context
def command(ctx: click.Context, /, as_json: bool, **filters: Any) -> None:
    """Show how the work goes: jobs, sheets, attempts, rates, throughput, tokens and cost.

    With --since or --until, jobs count that were updated then, sheets that ended, attempts that
    were recorded, and failures that were told.
    """
    report = ask(ctx, lambda client: client.get_overview, filters)
    if as_json:
        document(report)
        return
    fields(
        [
            ("jobs", _jobs(report)),
            ("jobs ended well", percentage(report.job_success_rate)),
            ("sheets", _sheets(report)),
            ("sheets ended well", percentage(report.sheet_success_rate)),
            ("throughput", _throughput(report)),
            ("attempts", f"{report.executions}, {report.executions_successful} with exit code 0"),
            (
                "exit code 0",
                f"{percentage(report.execution_success_rate)} of the attempts that have one",
            ),
            ("failures", f"{report.failures}; {report.retries} retries"),
            ("tokens", f"{report.input_tokens} in, {report.output_tokens} out"),
            ("cost", f"{report.estimated_cost:.2f}"),
        ]
    )


def _jobs(report: Overview) -> str:
    by_status = ", ".join(f"{count} {status}" for status, count in report.jobs.items())
    return by_status or "none"


def _sheets(report: Overview) -> str:
    return (
        f"{report.sheets_completed} completed, {report.sheets_failed} failed, "
        f"{report.sheets_skipped} skipped; the jobs have {report.sheets_total}"
    )


def _throughput(report: Overview) -> str:
    if report.sheets_per_hour is None:
        return "-"
    return f"{report.sheets_per_hour:.1f} sheets an hour, over {duration(report.span_seconds)}"
