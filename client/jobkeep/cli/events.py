"""Events for commands: page after page until a moment.

What lives here: what `jobkeep watch` and `jobkeep wait` share. What may not: printing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from jobkeep.client import Client
from jobkeep_protocol.errors import DaemonUnavailable, RequestTimeout
from jobkeep_protocol.messages import EventsPage, Watch
from jobkeep_protocol.states import CheckpointState

LONGEST_WAIT = 30.0
"""Seconds that one page is waited for."""

SHORTEST_TIMEOUT = 0.05


def now(client: Client[CheckpointState], job_id: str | None) -> int:
    """The number of the last event there is: after it comes all that happens from now on."""
    return client.call(Watch(job_id, wait_seconds=0.0)).next


def pages(
    client: Client[CheckpointState], job_id: str | None, after: int, deadline: float
) -> Iterator[EventsPage]:
    """What happens after an event, up to the deadline by `time.monotonic`.

    It ends then, whether the daemon is there or not.
    """
    while (left := deadline - time.monotonic()) > 0:
        page = _page(client, Watch(job_id, after, min(left, LONGEST_WAIT)), deadline)
        if page is None:
            return
        after = page.next
        yield page


def _page(client: Client[CheckpointState], request: Watch, deadline: float) -> EventsPage | None:
    """The next page; None when it did not come up to the deadline."""
    usual = client.timeout  # which comes on top of what the request itself waits
    left = deadline - time.monotonic() - request.wait_seconds
    client.timeout = min(usual, max(left, SHORTEST_TIMEOUT))
    try:
        return client.call(request)
    except (DaemonUnavailable, RequestTimeout):
        if time.monotonic() < deadline:
            raise
        return None
    finally:
        client.timeout = usual
