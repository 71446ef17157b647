"""The page with the list of clients.

What lives here: its columns, and the cells of a client. What may not: which clients and in which
order (that is `clients`).
"""

from __future__ import annotations

from rich.text import Text

from jobkeep.cli.output import size
from jobkeep.cli.top.clients import ClientList, ClientRow
from jobkeep.cli.top.grid import Column, Grid
from jobkeep.cli.top.words import since

COLUMNS = [
    Column("PID", 8, is_right=True),
    Column("COMMAND", 12, most=24),
    Column("USER", 8, rank=4, most=16),
    Column("REQ/S", 7, rank=1, is_right=True),
    Column("IN FLIGHT", 9, rank=6, is_right=True),
    Column("CLAIMS", 6, rank=2, is_right=True),
    Column("LAST OPERATION", 20, rank=3),
    Column("IDLE", 12, rank=5, is_right=True),
    Column("UNSENT", 9, rank=8, is_right=True),
    Column("VERSION", 20, rank=7, most=40),
]


def clients_lines(clients: ClientList, width: int, height: int) -> list[Text]:
    """The lines of the page: the names of the columns, the clients in the window."""
    grid = Grid(COLUMNS, width)
    window = clients.cursor.window(height - 1)
    rows = list(clients.rows.values())[window.start : window.stop]
    selected = clients.cursor.selected
    lines = [grid.row(_cells(row), row.client.connection_id == selected) for row in rows]
    return [grid.titles(), *lines]


def _cells(row: ClientRow) -> list[str | Text]:
    client = row.client
    return [
        str(client.pid),
        client.command,
        row.user,
        "-" if row.per_second is None else f"{row.per_second:,.1f}",
        str(client.in_flight),
        str(client.claims),
        client.last_operation or "-",
        since(client.idle_seconds),
        size(client.unsent_bytes),
        f"{client.name} {client.version}",
    ]
