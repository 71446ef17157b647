"""Figures of requests: counts, and percentiles out of buckets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobkeepd.figures import Figures


def figures_of(*durations: float) -> Figures:
    """The figures of requests that took so long."""
    figures = Figures()
    for seconds in durations:
        figures.add(seconds)
    return figures


def test_without_requests_every_figure_is_0() -> None:
    described = Figures().describe()

    assert (described.requests, described.errors) == (0, 0)
    assert (described.p50_seconds, described.p99_seconds, described.max_seconds) == (0, 0, 0)


@given(st.lists(st.floats(1e-6, 1000), min_size=1), st.sampled_from([50, 95, 99, 100]))
def test_percentile_is_at_most_an_eighth_too_much_and_never_too_little(
    durations: list[float], percent: int
) -> None:
    exact = sorted(durations)[-(-len(durations) * percent // 100) - 1]

    found = figures_of(*durations).percentile(percent)

    assert exact <= found <= exact * 1.125


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 1e6])
def test_duration_beyond_the_buckets_is_counted_all_the_same(seconds: float) -> None:
    described = figures_of(seconds).describe()

    assert described.requests == 1
    assert described.p50_seconds <= described.max_seconds == round(seconds, 6)


def test_one_slow_request_among_many_shows_in_the_maximum_and_not_in_the_median() -> None:
    described = figures_of(*[0.001] * 99, 2.0).describe()

    assert described.p50_seconds < 0.0012
    assert described.max_seconds == 2.0
