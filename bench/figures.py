"""Percentiles, medians, and ratios of what was measured in the same round.

What lives here: arithmetic on figures. What may not: measuring them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from msgspec import Struct


class Spread(Struct, frozen=True):
    """One figure over all rounds: its median, and between what it varied."""

    median: float
    low: float
    high: float


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """The smallest value that `fraction` of the sorted values do not exceed; NaN of none."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]


def spread(values: Iterable[float]) -> Spread | None:
    """The median and the extremes; None when there are no values."""
    known = list(values)
    if not known:
        return None
    return Spread(statistics.median(known), min(known), max(known))


def ratios(pairs: Iterable[tuple[float, float]]) -> Spread | None:
    """How many times the second of each pair the first is. A pair is of one round, so that what
    else the machine did then has slowed both; a pair with a 0 says nothing and is left out."""
    return spread(first / second for first, second in pairs if first and second)
