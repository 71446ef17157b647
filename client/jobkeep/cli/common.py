"""What several commands share: the client of a command line, arguments, and reading one job.

What lives here: helpers that need click or the client. What may not: printing (that is `output`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from jobkeep.client import Client
from jobkeep_protocol.errors import JobNotFound
from jobkeep_protocol.states import CheckpointState

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def connect(ctx: click.Context) -> Client[CheckpointState]:
    """A client for the socket of this command line; close it with `with`.

    Raises DaemonUnavailable.
    """
    client: Client[CheckpointState] = Client(ctx.obj)
    return client


def json_option(function: FunctionT) -> FunctionT:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(
        function
    )


def limit_option(default: int) -> Callable[[FunctionT], FunctionT]:
    """`--limit`."""
    return click.option(
        "--limit",
        type=click.IntRange(min=1),
        default=default,
        show_default=True,
        metavar="N",
        help="At most this many lines of a table.",
    )


def job_argument(function: FunctionT) -> FunctionT:
    """`JOB`."""
    return click.argument("job_id", metavar="JOB", shell_complete=complete_job)(function)


def complete_job(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[Any]:
    """What a shell is offered for JOB."""
    from jobkeep.cli.completion import jobs

    return jobs(ctx, incomplete)


def check_job(client: Client[CheckpointState], job_id: str | None) -> None:
    """Raise JobNotFound for a job that is asked about and not there."""
    if job_id is not None and not client.get_job_statistics(job_id):
        raise JobNotFound.named(job_id)


def load(client: Client[CheckpointState], job_id: str) -> CheckpointState:
    """The state of a job. Raises JobNotFound."""
    state = client.load(job_id)
    if state is None:
        raise JobNotFound.named(job_id)
    return state
