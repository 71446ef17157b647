"""What a cell of an earlier tool's file means.

What lives here: functions that take a value as SQLite gives it, never NULL, and give the value that
the column should have. What may not: which column has which of them (that is `rows`).

A text that is not UTF-8 comes with surrogates in it, as `errors="surrogateescape"` has it.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.values import MAX_INTEGER, MIN_INTEGER, check_json
from jobkeepd.store.rows import to_text

StatusT = TypeVar("StatusT", bound=StrEnum)
Reading = Callable[[Any], Any]

_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,19}\s*", re.ASCII)
_NUMBER = re.compile(
    r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?\s*", re.ASCII | re.IGNORECASE
)
_BEYOND_MICROSECONDS = re.compile(r"[.,][0-9]{6}[0-9]*[1-9]", re.ASCII)
_TRUE, _FALSE = {"1", "true", "t", "yes", "y"}, {"0", "false", "f", "no", "n"}
_SPELLINGS = {"canceled": "cancelled"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PARTS = {(8, 10): 1, (11, 13): 10**3, (14, 16): 10**6, (17, 19): 10**9}
"""From and below which power of ten a time is counted in which parts of a second, so that it is one
from 1973 to 2286."""


class NotUnderstoodError(Exception):
    """A cell does not say, or not all, what its column is for; `instead` is the nearest to it."""

    def __init__(self, instead: Any = None) -> None:
        super().__init__()
        self.instead = instead


def text(value: Any) -> str:
    """A text; numbers as SQLite would write them, bytes when they are UTF-8."""
    if isinstance(value, int | float):
        return repr(value)
    raw = _raw(value)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise NotUnderstoodError(raw.decode(errors="replace")) from None


def integer(least: int = MIN_INTEGER) -> Reading:
    """An integer of `least` or more, however it is written."""

    def read(value: Any) -> int:
        is_whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
        if is_whole or (isinstance(value, str) and _INTEGER.fullmatch(value)):
            value = int(value)
        if not isinstance(value, int) or not least <= value <= MAX_INTEGER:
            raise NotUnderstoodError
        return value

    return read


def number(low: float = -math.inf, high: float = math.inf) -> Reading:
    """A finite number in these limits, however it is written."""

    def read(value: Any) -> float:
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            value = float(value)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise NotUnderstoodError
        if not low <= value <= high:
            raise NotUnderstoodError
        if float(value) != value:
            raise NotUnderstoodError(float(value))
        return float(value)

    return read


def boolean(value: Any) -> int:
    """0 or 1, also when it is a word."""
    word = str(value).strip().lower()
    if isinstance(value, float) and value.is_integer():
        word = str(int(value))
    if word not in _TRUE | _FALSE:
        raise NotUnderstoodError
    return int(word in _TRUE)


def status(kind: type[StatusT]) -> Reading:
    """A status, also as an enum's `repr` or in capitals."""

    def read(value: Any) -> str:
        word = str(value).strip().rpartition(".")[2].lower().replace("-", "_").replace(" ", "_")
        try:
            return str(kind(_SPELLINGS.get(word, word)))
        except ValueError:
            raise NotUnderstoodError from None

    return read


def moment(value: Any) -> str:
    """A time as it is kept. One without a zone is UTC; numbers count from 1970."""
    count = value
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        count = int(value) if _INTEGER.fullmatch(value) else float(value)
    if isinstance(count, int | float):
        parts = _parts_of_a_second(count)
        if parts is not None:
            return _counted(count, parts)
    if not isinstance(value, str):
        raise NotUnderstoodError
    try:
        found = datetime.fromisoformat(value.strip().removesuffix(" UTC"))
        aware = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise NotUnderstoodError from None
    if _BEYOND_MICROSECONDS.search(value):
        raise NotUnderstoodError(to_text(aware))
    return to_text(aware)


def json_text(is_as_declared: Callable[[Any], bool]) -> Reading:
    """The text of a JSON value that `is_as_declared`, as it was written; None for `null`."""

    def read(value: Any) -> str | None:
        try:
            written = text(value)
            found = msgspec.json.decode(written)
            check_json("", found)
        except (NotUnderstoodError, msgspec.MsgspecError, InvalidRequest, RecursionError):
            raise NotUnderstoodError from None
        if found is None:
            return None
        if not is_as_declared(found):
            raise NotUnderstoodError
        return written

    return read


def is_dict(value: Any) -> bool:
    """Whether it is a JSON object."""
    return isinstance(value, dict)


def is_list_of_dicts(value: Any) -> bool:
    """Whether it is a list of JSON objects."""
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def is_list_of_texts(value: Any) -> bool:
    """Whether it is a list of texts."""
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def as_json(value: Any) -> Any:
    """A cell as a JSON value that says all of it: what is no text of UTF-8 has its bytes as
    `{"base64": …}`, an infinity its name."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if value is None or isinstance(value, int | float):
        return value
    raw = _raw(value)
    try:
        if isinstance(value, str):
            return raw.decode()
    except UnicodeDecodeError:
        pass  # bytes that were meant for a text
    return {"base64": base64.b64encode(raw).decode()}


def _raw(value: str | bytes) -> bytes:
    return value.encode(errors="surrogateescape") if isinstance(value, str) else value


def _parts_of_a_second(count: float) -> int | None:
    for (low, high), parts in _PARTS.items():
        if 10**low <= count < 10**high:
            return parts
    return None


def _counted(count: float, parts: int) -> str:
    """The time so many parts of a second after the beginning of 1970."""
    if isinstance(count, int):
        microseconds, rest = divmod(count * 10**6, parts)
    else:
        microseconds, rest = round(count * 10**6 / parts), 0
    found = to_text(_EPOCH + timedelta(microseconds=microseconds))
    if rest:
        raise NotUnderstoodError(found)
    return found
