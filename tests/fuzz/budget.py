"""How long to go on: moments in `make test`, FUZZ_SECONDS in `make fuzz`."""

from __future__ import annotations

import os

FUZZ_SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
"""How long one kind of fuzzing may take; 0 for the quick version."""

EXAMPLES_A_SECOND = 50


def is_long() -> bool:
    """Whether there is time to try more than the same few things at each run."""
    return FUZZ_SECONDS > 0


def examples(few: int) -> int:
    """How many examples to try: a few, or about as many as there is time for."""
    return max(few, round(FUZZ_SECONDS * EXAMPLES_A_SECOND))


def seconds(few: float) -> float:
    """How long to go on."""
    return FUZZ_SECONDS or few
