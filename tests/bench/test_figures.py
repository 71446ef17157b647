"""Percentiles and ratios of known numbers."""

from __future__ import annotations

import math

import pytest

from bench.figures import Spread, percentile, ratios, spread


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_percentile(fraction: float, expected: float) -> None:
    assert percentile(range(1, 101), fraction) == expected


def test_percentile_of_one_and_of_none() -> None:
    assert percentile([7.0], 0.5) == 7.0
    assert math.isnan(percentile([], 0.5))


def test_spread() -> None:
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert spread([]) is None


def test_ratios_are_of_the_same_round() -> None:
    # Each round is 2 to 4 times, though the machine was ten times slower in the last.
    assert ratios([(200, 100), (400, 100), (30, 10)]) == Spread(3.0, 2.0, 4.0)


def test_a_figure_that_was_not_measured_makes_no_ratio() -> None:
    assert ratios([(200, 0), (0, 100)]) is None
    assert ratios([(200, 0), (100, 50)]) == Spread(2.0, 2.0, 2.0)
