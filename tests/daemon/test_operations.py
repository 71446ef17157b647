"""What happens to a read between a session and the store."""

from __future__ import annotations

from asyncio import Event
from typing import TYPE_CHECKING, Any, cast

from jobkeep_protocol.messages import GetNextSheet
from jobkeepd.access import Peer
from jobkeepd.operations import READS_AT_ONCE, Operations
from tests.support import wait_until_async

if TYPE_CHECKING:
    from jobkeepd.store.store import Store


class SlowStore:
    """A store that answers reads when it is told to."""

    def __init__(self) -> None:
        self.may_answer = Event()
        self.asked = 0

    def known(self, _: Any) -> None:
        """Nothing is in memory."""

    async def read(self, _: Any) -> int:
        """The same answer to all."""
        self.asked += 1
        await self.may_answer.wait()
        return 1

    async def drain(self) -> None:
        """Nothing was written."""


async def test_read_whose_client_has_left_before_its_turn_is_not_made() -> None:
    store = SlowStore()
    operations = Operations(cast("Store", store))
    answers: list[bytes] = []
    is_there = True

    async def all_turns_are_taken() -> bool:
        return store.asked == READS_AT_ONCE

    for request_id in range(3 * READS_AT_ONCE):
        operations.dispatch(
            *(Peer.this_process(), b"", request_id, GetNextSheet("job"), answers.append, 10),
            is_wanted=lambda: is_there,
        )
    await wait_until_async(all_turns_are_taken)
    is_there = False
    store.may_answer.set()
    await operations.close()

    assert store.asked == READS_AT_ONCE
    assert len(answers) == READS_AT_ONCE, "what was begun is answered"


async def test_read_whose_client_is_there_is_made_whenever_its_turn_comes() -> None:
    store = SlowStore()
    operations = Operations(cast("Store", store))
    answers: list[bytes] = []

    for request_id in range(3 * READS_AT_ONCE):
        operations.dispatch(
            Peer.this_process(), b"", request_id, GetNextSheet("job"), answers.append, 10
        )
    store.may_answer.set()
    await operations.close()

    assert len(answers) == store.asked == 3 * READS_AT_ONCE
