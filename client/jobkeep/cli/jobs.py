"""`jobkeep jobs`: which jobs there are."""

from __future__ import annotations

import click

from jobkeep.cli.common import connect, json_option, limit_option
from jobkeep.cli.output import (
    document,
    limit_reached,
    local_now,
    message,
    preview,
    table,
    why_not_completed,
)
from jobkeep.cli.times import ago, parse_since

ERROR_WIDTH = 60


@click.command("jobs")
@click.option("--status", metavar="STATUS", help="Only jobs with this status.")
@click.option(
    "--since", metavar="WHEN", help="Only jobs updated since: 2h, yesterday, 2026-03-01 12:00."
)
@limit_option(50)
@json_option
@click.pass_context
def command(
    ctx: click.Context, status: str | None, since: str | None, limit: int, as_json: bool
) -> None:
    """List jobs, last updated first."""
    now = local_now()
    earliest = parse_since("--since", since, now) if since is not None else None
    with connect(ctx) as client:
        jobs = client.query_jobs(status=status, since=earliest, limit=limit)
    if as_json:
        document(jobs)
        return
    rows = [
        (
            job["id"],
            job["status"],
            f"{job['last_completed_sheet']}/{job['total_sheets']}",
            ago(job["updated_at"], now),
            preview(why_not_completed(job["status"], job["error_message"]), ERROR_WIDTH),
        )
        for job in jobs
    ]
    if rows:
        table(("JOB", "STATUS", "SHEETS", "UPDATED", "ERROR"), rows)
    else:
        message("no job matches")
    if jobs and len(jobs) == limit:
        limit_reached(limit)
