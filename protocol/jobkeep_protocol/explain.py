"""Says in plain words why a value could not be decoded, or encoded.

What lives here: turning a msgspec error into the name of the field, the value found, and what is
allowed. It runs on bad input only. What may not: deciding what is allowed; the types and checks of
the messages and states do.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_args, get_type_hints

import msgspec

from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.values import refused, show

LONGEST_REASON = 200
"""Characters of a reason of msgspec; longer ones quote a value."""

UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are no msgpack or JSON, no UTF-8, or nested too deeply."""

UNENCODABLE = (TypeError, ValueError, OverflowError, RecursionError)
"""What msgspec raises for a value that msgpack or UTF-8 does not have."""

_PATH = re.compile(r" - at `\$(?P<path>[^`]*)`$")
_STEP = re.compile(r"\[(?P<index>\d+)\]|\.(?P<name>\w+)|(?P<any>\[\.\.\.\])")


class _Place(NamedTuple):
    """Where in a value something is wrong."""

    name: str
    value: Any
    kind: Any
    """The type that the value should have."""


def explain_request(error: Exception, message: bytes, operations: Mapping[str, type[Any]]) -> str:
    """One line for the person who sent `message`, which `error` says is no request."""
    try:
        body = msgspec.msgpack.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return f"the message cannot be read: {in_one_line(error)}"
    if not isinstance(body, list) or not body or not isinstance(body[0], str):
        return f"the message is {show(body)}; expected [operation, field, …]"
    operation = operations.get(body[0])
    if operation is None:
        return (
            f"operation is {show(body[0])}; expected one of {', '.join(sorted(operations))} "
            "(is the daemon older than the client?)"
        )
    fields = operation.__struct_fields__
    text = _without_middle(str(error))
    for index, name in enumerate(fields, 1):  # a request is an array on the wire: name its places
        text = text.replace(f"`$[{index}]", f"`$.{name}")
    values = dict(zip(fields, body[1:], strict=False))
    return f"{body[0]}: {explain(text, error.__cause__, operation, values)}"


def explain(text: str, cause: BaseException | None, kind: Any, value: Any) -> str:
    """One line that says why `value` is no `kind`, from the text and cause of msgspec's error."""
    found = _PATH.search(text)
    reason = _PATH.sub("", text)
    if found is None:
        return reason
    place = _find(found["path"], kind, value)
    if cause is not None:  # one of our own checks: it names its field and the value
        return f"{place.name}.{reason}" if place.name else reason
    return f"{place.name} is {show(place.value)}; {_expected(reason, place.kind)}"


def in_one_line(error: Exception) -> str:
    """What an error says, which may quote what came over the wire."""
    text = str(error)
    return text if text.isprintable() and len(text) <= LONGEST_REASON else show(text)


def _without_middle(text: str) -> str:
    """A reason of msgspec without most of the value that it quotes; its end says the place."""
    if len(text) <= 2 * LONGEST_REASON:
        return text
    return f"{text[:LONGEST_REASON]}…{text[-LONGEST_REASON:]}"


def explain_unencodable(error: Exception, value: Any, name: str = "") -> InvalidRequest:
    """The error for `value`, called `name`, of which `error` says that it cannot be encoded."""
    for step, part in _parts(value):
        try:
            msgspec.msgpack.encode(part)
        except UNENCODABLE as found:
            return explain_unencodable(found, part, f"{name}{step}" if name else step.strip("."))
    is_text = isinstance(error, UnicodeEncodeError)
    expected = "text that can be encoded as UTF-8" if is_text else f"another value ({error})"
    return refused(name or "a value", value, expected)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, msgspec.Struct):
        yield from ((f".{name}", getattr(value, name)) for name in value.__struct_fields__)
    elif isinstance(value, Mapping):
        yield from ((f"[{key!r}]", one) for key, one in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{index}]", one) for index, one in enumerate(value))


def _find(path: str, kind: Any, value: Any) -> _Place:
    name = ""
    for step in _STEP.finditer(path):
        if step["name"] is not None:
            name = f"{name}.{step['name']}" if name else step["name"]
            value = value.get(step["name"]) if isinstance(value, Mapping) else None
            kind = _without_none(get_type_hints(kind)[step["name"]])
        else:
            index = step["index"]
            name = f"{name}[{index or '…'}]"
            value = value[int(index)] if index and isinstance(value, list) else None
            kind = _without_none(get_args(kind)[-1])
    return _Place(name, value, kind)


def _without_none(kind: Any) -> Any:
    """`JobStatus | None` -> JobStatus; a type that is no such union stays as it is."""
    arguments = [one for one in get_args(kind) if one is not type(None)]
    return arguments[0] if type(None) in get_args(kind) else kind


def _expected(reason: str, kind: Any) -> str:
    """What is allowed: msgspec says it for types, and we list the members of an enum."""
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return f"expected one of {', '.join(str(member.value) for member in kind)}"
    return reason[0].lower() + reason[1:]
