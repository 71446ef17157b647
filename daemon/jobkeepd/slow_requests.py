"""The slowest requests, kept for whoever asks later.

What lives here: keeping the slowest so many. What may not: measuring them.
"""

from __future__ import annotations

import heapq

from jobkeep_protocol.messages import ServedRequest

KEPT = 128


class SlowRequests:
    """The slowest requests since the daemon started.

    `threshold` is the duration, in seconds, above which one is worth telling of.
    """

    def __init__(self) -> None:
        self.threshold = -1.0
        self._kept: list[tuple[float, int, ServedRequest]] = []
        """A heap; the number keeps requests of equal durations from being compared."""

    def add(self, request: ServedRequest) -> None:
        """This one was slower than the threshold."""
        entry = (request.duration_seconds, -request.sequence, request)
        if len(self._kept) < KEPT:
            heapq.heappush(self._kept, entry)
        else:
            heapq.heapreplace(self._kept, entry)
        if len(self._kept) == KEPT:
            self.threshold = self._kept[0][0]

    def slowest(self, limit: int) -> list[ServedRequest]:
        """So many of them, the slowest first."""
        return [request for _, _, request in heapq.nlargest(limit, self._kept)]
