"""`jobkeep call`: any operation, asked for by its name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import msgspec

from jobkeep.cli.common import connect
from jobkeep.cli.operations import find_operation, operation_argument
from jobkeep.cli.parameters import to_request
from jobkeep.client import Client
from jobkeep_protocol.request import Request, Stream
from jobkeep_protocol.states import CheckpointState
from jobkeep_protocol.varlink import encode_reply


def _complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[Any]:
    from jobkeep.cli.completion import parameters

    return parameters(ctx, incomplete)


@click.command("call")
@operation_argument(required=True)
@click.argument("given", metavar="[KEY=VALUE … | JSON | -]", nargs=-1, shell_complete=_complete)
@click.option("--more", "with_more", is_flag=True, help="Also what comes after: every page.")
@click.option("--json", "as_json", is_flag=True, help="Print each reply on one line.")
@click.pass_context
def command(
    ctx: click.Context, operation: str, given: tuple[str, ...], with_more: bool, as_json: bool
) -> None:
    """Ask for an operation, and print the reply as JSON.

    The operation is named as in load, Load or org.jobkeep.Load; `jobkeep introspect` says what it
    takes. A VALUE is text as it stands for a field that is text, and JSON for every other; all of
    them may be given as one JSON object, which - reads from standard input. With --more each page
    is a line, and what waits for news goes on until Ctrl-C.
    """
    request = to_request(find_operation(operation), given)
    with connect(ctx) as client:
        for reply in _replies(client, request, with_more=with_more):
            _print(encode_reply(type(request), reply), on_one_line=as_json or with_more)


def _replies(
    client: Client[CheckpointState], request: Request[Any], *, with_more: bool
) -> Iterator[Any]:
    """The reply and, if wanted, those to the requests that follow."""
    following: Request[Any] | None = request
    while following is not None:
        reply = client.call(following)
        if not (with_more and isinstance(following, Stream) and following.is_empty(reply)):
            yield reply
        following = following.following(reply) if with_more else None


def _print(reply: bytes, *, on_one_line: bool) -> None:
    parameters = msgspec.json.decode(reply, type=dict[str, msgspec.Raw])["parameters"]
    text = bytes(parameters) if on_one_line else msgspec.json.format(bytes(parameters), indent=2)
    print(text.decode(), flush=on_one_line)
