"""`jobkeep slowlog`: the slowest requests since the daemon started."""

from __future__ import annotations

import click

from jobkeep.cli.common import connect, json_option, limit_option
from jobkeep.cli.output import document, message, table
from jobkeep.cli.served import COLUMNS, cells
from jobkeep_protocol.messages import SlowLog


@click.command("slowlog")
@limit_option(20)
@json_option
@click.pass_context
def command(ctx: click.Context, limit: int, as_json: bool) -> None:
    """Show the slowest requests since the daemon started, the slowest first.

    The columns are those of `jobkeep monitor`. QUEUE is the wait for its turn, COMMIT what its
    transaction took, and REPLY all else.
    """
    with connect(ctx) as client:
        requests = client.call(SlowLog(limit))
    if as_json:
        document(requests)
    elif requests:
        table(list(COLUMNS), [cells(request, "%Y-%m-%d %H:%M:%S") for request in requests])
    else:
        message("no request was answered yet")
