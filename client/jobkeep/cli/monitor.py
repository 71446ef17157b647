"""`jobkeep monitor`: requests as they are answered."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import click
import msgspec
from msgspec.structs import replace

from jobkeep.cli.common import complete_job, connect
from jobkeep.cli.operations import complete_operation
from jobkeep.cli.output import coloured, counted, message, printable, size, table
from jobkeep.cli.served import COLUMNS, cells, line
from jobkeep.cli.tally import Tally
from jobkeep.cli.times import duration, latency, parse_duration
from jobkeep.client import Client
from jobkeep_protocol.messages import Monitor, MonitorPage, ServedRequest
from jobkeep_protocol.states import CheckpointState

LONGEST_WAIT = 30.0
"""Seconds that one page is waited for."""

PAYLOAD_CHARACTERS = 200


@click.command("monitor")
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="OPERATION",
    shell_complete=complete_operation,
    help="Only this operation; may be given several times.",
)
@click.option("--job", "job_id", metavar="JOB", shell_complete=complete_job, help="Only this job.")
@click.option("--client", metavar="PID|COMMAND", help="Only this process, or this command.")
@click.option("--errors", "errors_only", is_flag=True, help="Only what was answered with an error.")
@click.option("--slower-than", metavar="DURATION", help="Only what took so long: 5ms, 1s.")
@click.option("--for", "lasts", metavar="DURATION", help="End after this long: 10s, 5m.")
@click.option(
    "--payloads",
    type=int,
    is_flag=False,
    flag_value=PAYLOAD_CHARACTERS,
    default=0,
    metavar="[N]",
    help=f"Also what was asked and answered, cut to N characters ({PAYLOAD_CHARACTERS}).",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    slower_than: str | None,
    lasts: str | None,
    as_json: bool,
    methods: tuple[str, ...],
    **filters: Any,
) -> None:
    """Show requests as they are answered, until Ctrl-C or --for; then figures of those seen.

    A line has when the request came, who sent it, its operation, the bytes in and out, the time it
    took, of which waiting for its turn, its commit and the rest, the result, and the job with the
    sheet. The filters are applied in the daemon. Those who watch slow nobody: what comes faster
    than it is read is missed, and is counted. With --json the figures go to standard error.
    """
    slower_seconds = parse_duration("--slower-than", slower_than) if slower_than else 0.0
    seconds = parse_duration("--for", lasts) if lasts is not None else math.inf
    request = Monitor(list(methods), slower_than_seconds=slower_seconds, **filters)
    with connect(ctx) as client:
        begins = client.call(replace(request, wait_seconds=0.0)).next  # from here on they are kept
        show = _print_json if as_json else _print_line
        if not as_json:
            print(line(list(COLUMNS)), flush=True)
        tally = Tally()
        begin = time.monotonic()
        try:
            for page in _pages(client, request, begins, begin + seconds):
                tally.add(page)
                _show(page, show)
        finally:
            stream = sys.stderr if as_json else sys.stdout
            _print_summary(tally, time.monotonic() - begin, stream)


def _pages(
    client: Client[CheckpointState], request: Monitor, after: int, deadline: float
) -> Iterator[MonitorPage]:
    """What is answered until the deadline, a page at a time."""
    while (left := deadline - time.monotonic()) > 0:
        wait_seconds = min(left, LONGEST_WAIT)
        page = client.call(replace(request, after=after, wait_seconds=wait_seconds))
        after = page.next
        yield page


def _show(page: MonitorPage, show: Callable[[ServedRequest], None]) -> None:
    if page.missed:
        message(f"missed {counted(page.missed, 'request')}: they came faster than they were read")
    for request in page.requests:
        show(request)
    sys.stdout.flush()


def _print_json(request: ServedRequest) -> None:
    print(msgspec.json.encode(request).decode())


def _print_line(request: ServedRequest) -> None:
    text = line(cells(request))
    if request.error is None:
        print(text)  # one by one they may be thousands a second
    else:
        coloured(text, "red")
    for name, payload in (("asked", request.request), ("answered", request.reply)):
        if payload is not None:
            print(f"    {name:<8}  {printable(payload)}")


def _print_summary(tally: Tally, seconds: float, stream: TextIO) -> None:
    rate = tally.requests / seconds if seconds else 0.0
    print(
        f"\n{counted(tally.requests, 'request')} in {duration(seconds)}, {rate:.1f}/s: "
        f"{counted(tally.errors, 'error')}, {tally.missed} missed, "
        f"{size(tally.bytes_in)} in, {size(tally.bytes_out)} out",
        file=stream,
    )
    if tally.operations:
        print(file=stream)
        table(("OPERATION", "REQUESTS", "ERRORS", "P50", "P99", "MAX"), _rows(tally), stream)


def _rows(tally: Tally) -> Iterator[tuple[object, ...]]:
    """The figures of each operation, the most frequent first."""
    by_requests = sorted(tally.operations.items(), key=lambda item: -item[1].requests)
    for name, figures in by_requests:
        times = [*figures.percentiles((0.5, 0.99)), figures.max_seconds]
        yield (name, figures.requests, figures.errors, *map(latency, times))
