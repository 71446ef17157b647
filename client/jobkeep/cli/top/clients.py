"""The list of clients: one row for each connection, the busiest first.

What lives here: what is known of each, and the order. What may not: how it is drawn (that is
`clients_page`), reading.
"""

from __future__ import annotations

from msgspec import Struct

from jobkeep.cli.top.cursor import Cursor
from jobkeep.cli.top.rates import Rates
from jobkeep.cli.top.sample import Sample
from jobkeep_protocol.messages import ConnectedClient

RATE_WINDOW_SECONDS = 5.0


class ClientRow(Struct, frozen=True):
    """One connection; `per_second` are its requests, None before there are two samples."""

    client: ConnectedClient
    user: str
    per_second: float | None


class ClientList:
    """The rows, and the one that is selected."""

    def __init__(self) -> None:
        self.rows: dict[int, ClientRow] = {}
        """By the id of the connection, in the order that they are shown in."""
        self.cursor: Cursor[int] = Cursor()
        self._rates: Rates[int] = Rates(RATE_WINDOW_SECONDS)

    def take(self, sample: Sample) -> None:
        """Show how the clients are now, if they were asked for."""
        if sample.clients is None:
            return
        self._rates.sample(sample.at, {one.connection_id: one.requests for one in sample.clients})
        rows = [
            ClientRow(
                one,
                sample.users.get(one.uid, str(one.uid)),
                self._rates.per_second(one.connection_id),
            )
            for one in sample.clients
        ]
        rows.sort(key=lambda row: (-(row.per_second or 0.0), row.client.connection_id))
        self.rows = {row.client.connection_id: row for row in rows}
        self.cursor.show(list(self.rows))
