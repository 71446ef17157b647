"""`jobkeep outcomes`: how sheets come out."""

from __future__ import annotations

from typing import Any

import click

from jobkeep.cli.common import json_option, limit_option
from jobkeep.cli.output import document, limit_reached, table
from jobkeep.cli.reported import ask, filter_options, nothing_matches, or_dash


@click.command("outcomes")
@filter_options
@limit_option(100)
@json_option
@click.pass_context
def command(ctx: click.Context, /, limit: int, as_json: bool, **filters: Any) -> None:
    """Show how sheets came out, by outcome category, those of the most sheets first.

    AT ONCE are those that succeeded without a retry.
    """
    report = ask(ctx, lambda client: client.get_outcomes, filters, limit=limit)
    if as_json:
        document(report)
        return
    if not report.outcomes:
        nothing_matches()
        return
    table(
        ("SHEETS", "COMPLETED", "FAILED", "AT ONCE", "OUTCOME"),
        [
            (
                one.sheets,
                one.completed,
                one.failed,
                one.without_retry,
                or_dash(one.outcome_category),
            )
            for one in report.outcomes
        ],
    )
    if len(report.outcomes) == limit:
        limit_reached(limit)
