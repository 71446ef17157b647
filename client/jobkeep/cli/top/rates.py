"""How fast counters grow, from what they were at one time and another.

What lives here: `Rates`. What may not: the clock (the time is an argument), what is counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)


class Rates(Generic[KeyT]):
    """The rates of many counters, each over the last `window` seconds, or since it was first seen.

    A counter that has become less begins anew.
    """

    def __init__(self, window: float) -> None:
        self._window = window
        self._seen: dict[KeyT, deque[tuple[float, int]]] = {}
        """For each counter, when it was first seen at each of its values, in that order."""
        self._now = 0.0

    def sample(self, now: float, counts: Mapping[KeyT, int]) -> None:
        """At this time the counters were like this; those that are missing are forgotten."""
        self._now = now
        self._seen = {key: self._seen.get(key, deque()) for key in counts}
        for key, count in counts.items():
            self._add(self._seen[key], count)

    def per_second(self, key: KeyT) -> float | None:
        """The rate of a counter at the last sample; None before its second one."""
        seen = self._seen.get(key)
        if not seen or self._now <= seen[0][0]:
            return None
        return (seen[-1][1] - seen[0][1]) / (self._now - seen[0][0])

    def _add(self, seen: deque[tuple[float, int]], count: int) -> None:
        if seen and count < seen[-1][1]:
            seen.clear()
        if not seen or count > seen[-1][1]:
            seen.append((self._now, count))
        # The one that the window begins after is kept: the rate is then over a little more.
        while len(seen) > 1 and seen[1][0] <= self._now - self._window:
            seen.popleft()
