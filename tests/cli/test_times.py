"""Times as people write and read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from jobkeep import InvalidRequest
from jobkeep.cli.times import ago, duration, latency, parse_duration, parse_since

NOW = datetime(2026, 3, 5, 14, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("2.5", 2.5),
        ("250ms", 0.25),
        ("500us", 0.0005),
        ("90s", 90),
        ("5m", 300),
        ("5min", 300),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1d", 86400),
        ("2w", 1209600),
    ],
)
def test_a_duration_is_a_number_of_seconds_or_has_units(text: str, seconds: float) -> None:
    assert parse_duration("--timeout", text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5 parsecs", "-3s", "h", "1h-", "nan", "inf"])
def test_a_wrong_duration_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"--timeout is .*expected a duration such as 30s"):
        parse_duration("--timeout", text)


@pytest.mark.parametrize("text", ["2h", "-2h", "2h ago", "2 h ago", " 120m ", "1h60m"])
def test_since_may_be_how_long_ago(text: str) -> None:
    assert parse_since("--since", text, NOW) == NOW - timedelta(hours=2)


def test_since_may_be_a_day_by_name() -> None:
    midnight = datetime(2026, 3, 5).astimezone()
    assert parse_since("--since", "today", NOW) == midnight
    assert parse_since("--since", "yesterday", NOW) == datetime(2026, 3, 4).astimezone()
    assert parse_since("--since", "now", NOW) == NOW


def test_a_date_without_a_zone_is_local() -> None:
    assert parse_since("--since", "2026-03-01", NOW) == datetime(2026, 3, 1).astimezone()
    wanted = datetime(2026, 3, 1, 12, 30).astimezone()
    assert parse_since("--since", "2026-03-01 12:30", NOW) == wanted


def test_a_date_with_a_zone_is_that() -> None:
    wanted = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
    assert parse_since("--since", "2026-03-01T12:00+02:00", NOW) == wanted


@pytest.mark.parametrize("text", ["", "tomorrow-ish", "2026-13-01", "ago", "-", "9999999w"])
def test_a_wrong_since_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"--since is .*expected a duration"):
        parse_since("--since", text, NOW)


@pytest.mark.parametrize(
    ("before", "shown"),
    [
        (timedelta(0), "just now"),
        (timedelta(seconds=-5), "just now"),
        (timedelta(seconds=42), "42 s ago"),
        (timedelta(minutes=5), "5 min ago"),
        (timedelta(hours=3, minutes=20), "3 h 20 min ago"),
        (timedelta(days=4, hours=1), "4 d 1 h ago"),
        (timedelta(days=40), "2026-01-24"),
    ],
)
def test_how_long_ago(before: timedelta, shown: str) -> None:
    assert ago(NOW - before, NOW) == shown
    assert ago((NOW - before).isoformat(), NOW) == shown


def test_no_time_is_a_dash() -> None:
    assert ago(None, NOW) == "-"
    assert duration(None) == "-"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0 ms"),
        (0.004, "4 ms"),
        (0.1234, "0.12 s"),
        (3.44, "3.4 s"),
        (9.99, "10 s"),
        (59.4, "59 s"),
        (59.9, "1 min"),
        (125, "2 min 5 s"),
        (7200, "2 h"),
        (90000, "1 d 1 h"),
    ],
)
def test_a_duration_is_as_exact_as_it_need_be(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 µs"),
        (0.0000871, "87 µs"),
        (0.00234, "2.3 ms"),
        (0.00999, "10 ms"),
        (0.12, "120 ms"),
        (1.23, "1.2 s"),
    ],
)
def test_a_latency_has_a_unit_that_leaves_two_or_three_figures(seconds: float, shown: str) -> None:
    assert latency(seconds) == shown
