"""`jobkeep delete`: forget a job."""

from __future__ import annotations

import sys

import click

from jobkeep.cli.common import connect, job_argument, json_option
from jobkeep.cli.output import counted, document, message, printable
from jobkeep_protocol.errors import JobNotFound


@click.command("delete")
@job_argument
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_context
def command(ctx: click.Context, job_id: str, yes: bool, as_json: bool) -> int:
    """Delete a job with its sheets and its history, after asking."""
    with connect(ctx) as client:
        statistics = client.get_job_statistics(job_id)
        if not statistics:
            raise JobNotFound.named(job_id)
        if not yes and not sys.stdin.isatty():
            raise click.UsageError("there is no terminal to ask on; give --yes to delete", ctx)
        what = (
            f"job {printable(job_id)} with {counted(statistics['total_sheets'], 'sheet')} and "
            f"{counted(statistics['total_executions'], 'attempt')}"
        )
        is_wanted = yes or click.confirm(f"Delete {what}?", err=True)
        is_deleted = is_wanted and client.delete(job_id)
    if is_wanted and not is_deleted:  # somebody else was faster
        raise JobNotFound.named(job_id)
    if as_json:
        document({"job_id": job_id, "deleted": is_deleted})
    message(f"{'deleted' if is_deleted else 'kept'} {what}")
    return 0 if is_deleted else 1
