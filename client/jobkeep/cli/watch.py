"""`jobkeep watch`: what happens, as it is committed."""

from __future__ import annotations

import math
import time
from itertools import chain

import click
import msgspec

from jobkeep.cli.common import complete_job, connect
from jobkeep.cli.events import pages
from jobkeep.cli.output import message, printable
from jobkeep.cli.served import clock
from jobkeep.cli.times import duration, parse_duration
from jobkeep_protocol.messages import Event, Watch


@click.command("watch")
@click.argument("job_id", metavar="[JOB]", required=False, shell_complete=complete_job)
@click.option("--after", type=int, metavar="N", help="From the event after this one; 0: all kept.")
@click.option("--for", "lasts", metavar="DURATION", help="End after this long: 10s, 5m.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N events.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.pass_context
def command(
    ctx: click.Context,
    job_id: str | None,
    after: int | None,
    lasts: str | None,
    count: int | None,
    as_json: bool,
) -> None:
    """Show what happens to a job, or to all, as it is committed, until Ctrl-C, --for or --count.

    Jobs and sheets that change, attempts that are recorded, zombies that are found. What is not
    kept any more is said to be missed. A job that is not there may come. With --json the
    "sequence" of an event is what --after takes, to go on there.
    """
    seconds = parse_duration("--for", lasts) if lasts is not None else math.inf
    deadline = time.monotonic() + seconds
    left = math.inf if count is None else count
    with connect(ctx) as client:
        first = client.call(Watch(job_id, after, 0.0))
        if job_id is not None and not client.get_job_statistics(job_id):
            message(f"there is no job {printable(job_id)} yet; watching for it")
        for page in chain([first], pages(client, job_id, first.next, deadline)):
            for event in page.events:
                print(msgspec.json.encode(event).decode() if as_json else line(event), flush=True)
                left -= 1
                if left == 0:
                    return


def line(event: Event) -> str:
    """An event, for people: when, which job, and what."""
    when = clock(event.at, "%H:%M:%S")
    if event.kind == "missed":
        return f"{when}  missed: {event.message}"
    return f"{when}  {printable(event.job_id or '')}  {_what(event)}"


def _what(event: Event) -> str:
    sheet = f"sheet {event.sheet_num}"
    why = f": {printable(event.message)}" if event.message else ""
    done = f"({event.last_completed_sheet}/{event.total_sheets})"
    match event.kind:
        case "deleted":
            return "deleted" if event.sheet_num is None else f"{sheet} removed"
        case "execution":
            return f"{sheet}, attempt {event.attempt_num} recorded{_result(event)}"
        case "zombie" if event.sheet_num is None:
            return f"{event.job_status}, its process is gone{why}"
        case "zombie":
            return f"{sheet} {event.sheet_status} again, its process is gone"
        case "sheet":
            return f"{sheet} {event.sheet_status} {done}{why}"
    return f"{event.job_status} {done}{why}"


def _result(event: Event) -> str:
    """What came of an attempt, as far as it was told."""
    parts = [
        None if event.exit_code is None else f"exit code {event.exit_code}",
        None if event.duration_seconds is None else duration(event.duration_seconds),
    ]
    told = ", ".join(part for part in parts if part)
    return f": {told}" if told else ""
