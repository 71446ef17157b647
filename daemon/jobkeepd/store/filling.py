"""Adding to the index what is older than it, between other writes.

What lives here: when a batch is due. What may not: what a batch does (that is `search_tables`).

Each batch is a write of the daemon's own, one transaction, so a daemon that is killed goes on where
its last batch ended. It waits until no other write does, yet never for longer than
`PATIENCE_SECONDS`, and then pauses for as long as the batch took: so writers keep at least half of
the writer's time, and a busy daemon gets to the end too.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from msgspec import Struct

from jobkeep_protocol.errors import JobkeepError, StorageError
from jobkeepd.store.committer import Write
from jobkeepd.store.failures import DatabaseFailed
from jobkeepd.store.search_tables import fill
from jobkeepd.store.transaction import Transaction
from jobkeepd.store.writer import Writer
from jobkeepd.store.writes import writes

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 1.0
PAUSE_SECONDS = 0.01
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
        loop = asyncio.get_running_loop()
        while True:
            await self._wait_for_quiet()
            began = loop.time()
            try:
                if not await self._batch():
                    break
            except DatabaseFailed:
                return  # the daemon ends, and has said why
            except StorageError as error:
                log.warning("adding to the index failed, and is tried again: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
            await asyncio.sleep(max(loop.time() - began, PAUSE_SECONDS))
        log.info("all texts are in the index for the search")

    async def _wait_for_quiet(self) -> None:
        with suppress(TimeoutError):  # there is no quiet: it is one batch a second
            # Not wait_for: it may swallow the cancellation that comes as the waiting ends.
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._writer.drain()

    async def _batch(self) -> bool:
        """Gives whether more is left. Raises StorageError."""
        done: asyncio.Future[bool | JobkeepError] = asyncio.get_running_loop().create_future()
        self._writer.submit(Write(FillSearch(), lambda outcome: _give(done, outcome)))
        outcome = await done
        if isinstance(outcome, JobkeepError):
            raise outcome
        return outcome


def _give(done: asyncio.Future[bool | JobkeepError], outcome: bool | JobkeepError) -> None:
    if not done.done():  # nobody waits any more when the daemon ends
        done.set_result(outcome)
