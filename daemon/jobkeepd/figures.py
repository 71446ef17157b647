"""How often, and how long: figures that are kept of every request, whoever asks.

What lives here: counts, and durations in buckets, so that a percentile is known without keeping
what it is made of. What may not: which request it was (that is `accounts`).
"""

from __future__ import annotations

from math import frexp

from jobkeep_protocol.messages import OperationFigures

BUCKETS_PER_DOUBLING = 8
"""A duration is known to an eighth: between 0.100 and 0.112 s, say."""

_SHORTEST, _LONGEST = -20, 12
"""From a microsecond to more than an hour, as powers of two; what lies beyond counts as these."""

_SIZE = (_LONGEST - _SHORTEST) * BUCKETS_PER_DOUBLING


class Figures:
    """The figures of one operation."""

    __slots__ = ("_buckets", "_max", "errors", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self._max = 0.0
        self._buckets = [0] * _SIZE

    def add(self, seconds: float) -> None:
        """A request was answered after so long."""
        self.requests += 1
        if seconds > self._max:
            self._max = seconds
        mantissa, exponent = frexp(seconds)
        part = int(mantissa * 2 * BUCKETS_PER_DOUBLING) - BUCKETS_PER_DOUBLING
        bucket = (exponent - _SHORTEST) * BUCKETS_PER_DOUBLING + part
        if bucket < 0:
            bucket = 0
        elif bucket >= _SIZE:
            bucket = _SIZE - 1
        self._buckets[bucket] += 1

    def percentile(self, percent: float) -> float:
        """The duration, in seconds, that so many percent of the requests did not exceed: the upper
        end of its bucket, so at most an eighth too much. 0 without requests."""
        wanted = self.requests * percent / 100
        seen = 0
        for bucket, count in enumerate(self._buckets):
            seen += count
            if count and seen >= wanted:
                return min(_upper_end(bucket), self._max)
        return 0.0

    def describe(self) -> OperationFigures:
        """All of them."""
        return OperationFigures(
            requests=self.requests,
            errors=self.errors,
            p50_seconds=round(self.percentile(50), 6),
            p95_seconds=round(self.percentile(95), 6),
            p99_seconds=round(self.percentile(99), 6),
            max_seconds=round(self._max, 6),
        )


def _upper_end(bucket: int) -> float:
    doublings, part = divmod(bucket, BUCKETS_PER_DOUBLING)
    share = (BUCKETS_PER_DOUBLING + 1 + part) / (2 * BUCKETS_PER_DOUBLING)
    return float(share * 2.0 ** (doublings + _SHORTEST))
