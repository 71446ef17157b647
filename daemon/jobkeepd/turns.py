"""Who comes next when only so many may at the same time.

What lives here: turns that go round among users, so that one who asks much does not keep others
waiting for longer than one of his turns. What may not: what is done in a turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """So many turns at once. Belongs to the event loop it is used on."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._waiting: dict[int, deque[asyncio.Future[None]]] = {}
        """By user, in the order in which they come next."""

    @asynccontextmanager
    async def turn_of(self, uid: int) -> AsyncIterator[None]:
        """Wait for a turn of this user, and have it inside the block.

        Cancelling it is safe: the turn goes to another.
        """
        if self._free:
            self._free -= 1
        else:
            await self._wait(uid)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, uid: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(uid, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            uid = next(iter(self._waiting))
            queue = self._waiting.pop(uid)
            turn = queue.popleft()
            if queue:
                self._waiting[uid] = queue  # behind all others
            if not turn.done():  # else it was given up
                turn.set_result(None)
                return
        self._free += 1
