"""How long to go on: moments in `make test`, about FUZZ_SECONDS in `make fuzz`."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from tests.support import scaled

FUZZ_SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
"""How long one kind of fuzzing may take; 0 for the quick version, which is always the same."""

EXAMPLES_A_SECOND = 50

within_time = pytest.mark.timeout(scaled(120 + 2 * FUZZ_SECONDS))
"""The time limit of a test that goes on for as long as it is told."""


def is_long() -> bool:
    """Whether there is time to try more than the same few things at each run."""
    return FUZZ_SECONDS > 0


def examples(few: int) -> settings:
    """Of a property, a few examples or about as many as there is time for."""
    return settings(
        max_examples=max(few, round(FUZZ_SECONDS * EXAMPLES_A_SECOND)), derandomize=not is_long()
    )
