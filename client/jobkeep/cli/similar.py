"""`jobkeep similar`: earlier attempts that failed alike, and what happened next."""

from __future__ import annotations

from datetime import datetime

import click

from jobkeep.cli.common import connect, json_option, limit_option
from jobkeep.cli.output import document, limit_reached, local_now, message, preview, table
from jobkeep.cli.times import ago
from jobkeep_protocol.learning import SimilarOutcome

ERROR_WIDTH = 50
COLUMNS = (
    "JOB",
    "SHEET",
    "ATTEMPT",
    "FAILED",
    "CATEGORY",
    "CODE",
    "EXIT",
    "NEXT",
    "TRIES",
    "ERROR",
)


@click.command("similar")
@click.option("--category", metavar="C", help="Of this error_category.")
@click.option("--code", metavar="C", help="Of this error_code.")
@click.option("--exit-code", type=int, metavar="N", help="With this exit code.")
@click.option("--text", metavar="T", help="With words of this in the error message.")
@limit_option(20)
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    category: str | None,
    code: str | None,
    exit_code: int | None,
    text: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show attempts that failed like one, and what happened next on their sheets.

    All that is given must match, and something must be. The newest come first; with --text, those
    with all of its words. NEXT is what the next try came to, or what the sheet is now, and TRIES
    how many came after the attempt.
    """
    if (category, code, exit_code, text) == (None, None, None, None):
        raise click.UsageError(
            "give one or more of --category, --code, --exit-code and --text", ctx
        )
    with connect(ctx) as client:
        outcomes = client.find_similar_outcomes(category, code, exit_code, text, limit)
    if as_json:
        document(outcomes)
        return
    if outcomes:
        now = local_now()
        table(COLUMNS, [_row(one, now) for one in outcomes])
    else:
        message("no attempt matches")
    if outcomes and len(outcomes) == limit:
        limit_reached(limit)


def _row(one: SimilarOutcome, now: datetime) -> tuple[object, ...]:
    return (
        one.job_id,
        one.sheet_num,
        one.attempt_num,
        ago(one.failed_at, now),
        one.error_category or "-",
        one.error_code or "-",
        "-" if one.exit_code is None else one.exit_code,
        one.next_outcome,
        one.attempts_after,
        preview(one.error_message, ERROR_WIDTH),
    )
