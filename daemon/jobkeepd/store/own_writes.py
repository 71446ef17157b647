"""What the daemon writes by itself: how it is waited for, and how it keeps out of the way.

What lives here: waiting for the outcome of a write that nobody has sent, and doing one between the
writes of others. What may not: what is written, and when it is due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from jobkeep_protocol.errors import JobkeepError
from jobkeepd.store.committer import Write

PATIENCE_SECONDS = 1.0
PAUSE_SECONDS = 0.01

T = TypeVar("T")


class Writes(Protocol):
    """Whoever takes writes on, such as the writer."""

    def submit(self, write: Write) -> None:
        """Apply this write; its `done` is called after the commit."""


async def apply(writer: Writes, request: Any, committed: Callable[[], object]) -> Any:
    """Apply a write; gives its reply, after `committed` was called. Raises what it is refused with.

    Cancelling stops the waiting and not the write.
    """
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def settle(outcome: Any) -> None:
        committed()
        if not done.done():  # nobody waits any more when the daemon ends
            done.set_result(outcome)

    writer.submit(Write(request, settle))
    outcome = await done
    if isinstance(outcome, JobkeepError):
        raise outcome
    return outcome


async def between_writes(
    drain: Callable[[], Awaitable[None]], write: Callable[[], Awaitable[T]]
) -> T:
    """Write one batch of many; gives its reply.

    It waits until no other write does, yet never for longer than `PATIENCE_SECONDS`, and then
    pauses for as long as the batch took: so writers keep at least half of the writer's time, and a
    busy daemon gets to the end too.
    """
    loop = asyncio.get_running_loop()
    with suppress(TimeoutError):  # there is no quiet: it is one batch a second
        # Not wait_for: it may swallow the cancellation that comes as the waiting ends.
        async with asyncio.timeout(PATIENCE_SECONDS):
            await drain()
    began = loop.time()
    reply = await write()
    await asyncio.sleep(max(loop.time() - began, PAUSE_SECONDS))
    return reply
