"""Turns go round among users."""

from __future__ import annotations

import asyncio

import pytest

from jobkeepd.turns import Turns


class Crowd:
    """Users who wait for turns, one at a time; `order` has who had one."""

    def __init__(self, turns: Turns) -> None:
        self.order: list[int] = []
        self._turns = turns
        self._may_end = asyncio.Event()

    def enter(self, *uids: int) -> list[asyncio.Task[None]]:
        """These users ask for a turn, one after the other."""
        return [asyncio.create_task(self._have_turn(uid)) for uid in uids]

    def go(self) -> None:
        """Whoever has a turn may end it."""
        self._may_end.set()

    async def _have_turn(self, uid: int) -> None:
        async with self._turns.turn_of(uid):
            self.order.append(uid)
            await self._may_end.wait()


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_no_more_than_so_many_have_a_turn_at_once() -> None:
    crowd = Crowd(Turns(2))
    tasks = crowd.enter(1, 1, 1)
    await settle()
    assert crowd.order == [1, 1]
    crowd.go()
    await asyncio.gather(*tasks)
    assert crowd.order == [1, 1, 1]


async def test_user_who_asks_much_does_not_keep_another_waiting() -> None:
    crowd = Crowd(Turns(1))
    tasks = crowd.enter(1, 1, 1, 1, 1, 2, 3, 2)
    await settle()
    crowd.go()
    await asyncio.gather(*tasks)
    assert crowd.order == [1, 1, 2, 3, 1, 2, 1, 1]


@pytest.mark.parametrize("which", [1, 2])
async def test_turn_that_is_given_up_goes_to_another(which: int) -> None:
    crowd = Crowd(Turns(1))
    tasks = crowd.enter(1, 2, 3)
    await settle()
    tasks[which].cancel()
    crowd.go()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert crowd.order == [1, *({2, 3} - {which + 1})]
    (last,) = crowd.enter(4)
    await last
    assert crowd.order[-1] == 4
