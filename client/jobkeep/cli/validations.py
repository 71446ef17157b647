"""`jobkeep validations`: which validations pass and fail."""

from __future__ import annotations

from typing import Any

import click

from jobkeep.cli.common import json_option, limit_option
from jobkeep.cli.output import document, limit_reached, percentage, table
from jobkeep.cli.reported import ask, filter_options, nothing_matches


@click.command("validations")
@filter_options
@limit_option(100)
@json_option
@click.pass_context
def command(ctx: click.Context, /, limit: int, as_json: bool, **filters: Any) -> None:
    """Show how often validations passed and failed, by rule.

    Those that failed most often come first. It is what sheets say of their last attempt.
    """
    report = ask(ctx, lambda client: client.get_validations, filters, limit=limit)
    if as_json:
        document(report)
        return
    if not report.rules:
        nothing_matches()
        return
    table(
        ("FAILED", "PASSED", "PASS RATE", "RULE"),
        [(one.failed, one.passed, percentage(one.pass_rate), one.rule) for one in report.rules],
    )
    if len(report.rules) == limit:
        limit_reached(limit)
