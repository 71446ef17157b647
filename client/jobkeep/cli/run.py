"""`jobkeep run`: resumable xargs.

What lives here: the command line of a run, what it prints at its end, and its exit status. What
may not: the run itself (that is `runner`).
"""

from __future__ import annotations

import asyncio
import shlex
import sys

import click

from jobkeep import AsyncClient
from jobkeep.cli.dialogue import PATIENCE_SECONDS
from jobkeep.cli.items import read_items, split_arguments
from jobkeep.cli.output import document, message, printable
from jobkeep.cli.plan import Plan, command_of, item_of
from jobkeep.cli.report import Report, TerminalReport
from jobkeep.cli.runner import Order, Outcome, Runner, plan_for
from jobkeep.cli.times import duration
from jobkeep_protocol.states import CheckpointState, JobStatus


class RunCommand(click.Command):
    """The command, with a hint for who forgets the `--` before a command with options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(
                f"{error.format_message()} If it is the command's, put -- before the command.", ctx
            ) from error


@click.command(
    "run",
    cls=RunCommand,
    options_metavar="[OPTIONS]",
    short_help="Run a command for each item; the same line again continues.",
)
@click.argument("job_id", metavar="JOB")
@click.argument("arguments", metavar="-- COMMAND [{}] [::: ITEM]", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "-j",
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Do so many items at a time.",
)
@click.option(
    "--attempts",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Try each item up to so many times in this run.",
)
@click.option("--retry-failed", is_flag=True, help="Try the items again that failed before.")
@click.option(
    "--new-command",
    is_flag=True,
    help="Go on with another command than the job was begun with; finished items stay finished.",
)
@click.option("--dry-run", is_flag=True, help="Print the commands that would run; change nothing.")
@click.option("-0", "--null", is_flag=True, help="Items on standard input are separated by NUL.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document at the end.")
@click.pass_context
def command(
    ctx: click.Context,
    job_id: str,
    arguments: tuple[str, ...],
    workers: int,
    attempts: int,
    retry_failed: bool,
    new_command: bool,
    dry_run: bool,
    null: bool,
    as_json: bool,
) -> int:
    """Run COMMAND for each item, as the resumable job JOB.

    Items are what follows ::: or the lines of standard input. In COMMAND each {} is replaced by
    the item; without any, the item is its last argument. No shell is involved, and standard input
    of a command is empty.

    Each item is a sheet of the job; every attempt is kept with its output. Stopped by Ctrl-C, by a
    crash or by a power cut, the same line again continues: finished items, known by the item and
    not by its position, do not run again; one whose command was cut off does.

    Exits with 0 when every item is done, 1 when some failed, 130 after Ctrl-C.
    """
    template, items = _command_and_items(ctx, arguments, null)
    order = Order(
        job_id=job_id,
        command=template,
        items=items,
        workers=workers,
        attempts=attempts,
        retry_failed=retry_failed,
        new_command=new_command,
    )
    if dry_run:
        _print_plan(asyncio.run(_plan(ctx.obj, order)), order, as_json)
        return 0
    outcome = asyncio.run(_run(ctx.obj, order))
    if as_json:
        _print_document(job_id, outcome)
    message(_summary(job_id, outcome))
    return _exit_status(outcome)


def _command_and_items(
    ctx: click.Context, arguments: tuple[str, ...], is_nul_separated: bool
) -> tuple[list[str], list[str]]:
    template, items = split_arguments(arguments)
    if items is not None:
        if is_nul_separated:
            raise click.UsageError("-0 is for items on standard input; here they follow :::", ctx)
        return template, items
    if sys.stdin.isatty():
        raise click.UsageError("there are no items: give them after ::: or on standard input", ctx)
    return template, read_items(sys.stdin.buffer, is_nul_separated)


async def _plan(socket: str | None, order: Order) -> Plan:
    async with _client(socket) as client:
        return await plan_for(client, order)


async def _run(socket: str | None, order: Order) -> Outcome:
    report = TerminalReport() if sys.stderr.isatty() else Report()
    async with _client(socket) as client:
        return await Runner(client, order, report).run()


def _client(socket: str | None) -> AsyncClient[CheckpointState]:
    client: AsyncClient[CheckpointState] = AsyncClient(socket, timeout=PATIENCE_SECONDS)
    return client


def _print_plan(plan: Plan, order: Order, as_json: bool) -> None:
    commands = [(sheet, command_of(order.command, sheet)) for sheet in plan.remaining()]
    if as_json:
        document(
            [
                {"sheet_num": sheet.sheet_num, "item": item_of(sheet), "command": arguments}
                for sheet, arguments in commands
            ]
        )
        return
    for _, arguments in commands:
        print(shlex.join(arguments))


def _print_document(job_id: str, outcome: Outcome) -> None:
    counts = outcome.counts
    document(
        {
            "job_id": job_id,
            "status": outcome.status,
            "total": counts.total,
            "completed": counts.completed,
            "failed": counts.failed,
            "remaining": counts.remaining,
            "completed_now": outcome.completed_now,
            "workers_lost": outcome.workers_lost,
            "duration_seconds": round(outcome.duration_seconds, 3),
            "failed_items": [
                {
                    "sheet_num": sheet.sheet_num,
                    "item": item_of(sheet),
                    "exit_code": sheet.exit_code,
                    "exit_signal": sheet.exit_signal,
                    "error_message": sheet.error_message,
                }
                for sheet in outcome.failed
            ],
        }
    )


def _summary(job_id: str, outcome: Outcome) -> str:
    counts = outcome.counts
    name = printable(job_id)
    if outcome.status is JobStatus.PAUSED:
        return (
            f"job {name} is paused with {counts.remaining} of {counts.total} items to do; "
            "the same command line goes on from there"
        )
    if counts.remaining:
        return (
            f"job {name} was set to {outcome.status} by another program, with {counts.remaining} "
            f"of {counts.total} items to do"
        )
    took = duration(outcome.duration_seconds)
    now = f"{outcome.completed_now} in this run, which took {took}"
    if counts.failed:
        return (
            f"{counts.failed} of {counts.total} items failed, {counts.completed} are done ({now}); "
            "the same command line with --retry-failed tries the failed ones again"
        )
    done = "the item is" if counts.total == 1 else f"all {counts.total} items are"
    return f"{done} done ({now})"


def _exit_status(outcome: Outcome) -> int:
    if outcome.status is JobStatus.PAUSED and outcome.signal is not None:
        return 128 + outcome.signal
    return 0 if outcome.status is JobStatus.COMPLETED and not outcome.counts.remaining else 1
