"""`jobkeep top`: jobs and clients, live, in a window.

What lives here: the command line. What may not: all else.

    sampler ──> sample ──> model ──> screen ──> terminal
    (a thread)             ^                       │
                           └────────── keys <──────┘
"""

from __future__ import annotations

import os
import signal
import sys

import click

from jobkeep.cli.times import parse_duration
from jobkeep_protocol.states import JobStatus
from jobkeep_protocol.values import refused

SHORTEST_INTERVAL = 0.1


@click.command("top")
@click.option(
    "--interval",
    default="1s",
    show_default=True,
    metavar="DURATION",
    help="How often to look.",
)
@click.option(
    "--status",
    "statuses",
    type=click.Choice([str(one) for one in JobStatus]),
    multiple=True,
    metavar="STATUS",
    help="Begin with the jobs that have this status; may be given several times.",
)
@click.option(
    "--stuck-after",
    default="5m",
    show_default=True,
    metavar="DURATION",
    help="Call a running job stuck when it has not changed for so long.",
)
@click.pass_context
def command(ctx: click.Context, interval: str, statuses: tuple[str, ...], stuck_after: str) -> int:
    """Show jobs and clients, live: who works, how fast, and who is stuck.

    It fills the terminal until q is pressed; ? says what the other keys do. It changes no job.
    Programs want `jobkeep jobs --json` or `jobkeep watch`.
    """
    seconds = parse_duration("--interval", interval)
    if seconds < SHORTEST_INTERVAL:
        raise refused("--interval", interval, f"at least {SHORTEST_INTERVAL:g}s")
    patience = parse_duration("--stuck-after", stuck_after)
    _check_terminal(ctx)
    ended_by = _show(ctx.obj, seconds, statuses, patience)
    if ended_by == signal.SIGINT:
        raise KeyboardInterrupt
    return 0 if ended_by is None else 128 + ended_by


def _check_terminal(ctx: click.Context) -> None:
    if sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        return
    raise click.UsageError(
        "top needs a terminal that it can fill; for programs and files there are "
        "`jobkeep jobs --json` and `jobkeep watch`",
        ctx,
    )


def _show(
    socket: str | None, interval: float, statuses: tuple[str, ...], stuck_after: float
) -> int | None:
    """Fill the terminal until the end; gives the signal that ended it. Raises DaemonUnavailable
    when there is no daemon to begin with."""
    # rich and all that draws is needed now, and not for --help.
    from jobkeep.cli.top.loop import run
    from jobkeep.cli.top.model import Top
    from jobkeep.cli.top.sampler import REPLY_SECONDS, Sampler
    from jobkeep.cli.top.terminal import Terminal
    from jobkeep.client import Client

    with (
        Client(socket, timeout=REPLY_SECONDS) as client,
        Sampler(client, interval) as sampler,
        Terminal() as terminal,
    ):
        return run(Top(statuses, stuck_after), sampler, terminal)
