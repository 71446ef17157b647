"""What a single value may be: the checks that states and requests share.

What lives here: functions that take a value and the name of its field, and raise InvalidRequest
with the field, the value and what is allowed. What may not: knowledge of any message or state.

Free-form fields (`extra`, `config_snapshot`, `outcome_data`, `validation_details`) hold JSON
values, since they are kept as JSON text: text, 64-bit integers, finite floats, booleans, None,
lists, and dicts with text keys. A tuple comes back as a list, as everywhere in JSON; anything
else would come back as something else and is refused.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeGuard, TypeVar

from jobkeep_protocol.errors import InvalidRequest

EnumT = TypeVar("EnumT", bound=StrEnum)

MAX_JOB_ID_BYTES = 512
MAX_JSON_DEPTH = 64
MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1
"""What an integer column of SQLite can hold (https://www.sqlite.org/datatype3.html)."""

SHOWN_CHARACTERS = 80


class _Shortened(reprlib.Repr):
    """A repr that looks no further than what is shown of it."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 3 * SHOWN_CHARACTERS  # it keeps both ends
        self.maxlist = self.maxtuple = self.maxdict = SHOWN_CHARACTERS // 3
        self.maxlevel = 3

    def repr_bytes(self, value: bytes, _: int) -> str:
        """Of bytes, the first."""
        return repr(value[:SHOWN_CHARACTERS])

    def repr_int(self, value: int, _: int) -> str:
        """Python refuses to write an integer of thousands of digits."""
        bits = value.bit_length()
        return repr(value) if bits <= SHOWN_CHARACTERS * 3 else f"an integer of {bits} bits"

    def repr_instance(self, value: object, level: int) -> str:
        """Without the address in memory, which is nobody's business."""
        if type(value).__repr__ is object.__repr__:
            return f"<{type(value).__name__} object>"
        return super().repr_instance(value, level)


_shortened = _Shortened()


def show(value: object) -> str:
    """`repr(value)`, cut to what fits in a message, however large the value is."""
    if isinstance(value, str) and not value.isprintable():
        text = ascii(value[:SHOWN_CHARACTERS])
    else:
        text = _shortened.repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def refused(name: str, value: object, expected: str) -> InvalidRequest:
    """The error for a value that is not allowed, in the words used everywhere."""
    return InvalidRequest(
        f"{name} is {show(value)}; expected {expected}", {"field": name, "expected": expected}
    )


def check_job_id(job_id: str) -> None:
    """Refuse a job id that is empty, too long, or no Unicode text."""
    expected = f"a text of 1 to {MAX_JOB_ID_BYTES} bytes of UTF-8"
    try:
        size = len(job_id.encode())
    except (UnicodeEncodeError, AttributeError):
        raise refused("job_id", job_id, expected) from None
    if not 1 <= size <= MAX_JOB_ID_BYTES:
        raise refused("job_id", job_id, expected)


def check_sheet_num(sheet_num: int, total_sheets: int) -> None:
    """Refuse a sheet number outside 1..total_sheets."""
    if not is_integer(sheet_num) or not 1 <= sheet_num <= total_sheets:
        raise refused("sheet_num", sheet_num, f"1 to {total_sheets}, the job's total_sheets")


def check_integer(name: str, value: object, minimum: int = MIN_INTEGER) -> None:
    """Refuse what is no integer, is below `minimum`, or does not fit in 64 bits."""
    if not is_integer(value) or not minimum <= value <= MAX_INTEGER:
        least = "that fits in 64 bits" if minimum < 0 else f"of {minimum} or more (up to 2^63 - 1)"
        raise refused(name, value, f"an integer {least}")


def check_integers(holder: object, least: Mapping[str, int], *, may_be_none: bool = False) -> None:
    """Check fields of an object as `check_integer` does, each with its minimum, all in one call."""
    for name, minimum in least.items():
        value = getattr(holder, name)
        if type(value) is int and minimum <= value <= MAX_INTEGER:
            continue
        if value is not None or not may_be_none:
            check_integer(name, value, minimum)


def check_number(name: str, value: object, low: float = -math.inf, high: float = math.inf) -> None:
    """Refuse what is no finite number from `low` to `high`."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not _is_finite(value)
        or not low <= value <= high
    ):
        expected = "a finite number"
        if math.isfinite(low) and math.isfinite(high):
            expected = f"a number from {low:g} to {high:g}"
        elif math.isfinite(low):
            expected = f"a finite number of {low:g} or more"
        raise refused(name, value, expected)


def member(kind: type[EnumT], name: str, value: str) -> EnumT:
    """The member of `kind` with this value, which may be text or another str enum's member."""
    if type(value) is kind:
        return value
    try:
        return kind(value)
    except ValueError:
        raise refused(name, value, f"one of {', '.join(kind)}") from None


def as_utc(name: str, value: object) -> datetime:
    """`value` in UTC; a naive datetime is refused, since it could mean any zone."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise refused(
            name, value, "a datetime with a time zone, such as datetime.now(timezone.utc)"
        )
    try:
        return value if value.tzinfo is UTC else value.astimezone(UTC)
    except OverflowError:
        raise refused(name, value, "a time in the years 1 to 9999 of UTC") from None


def check_json(name: str, value: Any) -> None:
    """Refuse what does not survive as JSON; the message names the place inside the value."""
    try:
        _check_json(value, 1)
    except _NoJsonError as error:
        place = name + "".join(f"[{show(step)}]" for step in reversed(error.steps))
        if error.is_key:
            place = f"a key of {place}"
        raise refused(place, error.value, error.expected) from None


def is_integer(value: object) -> TypeGuard[int]:
    """Whether `value` is an integer and not a boolean."""
    return isinstance(value, int) and not isinstance(value, bool)


class _NoJsonError(Exception):
    """Some part of a value is no JSON; `steps` are the keys that lead to it, the last one first.

    They are gathered on the way out: to have the place at hand on the way in would cost a text for
    every part of every value, each as long as the keys are.
    """

    def __init__(self, value: object, expected: str, *, is_key: bool = False) -> None:
        super().__init__()
        self.value = value
        self.expected = expected
        self.is_key = is_key
        self.steps: list[str | int] = []


def _check_json(value: Any, depth: int) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        if not _is_unicode(value):
            raise _NoJsonError(value, "text that can be encoded as UTF-8")
    elif isinstance(value, int):
        if not MIN_INTEGER <= value <= MAX_INTEGER:
            raise _NoJsonError(value, "an integer that fits in 64 bits")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise _NoJsonError(value, "a finite number")
    elif depth > MAX_JSON_DEPTH:
        raise _NoJsonError("…", f"at most {MAX_JSON_DEPTH} levels of lists and dicts")
    elif isinstance(value, list | tuple):
        _check_json_parts(enumerate(value), depth + 1)
    elif isinstance(value, dict) or isinstance(value, Mapping):  # noqa: SIM101 # asking an ABC takes as long as all the rest
        for key in value:
            _check_json_key(key)
        _check_json_parts(value.items(), depth + 1)
    else:
        raise _NoJsonError(value, f"a JSON value, not {type(value).__name__}")


def _check_json_parts(parts: Iterable[tuple[str | int, Any]], depth: int) -> None:
    step: str | int = 0
    try:
        for step, part in parts:  # noqa: B007 # the one at which it stops is told
            _check_json(part, depth)
    except _NoJsonError as error:
        error.steps.append(step)
        raise


def _check_json_key(key: object) -> None:
    if not isinstance(key, str):
        raise _NoJsonError(key, "text, as in JSON", is_key=True)
    if not _is_unicode(key):
        raise _NoJsonError(key, "text that can be encoded as UTF-8", is_key=True)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float can hold
        return False


def _is_unicode(value: str) -> bool:
    """Whether a text has no lone surrogates."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
