"""Figures of the requests that a watch has seen.

What lives here: counting, and percentiles. What may not: printing, and asking the daemon.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from jobkeep_protocol.messages import MonitorPage, ServedRequest

KEPT_DURATIONS = 100_000
"""Of each operation, so that a watch of days takes no more memory than one of minutes."""


class OperationTally:
    """Figures of one operation. Percentiles are of the last KEPT_DURATIONS requests."""

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.max_seconds = 0.0
        self._durations: deque[float] = deque(maxlen=KEPT_DURATIONS)

    def add(self, request: ServedRequest) -> None:
        """Take one request into account."""
        self.requests += 1
        self.errors += request.error is not None
        self.max_seconds = max(self.max_seconds, request.duration_seconds)
        self._durations.append(request.duration_seconds)

    def percentiles(self, shares: Iterable[float]) -> list[float]:
        """How long these shares of the requests took at the most, such as 0.99 of them."""
        ordered = sorted(self._durations)
        return [ordered[max(0, math.ceil(share * len(ordered)) - 1)] for share in shares]


class Tally:
    """Figures of everything that was seen."""

    def __init__(self) -> None:
        self.operations: dict[str, OperationTally] = {}
        self.missed = 0
        self.bytes_in = 0
        self.bytes_out = 0

    @property
    def requests(self) -> int:
        """How many were seen."""
        return sum(one.requests for one in self.operations.values())

    @property
    def errors(self) -> int:
        """How many of them were answered with an error."""
        return sum(one.errors for one in self.operations.values())

    def add(self, page: MonitorPage) -> None:
        """Take a page into account."""
        self.missed += page.missed
        for request in page.requests:
            self.bytes_in += request.bytes_in
            self.bytes_out += request.bytes_out
            self.operations.setdefault(request.operation, OperationTally()).add(request)
