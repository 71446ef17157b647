"""`jobkeep history`: what was tried, and what came of it."""

from __future__ import annotations

import sys

import click

from jobkeep.cli.common import connect, job_argument, json_option, limit_option
from jobkeep.cli.output import (
    document,
    limit_reached,
    local_now,
    message,
    preview,
    printable,
    printable_lines,
    table,
)
from jobkeep.cli.times import ago, duration
from jobkeep_protocol.backend import ExecutionRecord
from jobkeep_protocol.errors import JobNotFound

PROMPT_WIDTH = 50
OUTPUT_WIDTH = 60


@click.command("history")
@job_argument
@click.option("--sheet", type=int, metavar="N", help="Only attempts at this sheet.")
@limit_option(100)
@click.option("--output", "with_output", is_flag=True, help="Print prompts and outputs whole.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    job_id: str,
    sheet: int | None,
    limit: int,
    with_output: bool,
    as_json: bool,
) -> None:
    """Show the attempts of a job, newest first."""
    with connect(ctx) as client:
        records = client.get_execution_history(job_id, sheet_num=sheet, limit=limit)
        if not records and not client.get_job_statistics(job_id):
            raise JobNotFound.named(job_id)
    if as_json:
        document(records)
    elif not records:
        message("no attempt is kept")
    elif with_output:
        _print_whole(records)
    else:
        _print_table(records)
    if records and len(records) == limit and not as_json:
        limit_reached(limit)


def _print_table(records: list[ExecutionRecord]) -> None:
    now = local_now()
    columns = ("SHEET", "ATTEMPT", "WHEN", "TOOK", "EXIT", "PROMPT", "OUTPUT")
    rows = [
        (
            record["sheet_num"],
            record["attempt_num"],
            ago(record["executed_at"], now),
            duration(record["duration_seconds"]),
            "-" if record["exit_code"] is None else record["exit_code"],
            preview(record["prompt"], PROMPT_WIDTH),
            preview(record["output"], OUTPUT_WIDTH),
        )
        for record in records
    ]
    table(columns, rows)


def _print_whole(records: list[ExecutionRecord]) -> None:
    # In a file or a pipe an output comes as it was; on a terminal it must not move the cursor.
    shown = printable_lines if sys.stdout.isatty() else str
    for record in records:
        exit_code = "-" if record["exit_code"] is None else record["exit_code"]
        print(
            f"== sheet {record['sheet_num']}, attempt {record['attempt_num']}, "
            f"{record['executed_at']}, took {duration(record['duration_seconds'])}, "
            f"exit {exit_code}"
        )
        if record["prompt"] is not None:
            print(f"$ {printable(record['prompt'])}")
        output = shown(record["output"] or "")
        print(output, end="" if output.endswith("\n") or not output else "\n")
