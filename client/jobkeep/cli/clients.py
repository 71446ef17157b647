"""`jobkeep clients`: who is connected."""

from __future__ import annotations

import click
from msgspec.structs import asdict

from jobkeep.cli.app import EXIT_NOT_FOUND
from jobkeep.cli.common import connect, json_option
from jobkeep.cli.output import counted, document, message, printable, size, table, user_name
from jobkeep.cli.times import duration
from jobkeep.client import Client
from jobkeep_protocol.messages import ConnectedClient, KillClient, ListClients
from jobkeep_protocol.states import CheckpointState

COLUMNS = (
    *("ID", "CLIENT", "USER", "ROLE", "SPEAKS", "FOR", "IDLE", "REQUESTS", "NOW"),
    *("IN", "OUT", "UNREAD", "CLAIMS", "LAST"),
)


@click.command("clients")
@click.option("--kill", type=int, metavar="ID", help="End this connection; for administrators.")
@json_option
@click.pass_context
def command(ctx: click.Context, kill: int | None, as_json: bool) -> int:
    """Show who is connected, the oldest connection first.

    FOR is how long it is there, IDLE how long it has asked for nothing, NOW how many of its
    requests are under way, UNREAD what it has not taken of its replies, CLAIMS how many sheets its
    process holds. What was begun for a connection that is ended is done all the same.
    """
    with connect(ctx) as client:
        connected = client.call(ListClients())
        if kill is not None:
            return _kill(client, kill, connected, as_json=as_json)
    if as_json:
        document([{**asdict(one), "user": user_name(one.uid)} for one in connected])
    else:
        table(COLUMNS, map(_cells, connected))
    return 0


def _kill(
    client: Client[CheckpointState],
    connection_id: int,
    connected: list[ConnectedClient],
    *,
    as_json: bool,
) -> int:
    """End a connection, and say whose it was; gives the exit status."""
    whose = {one.connection_id: one for one in connected}.get(connection_id)
    if not client.call(KillClient(connection_id)):
        message(f"there is no connection {connection_id}; `jobkeep clients` lists them")
        return EXIT_NOT_FOUND
    if as_json:
        document({"connection_id": connection_id, "killed": True})
    about = ""
    if whose is not None:  # else it has come meanwhile
        about = f" of {_process(whose)}, user {user_name(whose.uid)}"
        if whose.in_flight:
            about += f", with {counted(whose.in_flight, 'request')} under way"
    message(f"ended connection {connection_id}{about}")
    return 0


def _process(one: ConnectedClient) -> str:
    return f"{printable(one.command)}[{one.pid}]"


def _cells(one: ConnectedClient) -> tuple[object, ...]:
    speaks = " ".join(filter(None, [one.dialect or "-", one.name, one.version]))
    return (
        one.connection_id,
        _process(one),
        user_name(one.uid),
        one.role,
        speaks,
        duration(one.connected_seconds),
        duration(one.idle_seconds),
        one.requests,
        one.in_flight,
        size(one.bytes_in),
        size(one.bytes_out),
        size(one.unsent_bytes),
        one.claims,
        one.last_operation or "-",
    )
