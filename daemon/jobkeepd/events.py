"""What was committed last, in the order of the commits, for whoever wants to know.

What lives here: keeping what happened, up to a limit, and waiting for more. What may not: what
counts as something that happened (the store's `writes` say that), and who asks.

Each event has a number, and whoever watches asks from the last one seen. So nobody who watches is
known here, and nobody can be too slow: what is kept can be asked for, and whoever asks for more is
told that it is gone. Nothing is kept over a restart of the daemon; its numbers go on.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence

from msgspec.structs import force_setattr

from jobkeep_protocol.messages import Event, EventsPage, Watch
from jobkeep_protocol.states import utc_now
from jobkeepd.limits import Limits

GATHER_SECONDS = 0.02
"""How much longer a page waits for more, when things happen thick and fast: a few long pages cost
less than many with an event each."""


class Events:
    """The last events. Belongs to the event loop it is used on.

    `last` is the highest number that the database has. The first event gets a larger one that is
    also no smaller than the microsecond of now, so that no number comes again in a later life of
    the daemon.
    """

    def __init__(self, last: int, limits: Limits) -> None:
        self.limits = limits
        self._last = max(last, time.time_ns() // 1_000)
        self._before_all = self._last
        self._kept: deque[Event] = deque()
        self._published_at = 0.0
        self._waiting: dict[str | None, set[asyncio.Future[int]]] = {}
        """By job; None for all of them. Each gets the number after which there is news for it."""
        self._is_ending = False

    def publish(self, events: Sequence[Event]) -> None:
        """All of this was committed, in this order. It gets its numbers here: before, it was
        nobody's but the writer's."""
        if not events:
            return
        for sequence, event in enumerate(events, self._last + 1):
            force_setattr(event, "sequence", sequence)
        self._last += len(events)
        self._kept.extend(events)
        while len(self._kept) > self.limits.max_kept_events:
            self._kept.popleft()
        self._published_at = time.monotonic()
        if self._waiting:
            self._wake(events)

    async def page(self, request: Watch) -> EventsPage:
        """What happened after `request.after`; waits for something. Cancelling is safe."""
        job_id, deadline = request.job_id, time.monotonic() + request.wait_seconds
        is_busy = time.monotonic() - self._published_at < GATHER_SECONDS
        events: list[Event] = []
        after = self._last if request.after is None else request.after
        after = self._collect(job_id, after, events)
        left = request.wait_seconds
        while not events and left > 0 and not self._is_ending:
            after = self._collect(job_id, await self._wait(job_id, left), events)
            left = deadline - time.monotonic()
        if is_busy and left > 0 and not (self._is_ending or self._is_full(events)):
            await asyncio.sleep(min(left, GATHER_SECONDS))
            after = self._collect(job_id, after, events)
        return EventsPage(events, after)

    def end_waits(self) -> None:
        """The daemon ends: whoever waits gets what there is."""
        self._is_ending = True
        self._wake_all(self._last)

    # -- inside -------------------------------------------------------------------------------

    def _collect(self, job_id: str | None, after: int, events: list[Event]) -> int:
        """Add what is kept now to a page; gives the number of the last event looked at."""
        kept, before = self._kept, self._last - len(self._kept)
        if not before <= after <= self._last:
            if after > 0:
                events.append(self._missed(after, before))
            after = before
        for index in range(after - before, len(kept)):
            event = kept[index]
            if job_id is None or event.job_id == job_id or event.job_id is None:
                events.append(event)
                if self._is_full(events):
                    return event.sequence
        return self._last

    def _is_full(self, events: list[Event]) -> bool:
        """Whether these are as many as a page may have."""
        return len(events) >= self.limits.max_page_rows

    def _missed(self, after: int, before: int) -> Event:
        """What there is in place of all that came after `after`, up to `before`."""
        if self._before_all <= after <= self._last:
            limit = self.limits.max_kept_events
            what = (
                f"events {after + 1} to {before} are not kept any more (max_kept_events: {limit})"
            )
        else:
            what = (
                f"what happened between event {after} and event {before + 1} is not known: the "
                "daemon was started in between"
            )
        message = f"{what}; look at the jobs themselves"
        return Event(before, utc_now(), "missed", message=message)

    async def _wait(self, job_id: str | None, seconds: float) -> int:
        """Wait for an event that concerns a job; gives the number before its own, after which all
        the others are known to concern other jobs."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[int] = loop.create_future()
        waiters = self._waiting.setdefault(job_id, set())
        waiters.add(waiter)
        timer = loop.call_later(seconds, lambda: _tell(waiter, self._last))
        try:
            return await waiter
        finally:
            timer.cancel()
            waiters.discard(waiter)
            if not waiters and self._waiting.get(job_id) is waiters:
                del self._waiting[job_id]

    def _wake(self, events: Sequence[Event]) -> None:
        """Tell those whom one of these concerns, each from the first that does."""
        for event in events:
            before = event.sequence - 1
            if event.job_id is None:
                self._wake_all(before)
            else:
                self._wake_some(event.job_id, before)
                self._wake_some(None, before)
            if not self._waiting:
                return

    def _wake_all(self, before: int) -> None:
        for job_id in tuple(self._waiting):
            self._wake_some(job_id, before)

    def _wake_some(self, job_id: str | None, before: int) -> None:
        for waiter in self._waiting.pop(job_id, ()):
            _tell(waiter, before)


def _tell(waiter: asyncio.Future[int], before: int) -> None:
    if not waiter.done():
        waiter.set_result(before)
