"""A clock that tests set.

What lives here: the clock itself; the fixture `clock` has the store go by it. What may not: tests.
"""

from __future__ import annotations

from datetime import UTC, datetime

BEGAN = datetime(2026, 3, 1, 22, 15, tzinfo=UTC)


class Clock:
    """The time at which the store, and whoever asks it, believe themselves to be."""

    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> datetime:
        return self.now
