"""Times as people write and read them.

What lives here: durations such as 2h and 5ms, points in time as journalctl takes them, and how
long something took or is ago. What may not: the clock (the time now is an argument), printing.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from jobkeep_protocol.values import refused

_SECONDS = {
    "us": 0.000001,
    "ms": 0.001,
    "s": 1,
    "m": 60,
    "min": 60,
    "h": 3600,
    "d": 86400,
    "w": 604800,
}
# Left to `re` to compile when they are used, which is seldom.
_DURATION = r"(?:\d+(?:\.\d+)?(?:us|ms|min|[smhdw]))+"
_PART = r"(\d+(?:\.\d+)?)(us|ms|min|[smhdw])"

_UNITS = (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1))
"""A unit, its seconds, the unit of the rest, and its seconds."""

_DURATION_FORM = "a duration such as 30s, 5m, 2h, 1d or 1h30m"


def parse_duration(name: str, text: str) -> float:
    """Seconds in `30s`, `1h30m`, or a plain number of seconds.

    Raises InvalidRequest, naming the option `name`, for anything else.
    """
    compact = text.strip().replace(" ", "")
    if re.fullmatch(r"\d+(\.\d+)?", compact):
        return float(compact)
    if not re.fullmatch(_DURATION, compact):
        raise refused(name, text, f"{_DURATION_FORM}, or a number of seconds")
    return sum(float(number) * _SECONDS[unit] for number, unit in re.findall(_PART, compact))


def parse_since(name: str, text: str, now: datetime) -> datetime:
    """The point in time meant by `2h`, `-2h`, `2h ago`, `today`, `yesterday`, or an ISO date.

    A date without a zone is local, as journalctl has it. Raises InvalidRequest, naming the option
    `name`, for anything else.
    """
    wanted = text.strip()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    named = {"now": now, "today": midnight, "yesterday": midnight - timedelta(days=1)}
    before = wanted.removeprefix("-").removesuffix("ago").replace(" ", "")
    try:
        if wanted in named:
            when = named[wanted]
        elif re.fullmatch(_DURATION, before):
            when = now - timedelta(seconds=parse_duration(name, before))
        else:
            when = datetime.fromisoformat(wanted)
        return when if when.tzinfo is not None else when.astimezone()
    except (ValueError, OverflowError) as error:
        expected = f"{_DURATION_FORM}, today, yesterday, or a date such as 2026-03-01 12:00"
        raise refused(name, text, expected) from error


def ago(when: datetime | str | None, now: datetime) -> str:
    """`5 min ago`; the date as well when that is long past; `-` for no time."""
    if when is None:
        return "-"
    moment = datetime.fromisoformat(when) if isinstance(when, str) else when
    seconds = (now - moment).total_seconds()
    if seconds < 1:
        return "just now"
    if seconds > 30 * _SECONDS["d"]:
        return moment.astimezone(now.tzinfo).strftime("%Y-%m-%d")
    return f"{duration(float(int(seconds)))} ago"


def duration(seconds: float | None) -> str:
    """`4 ms`, `0.12 s`, `3.4 s`, `2 min 5 s`, `3 h 20 min`, `4 d 1 h`; `-` for none."""
    if seconds is None:
        return "-"
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    for unit, size, below, part in _UNITS:
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit} {rest} {below}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def latency(seconds: float) -> str:
    """`87 µs`, `2.3 ms`, `120 ms`, and longer ones as `duration` has them."""
    if seconds < 0.0009995:
        return f"{seconds * 1_000_000:.0f} µs"
    if seconds < 0.00995:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else duration(seconds)
