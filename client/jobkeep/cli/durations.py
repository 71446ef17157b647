"""`jobkeep durations`: how long attempts take."""

from __future__ import annotations

from typing import Any

import click

from jobkeep.cli.common import json_option, limit_option
from jobkeep.cli.output import document, limit_reached, local_now, table
from jobkeep.cli.reported import (
    DURATION_COLUMNS,
    ask,
    duration_cells,
    filter_options,
    nothing_matches,
    or_dash,
)
from jobkeep.cli.times import ago, duration
from jobkeep_protocol.reports import Durations


@click.command("durations")
@filter_options
@limit_option(20)
@json_option
@click.pass_context
def command(ctx: click.Context, /, limit: int, as_json: bool, **filters: Any) -> None:
    """Show how long attempts take, and the slowest.

    Jobs and sheets with the most time in all come first; sheets are shown with --job. P95 is the
    duration that 95 of 100 attempts do not exceed.
    """
    report = ask(ctx, lambda client: client.get_durations, filters, limit=limit)
    if as_json:
        document(report)
    elif report.executions:
        _print(report)
        if limit in {len(report.jobs), len(report.sheets), len(report.slowest)}:
            limit_reached(limit)
    else:
        nothing_matches()


def _print(report: Durations) -> None:
    rows = [(*duration_cells(report), "all")]
    rows += [(*duration_cells(job), job.job_id) for job in report.jobs]
    table((*DURATION_COLUMNS, "JOB"), rows)
    if report.sheets:
        print()
        table(
            (*DURATION_COLUMNS, "SHEET"),
            [(*duration_cells(sheet), sheet.sheet_num) for sheet in report.sheets],
        )
    if report.slowest:
        now = local_now()
        print()
        table(
            ("TOOK", "WHEN", "EXIT", "SHEET", "ATTEMPT", "JOB"),
            [
                (
                    duration(one.duration_seconds),
                    ago(one.executed_at, now),
                    or_dash(one.exit_code),
                    one.sheet_num,
                    one.attempt_num,
                    one.job_id,
                )
                for one in report.slowest
            ],
        )
