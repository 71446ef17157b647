"""Requests that were applied already, so that one sent again is answered and not repeated.

What lives here: the last reply in each slot of each client, in memory and in the table
`applied_requests`. What may not: what a request does. The scheme is described in
`jobkeep_protocol.messages`.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from datetime import timedelta

from msgspec import Struct

from jobkeep_protocol.errors import ProtocolError
from jobkeep_protocol.messages import SLOTS
from jobkeep_protocol.states import utc_now
from jobkeepd.store.rows import to_text

KEPT_CLIENTS = 1_024
"""Clients whose slots are kept in memory; the others are read from the table."""

KEPT_FOR = timedelta(days=1)
"""How long after its last write a client can still ask for the reply again."""

_NEVER = "9999"
"""Later than any time that is written down."""


class RequestKey(Struct, frozen=True):
    """Names one request for ever; without a client id, for this connection only."""

    client_id: bytes
    request_id: int

    @property
    def slot(self) -> int:
        """The slot the request is in."""
        return self.request_id % SLOTS


class AppliedRequests:
    """The last reply in each slot of each client."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._clients: OrderedDict[bytes, dict[int, tuple[int, bytes]]] = OrderedDict()
        self._new: dict[tuple[bytes, int], tuple[int, bytes]] = {}
        self._earliest = _NEVER
        self._earliest_before = _NEVER
        """What was written down since `expire` was called last is no earlier than the first of
        these, and what was between that call and the one before no earlier than the second."""

    def reply_to(self, key: RequestKey) -> bytes | None:
        """The reply that was given to this request, None when it is new.

        Raises ProtocolError for a request that its client has given up since.
        """
        if not key.client_id:
            return None
        request_id, reply = self._slots(key.client_id).get(key.slot, (-1, b""))
        if request_id < key.request_id:
            return None
        if request_id == key.request_id:
            return reply
        raise ProtocolError(
            f"request {key.request_id} comes after request {request_id} of the same slot; ids must "
            "grow in each slot"
        )

    def add(self, key: RequestKey, reply: bytes) -> None:
        """This request was applied, in the transaction that is open now."""
        if not key.client_id:
            return
        self._slots(key.client_id)[key.slot] = (key.request_id, reply)
        self._new[key.client_id, key.slot] = (key.request_id, reply)

    def store(self) -> None:
        """Write what was added into the transaction."""
        if not self._new:
            return
        now = to_text(utc_now())
        self._earliest = min(self._earliest, now)
        self._connection.executemany(
            "INSERT OR REPLACE INTO applied_requests VALUES (?, ?, ?, ?, ?)",
            [(*place, *applied, now) for place, applied in self._new.items()],
        )

    def committed(self) -> None:
        """What was added is on disk."""
        self._new.clear()
        while len(self._clients) > KEPT_CLIENTS:
            self._clients.popitem(last=False)

    def rolled_back(self) -> None:
        """What was added is undone."""
        for client_id, _ in self._new:
            self._clients.pop(client_id, None)
        self._new.clear()

    def forget(self) -> None:
        """Rely on nothing but the table."""
        self._clients.clear()

    def expire(self) -> None:
        """Delete what nobody will ask for any more, in a transaction of its own.

        The clock says what that is, and it may be set. So whatever it says, what was written down
        since the last call but one stays.
        """
        old = to_text(utc_now() - KEPT_FOR)
        kept_from = min(old, self._earliest, self._earliest_before)
        self._connection.execute("DELETE FROM applied_requests WHERE applied_at < ?", (kept_from,))
        self._earliest_before, self._earliest = self._earliest, _NEVER

    def _slots(self, client_id: bytes) -> dict[int, tuple[int, bytes]]:
        slots = self._clients.get(client_id)
        if slots is None:
            found = self._connection.execute(
                "SELECT slot, request_id, reply FROM applied_requests WHERE client_id = ?",
                (client_id,),
            )
            slots = {slot: (request_id, reply) for slot, request_id, reply in found}
            self._clients[client_id] = slots
        self._clients.move_to_end(client_id)
        return slots
