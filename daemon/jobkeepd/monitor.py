"""Requests as they are answered, for those who watch.

What lives here: keeping the last of them while somebody watches, filters, and waiting for more.
What may not: measuring them (that is `accounts`).

Nothing is kept while nobody has asked for a while. What is kept is shared by all who watch, and
each asks from where it stopped: who is too slow is told how many are gone, and slows nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from itertools import islice

from msgspec.structs import replace

from jobkeep_protocol.codec import OPERATIONS
from jobkeep_protocol.messages import Monitor, MonitorPage, ServedRequest
from jobkeep_protocol.request import operation_name
from jobkeep_protocol.values import refused

KEPT = 10_000
KEPT_PAYLOAD_CHARACTERS = 8 * 1024 * 1024
"""In all payloads together."""

MAX_PAYLOAD_CHARACTERS = 64 * 1024
"""How much of one request or reply is given at the most."""

PATIENCE_SECONDS = 10.0
"""Whoever has not asked for so long watches no more."""

GATHER_SECONDS = 0.05
"""How long a page waits for more when something has come just now: a busy daemon fills few pages,
not many."""

MAX_PAGE_REQUESTS = 1_000
MAX_PAGE_CHARACTERS = 4 * 1024 * 1024


class RequestMonitor:
    """The requests that were answered last. Belongs to the event loop it is used on.

    Requests are numbered from `start` on. While it `is_on`, each is added, with its payloads cut to
    `payloads` characters.
    """

    def __init__(self, start: int) -> None:
        self.is_on = False
        self.payloads = 0
        self._start = start
        self._last = start
        self._records: deque[ServedRequest] = deque()
        self._payload_characters = 0
        self._news = asyncio.Event()
        self._added_at = 0.0
        self._asked_at = 0.0
        self._waiting = 0
        self._is_ending = False

    def add(self, request: ServedRequest) -> None:
        """A request was answered, the next after the one before."""
        self._last = request.sequence
        self._records.append(request)
        self._payload_characters += _payload_characters(request)
        while len(self._records) > KEPT or self._payload_characters > KEPT_PAYLOAD_CHARACTERS:
            self._payload_characters -= _payload_characters(self._records.popleft())
        self._added_at = time.monotonic()
        self._news.set()

    async def page(self, request: Monitor, last: int) -> MonitorPage:
        """What was answered after `request.after` and passes its filters; waits for some. `last` is
        the number of the request that was answered last.

        Raises InvalidRequest for an operation that there is none of. Cancelling is safe.
        """
        wanted = Wanted(request)
        self._turn_on(last, wanted.payloads)
        after = last if request.after is None else request.after
        deadline = time.monotonic() + request.wait_seconds
        missed = 0
        if time.monotonic() - self._added_at < GATHER_SECONDS < request.wait_seconds:
            await self._gather()
        while True:
            page = self._collect(wanted, after)
            after, missed = page.next, missed + page.missed
            left = deadline - time.monotonic()
            if page.requests or left <= 0 or self._is_ending:
                return MonitorPage(page.requests, after, missed)
            await self._wait(left)

    def end_waits(self) -> None:
        """The daemon ends: whoever waits gets what there is."""
        self._is_ending = True
        self._news.set()

    # -- inside -------------------------------------------------------------------------------

    def _turn_on(self, last: int, payloads: int) -> None:
        self._asked_at = time.monotonic()
        self.payloads = max(self.payloads, payloads)
        if not self.is_on:
            self.is_on = True
            self._last = last
            self._look_later(PATIENCE_SECONDS)

    def _look_later(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._look_whether_watched)

    def _look_whether_watched(self) -> None:
        left = self._asked_at + PATIENCE_SECONDS - time.monotonic()
        if self._waiting or left > 0:
            self._look_later(max(left, PATIENCE_SECONDS / 10))
            return
        self.is_on = False
        self.payloads = self._payload_characters = 0
        self._records.clear()

    async def _wait(self, seconds: float) -> None:
        self._waiting += 1
        try:
            self._news.clear()
            async with asyncio.timeout(seconds):
                await self._news.wait()
                await self._gather()
        except TimeoutError:
            pass  # the page is empty, or has what came just now
        finally:
            self._waiting -= 1
            self._asked_at = time.monotonic()

    async def _gather(self) -> None:
        if not self._is_ending:
            await asyncio.sleep(GATHER_SECONDS)

    def _collect(self, wanted: Wanted, after: int) -> MonitorPage:
        """A page from what is kept now."""
        first = self._records[0].sequence if self._records else self._last + 1
        if not self._start <= after <= self._last:  # a number of another life of the daemon
            after = first - 1
        missed = max(0, first - 1 - after)
        found: list[ServedRequest] = []
        characters = 0
        for record in islice(self._records, max(0, after + 1 - first), None):
            if not wanted.has(record):
                continue
            found.append(wanted.cut(record))
            characters += _payload_characters(found[-1])
            if len(found) >= MAX_PAGE_REQUESTS or characters > MAX_PAGE_CHARACTERS:
                return MonitorPage(found, record.sequence, missed)
        return MonitorPage(found, self._last, missed)


class Wanted:
    """Which requests a watcher wants to see, and how much of them."""

    def __init__(self, request: Monitor) -> None:
        self.payloads = min(request.payloads, MAX_PAYLOAD_CHARACTERS)
        self._operations = {_known(name) for name in request.methods}
        self._request = request

    def has(self, record: ServedRequest) -> bool:
        """Whether a request passes every filter."""
        wanted = self._request
        return not (
            (self._operations and record.operation not in self._operations)
            or (wanted.job_id is not None and record.job_id != wanted.job_id)
            or (
                wanted.client is not None and wanted.client not in {str(record.pid), record.command}
            )
            or (wanted.errors_only and record.error is None)
            or record.duration_seconds < wanted.slower_than_seconds
        )

    def cut(self, record: ServedRequest) -> ServedRequest:
        """A request with as much of its payloads as was asked for."""
        if record.request is None and record.reply is None:
            return record
        return replace(record, request=self._part(record.request), reply=self._part(record.reply))

    def _part(self, payload: str | None) -> str | None:
        return payload[: self.payloads] if payload and self.payloads else None


def _known(name: str) -> str:
    """An operation, by its name in either dialect. Raises InvalidRequest."""
    known = operation_name(name.rpartition(".")[2])
    if known not in OPERATIONS:
        raise refused("methods", name, f"operations: {', '.join(sorted(OPERATIONS))}")
    return known


def _payload_characters(record: ServedRequest) -> int:
    return len(record.request or "") + len(record.reply or "")
