"""Says in plain words why a request could not be decoded.

What lives here: turning a msgspec error, whose path is made of array positions, into the name of
the operation and the field, the value found, and what is allowed. It runs on bad input only. What
may not: deciding what is allowed; the types and checks of the messages do.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_type_hints

import msgspec

from jobkeep_protocol.values import show

_PATH = re.compile(r" - at `(?P<path>[^`]*)`$")
_STEP = re.compile(r"\[(?P<index>\d+)\]|\.(?P<name>\w+)|\[(?P<any>\.\.\.)\]")


def explain(error: Exception, message: bytes, operations: Mapping[str, type[Any]]) -> str:
    """One line for the person who sent `message`, which `error` says is not a request."""
    try:
        body = msgspec.msgpack.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return f"the message cannot be read: {error}"
    if not isinstance(body, list) or not body or not isinstance(body[0], str):
        return f"the message is {show(body)}; expected [operation, field, …]"
    operation = operations.get(body[0])
    if operation is None:
        return (
            f"operation is {show(body[0])}; expected one of {', '.join(sorted(operations))} "
            "(is the daemon older than the client?)"
        )
    found = _PATH.search(str(error))
    reason = _PATH.sub("", str(error))
    if found is None:
        return f"{body[0]}: {reason}"
    where = list(_walk(found["path"], operation, body))
    field = "".join(name if name.startswith("[") else f".{name}" for name, _ in where)[1:]
    if error.__cause__ is not None:  # one of our own checks: it names its field and the value
        return f"{body[0]}: {field}{'.' if field else ''}{reason}"
    value = where[-1][1] if where else body
    return f"{body[0]}: {field} is {show(value)}; {_expected(reason, operation, where)}"


def _walk(path: str, operation: type[Any], body: Any) -> Iterator[tuple[str, Any]]:
    """The names along a path, each with its value (None where the path does not tell)."""
    value = body
    for depth, step in enumerate(_STEP.finditer(path)):
        if step["index"] is not None:
            index = int(step["index"])
            value = value[index] if isinstance(value, list) and index < len(value) else None
            fields = operation.__struct_fields__
            yield (fields[index - 1] if depth == 0 and index else f"[{index}]"), value
        elif step["name"] is not None:
            value = value.get(step["name"]) if isinstance(value, dict) else None
            yield step["name"], value
        else:
            value = None
            yield "[…]", value


def _expected(reason: str, operation: type[Any], where: list[tuple[str, Any]]) -> str:
    """What is allowed: msgspec says it for types, and we list the members of an enum."""
    if not reason.startswith("Invalid enum value"):
        return reason[0].lower() + reason[1:]
    kind: Any = operation
    for name, _ in where:
        if not name.startswith("["):
            kind = get_type_hints(kind)[name]
        kind = next((one for one in get_args(kind) if one is not type(None)), kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return f"expected one of {', '.join(str(member.value) for member in kind)}"
    return reason
