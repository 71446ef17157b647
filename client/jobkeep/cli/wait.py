"""`jobkeep wait`: until a job has ended, one way or another."""

from __future__ import annotations

import math
import time

import click

from jobkeep.cli.common import connect, job_argument, json_option, load
from jobkeep.cli.events import now, pages
from jobkeep.cli.output import document, message, printable, why_not_completed
from jobkeep.cli.times import parse_duration
from jobkeep.client import Client
from jobkeep_protocol.errors import RequestTimeout
from jobkeep_protocol.messages import Event
from jobkeep_protocol.states import CheckpointState, JobStatus

_GOES_ON = {JobStatus.PENDING, JobStatus.RUNNING}


@click.command("wait")
@job_argument
@click.option("--timeout", metavar="DURATION", help="Give up after this long: 30s, 5m, 2h.")
@json_option
@click.pass_context
def command(ctx: click.Context, job_id: str, timeout: str | None, as_json: bool) -> int:
    """Wait for a job to end; the exit status is the outcome.

    0 completed; 1 it does not go on by itself: failed, cancelled or paused; 4 there is no such
    job; 124 not within --timeout.
    """
    limit = parse_duration("--timeout", timeout) if timeout is not None else math.inf
    with connect(ctx) as client:
        state = _end_of(client, job_id, limit)
    if as_json:
        document({"job_id": job_id, "status": state.status, "error_message": state.error_message})
    else:
        why = why_not_completed(state.status, state.error_message)
        reason = f": {printable(why)}" if why else ""
        message(f"job {printable(job_id)} is {state.status}{reason}")
    return 0 if state.status is JobStatus.COMPLETED else 1


def _end_of(client: Client[CheckpointState], job_id: str, limit: float) -> CheckpointState:
    """The state of the job once it does not go on. Raises JobNotFound and RequestTimeout.

    Events say when to look at the job: from before it was looked at first, so none is missed.
    """
    happening = pages(client, job_id, now(client, job_id), time.monotonic() + limit)
    while (state := load(client, job_id)).status in _GOES_ON:
        if not any(_may_be_the_end(event) for page in happening for event in page.events):
            raise RequestTimeout(
                f"job {job_id!r} is still {state.status} after {limit:g} s; "
                "wait again, or look at it with `jobkeep show`"
            )
    return state


def _may_be_the_end(event: Event) -> bool:
    """Whether the job is to be looked at again."""
    if event.job_status is None:
        return event.kind == "missed" or (event.kind == "deleted" and event.sheet_num is None)
    return event.job_status not in _GOES_ON
