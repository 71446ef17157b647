"""What happens to a read between a session and the store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from jobkeep_protocol.messages import Dialect, GetNextSheet
from jobkeepd.access import Peer
from jobkeepd.events import Events
from jobkeepd.exchange import Exchange
from jobkeepd.limits import DEFAULT_LIMITS
from jobkeepd.operations import READS_AT_ONCE, Operations
from tests.support import wait_until_async

if TYPE_CHECKING:
    from jobkeepd.store.store import Store


class SlowStore:
    """A store that answers reads when it is told to."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.asked = 0
        self.events = Events(0, DEFAULT_LIMITS)

    def known(self, _: Any) -> None:
        """Nothing is in memory."""

    async def read(self, _: Any) -> int:
        """The same answer to all."""
        self.asked += 1
        await self.may_answer.wait()
        return 1

    async def drain(self) -> None:
        """Nothing was written."""


class Asking:
    """Sends requests, keeps the answers, and may leave."""

    client_id = b""
    connection_id = 7
    dialect: Dialect = "binary"
    command = "asking"

    def __init__(self) -> None:
        self.peer = Peer.this_process()
        self.is_open = True
        self.answers: list[bytes] = []

    def answer(self, _: Exchange, body: bytes) -> int:
        """Keep it."""
        self.answers.append(body)
        return len(body)


async def test_read_whose_client_has_left_before_its_turn_is_not_made() -> None:
    store = SlowStore()
    operations = Operations(cast("Store", store))
    caller = Asking()

    async def all_turns_are_taken() -> bool:
        return store.asked == READS_AT_ONCE

    for request_id in range(3 * READS_AT_ONCE):
        operations.dispatch(Exchange(caller, request_id, GetNextSheet("job"), 10, 14))
    await wait_until_async(all_turns_are_taken)
    caller.is_open = False
    store.may_answer.set()
    await operations.close()

    assert store.asked == READS_AT_ONCE
    assert len(caller.answers) == READS_AT_ONCE, "what was begun is answered"


async def test_read_whose_client_is_there_is_made_whenever_its_turn_comes() -> None:
    store = SlowStore()
    operations = Operations(cast("Store", store))
    caller = Asking()

    for request_id in range(3 * READS_AT_ONCE):
        operations.dispatch(Exchange(caller, request_id, GetNextSheet("job"), 10, 14))
    store.may_answer.set()
    await operations.close()

    assert len(caller.answers) == store.asked == 3 * READS_AT_ONCE
