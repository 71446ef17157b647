"""What an operation is asked with, as written on a command line: from text to a request.

What lives here: `key=value`, one JSON object, and what is said of keys that there are not. What may
not: what values may be; that is checked by the JSON dialect and the declarations, as the daemon
checks it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, Literal, get_args, get_origin

import msgspec

from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.request import Request, name_of
from jobkeep_protocol.values import refused, show
from jobkeep_protocol.varlink import INTERFACE, Call, decode_parameters
from jobkeep_protocol.varlink import to_request as request_of


def to_request(operation: type[Request[Any]], given: Sequence[str]) -> Request[Any]:
    """The request that these arguments make of an operation; `-` reads standard input.

    Raises InvalidRequest or LimitExceeded for what is neither `key=value` nor an object, and for a
    key or a value that is not allowed.
    """
    if list(given) == ["-"]:
        text = sys.stdin.buffer.read()
    elif len(given) == 1 and given[0].lstrip().startswith("{"):
        text = _encoded(operation, given[0])
    else:
        text = msgspec.json.encode(_from_pairs(operation, given))
    call = Call(f"{INTERFACE}.{operation.__name__}", text, more=False, oneway=False, upgrade=False)
    _refuse_unknown(operation, decode_parameters(call))
    request, _ = request_of(call)
    return request


def kinds_of(operation: type[Request[Any]]) -> dict[str, Any]:
    """The types of the fields of an operation."""
    return {field.name: field.type for field in msgspec.structs.fields(operation)}


def is_text(kind: Any) -> bool:
    """Whether values of a type are texts in JSON, at least some of them."""
    if get_origin(kind) is Literal:
        return True
    if isinstance(kind, type):
        return issubclass(kind, str | bytes | datetime | Enum)
    return any(is_text(one) for one in get_args(kind) if get_origin(kind) not in {list, dict})


def _from_pairs(operation: type[Request[Any]], given: Sequence[str]) -> dict[str, Any]:
    kinds = kinds_of(operation)
    values: dict[str, Any] = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals:
            raise InvalidRequest(
                f"{show(pair)} is neither key=value nor the only argument and a JSON object"
            )
        if name in values:
            raise InvalidRequest(f"{show(name)} is given twice")
        _refuse_unknown(operation, [name])
        values[name] = _value(name, kinds[name], _encoded(operation, text).decode())
    return values


def _value(name: str, kind: Any, text: str) -> Any:
    """A text as the JSON value that a field is to have."""
    if is_text(kind):
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        if text.lstrip().startswith(("{", "[")):
            raise refused(name, text, f"JSON: {error}") from error
        return text  # which is refused, with what is expected


def _encoded(operation: type[Request[Any]], text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise refused(name_of(operation), text, "text in UTF-8") from None


def _refuse_unknown(operation: type[Request[Any]], names: Iterable[str]) -> None:
    unknown = [name for name in names if name not in operation.__struct_fields__]
    if not unknown:
        return
    from jobkeep_protocol.interface import describe

    told = describe(operation)
    known = ", ".join(f"{field.name} ({field.type})" for field in told.fields)
    raise InvalidRequest(
        f"{told.name} has no field {show(unknown[0])}; it has {known or 'no fields at all'}"
    )
