"""Adding to the index what is older than it, between other writes.

What lives here: when a batch is due. What may not: what a batch does (that is `search_tables`).

Each batch is a write of the daemon's own, one transaction, so a daemon that is killed goes on where
its last batch ended. Batches go between the writes of others (`own_writes`).
"""

from __future__ import annotations

import asyncio
import logging

from msgspec import Struct

from jobkeep_protocol.errors import StorageError
from jobkeepd.store.failures import DatabaseFailed
from jobkeepd.store.own_writes import apply, between_writes
from jobkeepd.store.search_tables import fill
from jobkeepd.store.transaction import Transaction
from jobkeepd.store.writer import Writer
from jobkeepd.store.writes import writes

log = logging.getLogger(__name__)

RETRY_SECONDS = 30.0
"""After a batch that could not be written, as when the disk is full."""


class FillSearch(Struct, frozen=True):
    """The daemon's own write: one batch of what is not in the index yet."""


@writes(FillSearch)
def fill_search(tx: Transaction, _: FillSearch) -> bool:
    """Gives whether more is left."""
    return fill(tx.connection)


class Filling:
    """Fills the index, from now until its end or `close`. Belongs to the loop of the writer."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._task = asyncio.get_running_loop().create_task(self._fill())

    async def close(self) -> None:
        """Begin no further batch."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _fill(self) -> None:
        log.info("texts that are not in the index for the search yet are being added to it")
        while True:
            try:
                if not await between_writes(self._writer.drain, self._batch):
                    break
            except DatabaseFailed:
                return  # the daemon ends, and has said why
            except StorageError as error:
                log.warning("adding to the index failed, and is tried again: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
        log.info("all texts are in the index for the search")

    async def _batch(self) -> bool:
        """Gives whether more is left. Raises StorageError."""
        more: bool = await apply(self._writer, FillSearch(), _nothing_follows)
        return more


def _nothing_follows() -> None:
    """The index is no part of a state, so nothing in memory changes with it."""
