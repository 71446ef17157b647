"""Operations that are compared take turns, so that what else the machine does slows all of them.

What lives here: running them so, one at a time, and their medians. What may not: what they do.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

K = TypeVar("K")

TIMES = 200
WARM_UP = 20


async def in_turns(
    operations: Mapping[K, Callable[[], Awaitable[object]]], times: int
) -> dict[K, float]:
    """The median seconds of each operation, run by turns after a warm-up."""
    seconds: dict[K, list[float]] = {name: [] for name in operations}
    warm_up = min(WARM_UP, times)
    for _ in range(warm_up + times):
        for name, operation in operations.items():
            began = time.perf_counter()
            await operation()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(taken[warm_up:]) for name, taken in seconds.items()}
