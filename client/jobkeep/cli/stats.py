"""`jobkeep stats`: figures of one job."""

from __future__ import annotations

import click

from jobkeep.cli.common import connect, job_argument, json_option
from jobkeep.cli.output import document, fields
from jobkeep.cli.times import duration
from jobkeep_protocol.errors import JobNotFound


@click.command("stats")
@job_argument
@json_option
@click.pass_context
def command(ctx: click.Context, job_id: str, as_json: bool) -> None:
    """Show figures of one job."""
    with connect(ctx) as client:
        statistics = client.get_job_statistics(job_id)
    if not statistics:
        raise JobNotFound.named(job_id)
    if as_json:
        document(statistics)
        return
    executions, successful = statistics["total_executions"], statistics["successful_executions"]
    fields(
        [
            ("job", job_id),
            ("sheets", statistics["total_sheets"]),
            (
                "last completed",
                f"sheet {statistics['completed_sheets']} ({statistics['success_rate']:.1f} %)",
            ),
            ("attempts", f"{executions}, {successful} with exit code 0"),
            ("retries", statistics["total_retries"]),
            ("average time", duration(statistics["avg_duration_seconds"])),
        ]
    )
