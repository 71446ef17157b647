"""Events one after the other, however their pages come."""

from __future__ import annotations

import pytest

from jobkeep_protocol.errors import DaemonUnavailable, InvalidRequest
from jobkeep_protocol.messages import Event, EventsPage, Watch
from jobkeep_protocol.states import utc_now
from jobkeep_protocol.watching import AsyncEvents, Events


class Daemon:
    """Gives these pages, one for each request; an error in the place of a page is raised."""

    def __init__(self, *pages: EventsPage | BaseException) -> None:
        self._pages = list(pages)
        self.asked: list[Watch] = []

    def page(self, request: Watch) -> EventsPage:
        """The next one."""
        self.asked.append(request)
        page = self._pages.pop(0)
        if isinstance(page, BaseException):
            raise page
        return page

    async def page_async(self, request: Watch) -> EventsPage:
        """The same."""
        return self.page(request)


def page_to(last: int, *sequences: int) -> EventsPage:
    """A page of these events, after which `last` comes."""
    return EventsPage([Event(one, utc_now(), "job", "job") for one in sequences], last)


def test_watch_goes_from_page_to_page() -> None:
    daemon = Daemon(page_to(5, 4, 5), page_to(9), page_to(12, 11))

    events = Events("job", 3, daemon.page)

    assert [next(events).sequence for _ in range(3)] == [4, 5, 11]
    assert daemon.asked == [Watch("job", 3), Watch("job", 5), Watch("job", 9)]


def test_watch_from_now_fixes_when_now_is_before_it_waits() -> None:
    daemon = Daemon(page_to(7), page_to(8, 8))

    assert next(Events(None, None, daemon.page)).sequence == 8

    assert [(one.after, one.wait_seconds) for one in daemon.asked] == [(None, 0.0), (7, 30.0)]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), DaemonUnavailable("it went away")])
async def test_wait_that_is_interrupted_can_be_taken_up_again(interruption: BaseException) -> None:
    blocking = Daemon(page_to(4, 4), interruption, page_to(5, 5))
    asynchronous = Daemon(page_to(4, 4), interruption, page_to(5, 5))
    events = Events("job", 3, blocking.page)
    async_events = AsyncEvents("job", 3, asynchronous.page_async)
    assert next(events).sequence == (await anext(async_events)).sequence == 4

    with pytest.raises(type(interruption)):
        next(events)
    with pytest.raises(type(interruption)):
        await anext(async_events)

    assert next(events).sequence == (await anext(async_events)).sequence == 5
    assert blocking.asked == asynchronous.asked
    assert blocking.asked[1:] == [Watch("job", 4)] * 2


def test_bad_argument_is_refused_at_once() -> None:
    with pytest.raises(InvalidRequest, match="job_id"):
        Events("", 3, Daemon().page)
