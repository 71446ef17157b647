"""What becomes of the changes that were not synced when the power was cut.

What lives here: the choices there are, as functions of a change's number. What may not: files.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import Enum


class Fate(Enum):
    """What becomes of one change that is not synced. TORN: each of its sectors by chance."""

    LOST = 0
    KEPT = 1
    TORN = 2


Fates = Callable[[int], Fate]
"""The fate of a change by its number; numbers grow with time, over all files."""


def seeded(seed: int) -> random.Random:
    """Chance that comes out the same each time."""
    return random.Random(seed)  # noqa: S311 # it decides what is tested, and keeps no secret


def all_lost(number: int) -> Fate:
    """Nothing survives that was not synced."""
    del number
    return Fate.LOST


def all_kept(number: int) -> Fate:
    """Everything survives, as when only the process dies."""
    del number
    return Fate.KEPT


def all_torn(number: int) -> Fate:
    """Every sector by chance."""
    del number
    return Fate.TORN


def up_to(last: int) -> Fates:
    """A disk that writes in order, cut in the middle of a change."""

    def fates(number: int) -> Fate:
        return Fate.TORN if number == last else Fate.KEPT if number < last else Fate.LOST

    return fates


def by_chance(chance: random.Random) -> Fates:
    """A disk that writes in any order; how much of it is done is by chance too."""
    share = chance.random()
    weights = (1 - share, share, 0.25)
    decided: dict[int, Fate] = {}

    def fates(number: int) -> Fate:
        if number not in decided:
            (decided[number],) = chance.choices((Fate.LOST, Fate.KEPT, Fate.TORN), weights)
        return decided[number]

    return fates
