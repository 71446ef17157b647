"""`jobkeep patterns`: what sheets have learned, and whether it helps."""

from __future__ import annotations

from datetime import datetime

import click

from jobkeep.cli.common import connect, json_option, limit_option
from jobkeep.cli.output import (
    document,
    limit_reached,
    local_now,
    message,
    percentage,
    preview,
    table,
)
from jobkeep.cli.times import ago
from jobkeep_protocol.learning import LearnedPattern

PATTERN_WIDTH = 60
COLUMNS = ("PATTERN", "SHEETS", "JOBS", "SUCCESS", "WITHOUT", "CONFIDENCE", "FIRST", "LAST")


@click.command("patterns")
@click.argument("pattern", required=False, metavar="[PATTERN]")
@click.option(
    "--min-sheets",
    type=int,
    default=1,
    show_default=True,
    metavar="N",
    help="Only patterns of so many sheets or more.",
)
@limit_option(100)
@json_option
@click.pass_context
def command(
    ctx: click.Context, pattern: str | None, min_sheets: int, limit: int, as_json: bool
) -> None:
    """Show the learned patterns of all jobs, those of most sheets first.

    PATTERN is one, or several with the wildcards of a shell, in quotes: 'retry *'. SUCCESS is the
    share of sheets with the pattern that are completed, of those that are completed or failed;
    WITHOUT is that of all other sheets.
    """
    with connect(ctx) as client:
        patterns = client.get_learned_patterns(pattern, min_sheets, limit)
    if as_json:
        document(patterns)
        return
    if patterns:
        now = local_now()
        table(COLUMNS, [_row(one, now) for one in patterns])
    else:
        message("no pattern matches")
    if patterns and len(patterns) == limit:
        limit_reached(limit)


def _row(one: LearnedPattern, now: datetime) -> tuple[object, ...]:
    return (
        preview(one.pattern, PATTERN_WIDTH),
        one.sheets,
        one.jobs,
        percentage(one.success_rate),
        percentage(one.success_rate_without),
        "-" if one.mean_confidence is None else f"{one.mean_confidence:.2f}",
        ago(one.first_seen_at, now),
        ago(one.last_seen_at, now),
    )
