"""Events one after the other, over the pages that a daemon gives.

What lives here: where a watcher is, and the iterators that the faces give. What may not: sending
anything (the faces do).

They are no generators, so that whoever waits may be interrupted, by a timeout for one, and go on
afterwards: the next event is the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from jobkeep_protocol.messages import Event, EventsPage, Watch


class _Place:
    """Which events are still to be told, and which page to ask for after them.

    Without `after` the first page does not wait: it fixes what "now" is, for all that follows, the
    daemon going away before anything happens included.

    Raises InvalidRequest.
    """

    def __init__(self, job_id: str | None, after: int | None) -> None:
        self._job_id = job_id
        self.request = Watch(job_id, after) if after is not None else Watch(job_id, wait_seconds=0)
        self.untold: deque[Event] = deque()

    def turn_to(self, page: EventsPage) -> None:
        """The page that was asked for is here."""
        self.untold.extend(page.events)
        self.request = Watch(self._job_id, page.next)


class AsyncEvents(AsyncIterator[Event]):
    """What `StateBackend.watch` gives. `ask` gets a page from the daemon."""

    def __init__(
        self,
        job_id: str | None,
        after: int | None,
        ask: Callable[[Watch], Awaitable[EventsPage]],
    ) -> None:
        self._place = _Place(job_id, after)
        self._ask = ask

    async def __anext__(self) -> Event:
        while not self._place.untold:
            self._place.turn_to(await self._ask(self._place.request))
        return self._place.untold.popleft()


class Events(Iterator[Event]):
    """The same, blocking."""

    def __init__(
        self, job_id: str | None, after: int | None, ask: Callable[[Watch], EventsPage]
    ) -> None:
        self._place = _Place(job_id, after)
        self._ask = ask

    def __next__(self) -> Event:
        while not self._place.untold:
            self._place.turn_to(self._ask(self._place.request))
        return self._place.untold.popleft()
