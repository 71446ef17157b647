"""Filling the index for the search ends when the daemon does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobkeepd.store.committer import Write
from jobkeepd.store.filling import Filling
from tests.support import PATIENCE, scaled


class Busy:
    """A writer that is quiet at once, and has always more to be filled in."""

    def __init__(self) -> None:
        self.batches = 0

    async def drain(self) -> None:
        """Nothing is under way."""

    def submit(self, write: Write) -> None:
        self.batches += 1
        asyncio.get_running_loop().call_soon(write.done, True)


@pytest.mark.parametrize("steps", range(8))
async def test_no_batch_follows_the_one_under_way_whenever_it_is_closed(steps: int) -> None:
    writer: Any = Busy()
    filling = Filling(writer)
    for _ in range(steps):
        await asyncio.sleep(0)

    async with asyncio.timeout(scaled(PATIENCE)):
        await filling.close()

    assert writer.batches <= 1
