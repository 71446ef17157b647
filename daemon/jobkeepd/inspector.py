"""What the daemon tells of itself: its status, and its connections.

What lives here: putting together what others know. What may not: measuring it, and how it is shown.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from jobkeep_protocol.errors import StorageError
from jobkeep_protocol.messages import ConnectedClient, DaemonStatus, Worry
from jobkeep_protocol.version import __version__
from jobkeepd.access import Peer
from jobkeepd.accounts import Accounts
from jobkeepd.connections import Connections
from jobkeepd.limits import Limits
from jobkeepd.store.store import Store
from jobkeepd.worries import Clock, worries_of_files, worries_of_work

log = logging.getLogger(__name__)


class DaemonInspector:
    """Tells of one daemon; see `operations.Inspector`. `socket` is where it listens."""

    def __init__(
        self,
        store: Store,
        connections: Connections,
        accounts: Accounts,
        limits: Limits,
        socket: Path,
    ) -> None:
        self.limits = limits
        self._store = store
        self._connections = connections
        self._accounts = accounts
        self._socket = socket
        self._started = time.monotonic()
        self._clock = Clock()

    async def status(self) -> DaemonStatus:
        """How the daemon is. Raises StorageError when its files cannot be looked at."""
        store, accounts = self._store, self._accounts
        wal_bytes = store.wal_bytes
        writes_per_second, commits_per_second = store.rates
        return DaemonStatus(
            pid=os.getpid(),
            version=__version__,
            uptime_seconds=round(time.monotonic() - self._started, 3),
            socket=str(self._socket.absolute()),
            database=str(store.database.absolute()),
            database_bytes=store.database_bytes,
            wal_bytes=wal_bytes,
            durability=store.durability,
            schema_version=store.schema_version,
            clients=len(self._connections),
            jobs=await store.jobs_by_status(),
            writes=store.writes,
            commits=store.commits,
            last_checkpoint_at=store.last_checkpoint_at,
            queued_writes=store.queued_writes,
            queued_bytes=store.queued_bytes,
            writes_per_second=round(writes_per_second, 3),
            commits_per_second=round(commits_per_second, 3),
            requests=accounts.requests,
            operations=accounts.operations(),
            errors=dict(sorted(accounts.errors.items())),
            limits_reached=dict(sorted(accounts.limits_reached.items())),
            worries=self._worries(wal_bytes),
        )

    async def clients(self) -> list[ConnectedClient]:
        """Every connection, the oldest first."""
        claims = await self._store.claims_by_process()
        return [one.describe(claims.get(one.peer.pid, 0)) for one in self._connections.all()]

    def kill(self, connection_id: int, by: Peer) -> bool:
        """End a connection without answering; False when there is none of this id."""
        victim = self._connections.abort(connection_id)
        if victim is not None:
            log.warning(
                "connection %d of %s is ended: %s wants it so",
                connection_id,
                victim,
                by,
                extra=victim.fields,
            )
        return victim is not None

    def _worries(self, wal_bytes: int) -> list[Worry]:
        database = self._store.database
        try:
            found = list(worries_of_files(database, wal_bytes, self.limits))
        except OSError as error:
            raise StorageError(f"{database} cannot be looked at: {error.strerror}") from error
        stepped = self._clock.stepped_seconds
        limits = self._accounts.limits_reached_lately()
        return [*found, *worries_of_work(self._store.commit_seconds, stepped, limits)]
