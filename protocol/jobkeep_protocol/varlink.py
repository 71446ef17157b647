"""The JSON dialect of the socket, which is Varlink (https://varlink.org/Method-Call).

What lives here: calls and replies as JSON, and the names that errors have in it. It is a
translation: the parameters of a call become the body of a request and are decoded as one, so that
what a request may hold, and what is said of what it may not, is the same in both dialects. What may
not: sockets, where a message ends (that is `json_text`), and what the interface looks like (that is
`service`).

    up      {"method": "org.jobkeep.Load", "parameters": {"job_id": "x"}, "more": true}
    down    {"parameters": {…}, "continues": true}
    or      {"error": "org.jobkeep.JobNotFound", "parameters": {…}}

The parameters of a reply are the fields of the Struct that is the type of the reply; of any other
type the reply is the parameter `result`. All Structs are objects, times ISO 8601, bytes base64.
"""

from __future__ import annotations

import re
from base64 import b64decode
from functools import cache
from types import NoneType
from typing import Any, NamedTuple, TypeGuard, get_args

import msgspec
from msgspec import NODEFAULT, Raw, Struct
from msgspec.structs import FieldInfo

from jobkeep_protocol.codec import OPERATIONS, decode_request
from jobkeep_protocol.errors import (
    ERRORS_BY_CODE,
    InvalidRequest,
    JobkeepError,
    PermissionDenied,
    ProtocolError,
)
from jobkeep_protocol.explain import UNDECODABLE, UNENCODABLE, explain_unencodable, in_one_line
from jobkeep_protocol.json_text import check_json_weight
from jobkeep_protocol.messages import Hello
from jobkeep_protocol.request import ReplyT, Request, name_of, reply_type
from jobkeep_protocol.values import SHOWN_CHARACTERS, show

INTERFACE = "org.jobkeep"
"""The interface that has all operations."""

SERVICE = "org.varlink.service"
"""The interface that every Varlink service has."""

BINARY_ONLY: frozenset[type[Request[Any]]] = frozenset({Hello})
"""Operations that are no methods: a hello is about frames, and a call needs none."""

METHODS: dict[str, type[Request[Any]]] = {
    operation.__name__: operation
    for operation in OPERATIONS.values()
    if operation not in BINARY_ONLY
}
"""Every operation that can be called in JSON, by the name of its method."""


# -- errors ---------------------------------------------------------------------------------------


class InterfaceNotFound(InvalidRequest):
    """There is no such interface; `data["interface"]` names it."""


class MethodNotFound(InvalidRequest):
    """There is no such method; `data["method"]` names it."""


class InvalidParameter(InvalidRequest):
    """A parameter is not allowed; `data["parameter"]` names it."""

    @classmethod
    def named(cls, name: str, why: str) -> InvalidParameter:
        """The error for the parameter of this name."""
        return cls(why, {"parameter": _cut(name)})


ERROR_NAMES: dict[str, str] = {
    code: f"{INTERFACE}.{''.join(word.capitalize() for word in code.split('_'))}"
    for code in ERRORS_BY_CODE
} | {PermissionDenied.code: f"{SERVICE}.PermissionDenied"}
"""What each error is called: by its code, but for the one that Varlink has itself."""

_PARAMETER = re.compile(r"(?P<operation>\w+): (?P<path>\w+(?:\.\w+|\[[^\]]*\])*) is ")
"""How `decode_request` begins an error that is about one value of a request."""


def encode_error(error: JobkeepError) -> bytes:
    """The reply for an error."""
    name, parameters = _as_varlink(error)
    return msgspec.json.encode({"error": name, "parameters": parameters})


def _as_varlink(error: JobkeepError) -> tuple[str, dict[str, Any]]:
    """The name and the parameters of an error. What the standard does not say, and a person needs
    all the same, is in the parameter `message`."""
    if isinstance(error, InterfaceNotFound | MethodNotFound):
        return f"{SERVICE}.{type(error).__name__}", error.data
    parameter = _parameter_of(error)
    if parameter is not None:
        named = {"parameter": parameter, "message": str(error)}
        return f"{SERVICE}.InvalidParameter", named
    return ERROR_NAMES[error.code], {"message": str(error), "data": error.data}


def _parameter_of(error: JobkeepError) -> str | None:
    """The parameter that an error is about, if it is about one."""
    if not isinstance(error, InvalidRequest):
        return None
    told = error.data.get("parameter") or error.data.get("field")
    if told is None and (found := _PARAMETER.match(str(error))):
        told = found["path"] if found["operation"] in OPERATIONS else None
    return None if told is None else _cut(str(told))


def _cut(name: str) -> str:
    """A name that came over the wire, short enough for an error."""
    return name[:SHOWN_CHARACTERS]


# -- calls ----------------------------------------------------------------------------------------


class Call(NamedTuple):
    """A call, of which only the parameters are not decoded yet."""

    method: str
    parameters: bytes | Raw = b"{}"
    """As JSON."""
    more: bool = False
    """Whether several replies may come; never of a call that wants none."""
    oneway: bool = False
    """Whether no reply is wanted, not even an error."""
    upgrade: bool = False

    @property
    def interface(self) -> str:
        """The interface that has the method; empty for a method that names none."""
        return self.method.rpartition(".")[0]

    @property
    def member(self) -> str:
        """The name of the method within its interface."""
        return self.method.rpartition(".")[2]


def is_struct(kind: Any) -> TypeGuard[type[Struct]]:
    """Whether a type is one Struct. The fields of a reply of such a type are its parameters."""
    return isinstance(kind, type) and issubclass(kind, Struct)


class _Envelope(Struct):
    """A call as it comes. Null stands for what is left out, and what else there is is ignored: it
    is an extension of somebody's."""

    method: str
    parameters: Raw = Raw(b"null")
    more: bool | None = None
    oneway: bool | None = None
    upgrade: bool | None = None


_LONGEST_NUMBER = 20
"""Digits in a key that may be a number of 64 bits."""

_envelope_decoder = msgspec.json.Decoder(_Envelope)


def decode_call(body: bytes) -> Call:
    """The call that a message holds.

    Raises ProtocolError for what is none: whether it wants an answer is not known then, so that
    no later answer could be told from those before it.
    """
    try:
        call = _envelope_decoder.decode(body)
    except UNDECODABLE as error:
        raise ProtocolError(
            f"a message is no call: {in_one_line(error)}; expected one object like "
            f'{{"method": "{INTERFACE}.Status"}}'
        ) from error
    oneway = bool(call.oneway)
    more = bool(call.more) and not oneway
    return Call(call.method, call.parameters, more, oneway, bool(call.upgrade))


def decode_parameters(call: Call) -> dict[str, Any]:
    """The parameters of a call.

    Raises InvalidParameter for what is no object, and LimitExceeded for what would take too much
    memory.
    """
    text = bytes(call.parameters)
    check_json_weight(text)
    try:
        parameters = msgspec.json.decode(text)
    except UNDECODABLE as error:
        raise InvalidParameter.named(
            "parameters", f"parameters cannot be read: {in_one_line(error)}"
        ) from error
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidParameter.named(
            "parameters", f"parameters is {show(parameters)}; expected an object"
        )
    return parameters


def to_request(call: Call) -> tuple[Request[Any], int]:
    """The request that a call of INTERFACE makes, and its size in the binary dialect.

    Raises InterfaceNotFound, MethodNotFound, InvalidParameter, and what `decode_request` raises.
    """
    body = _body(_operation_of(call), decode_parameters(call))
    return decode_request(body), len(body)


def own_reply(call: Call) -> bytes | None:
    """The reply to a call of SERVICE, which is about the service itself; None for other calls.

    Raises MethodNotFound, InterfaceNotFound and InvalidParameter.
    """
    if call.interface != SERVICE:
        return None
    from jobkeep_protocol.service import answer  # it takes a while, and few ask

    return encode_parameters(answer(call.member, decode_parameters(call)))


def _operation_of(call: Call) -> type[Request[Any]]:
    if call.interface != INTERFACE:
        raise interface_not_found(call.interface)
    operation = METHODS.get(call.member)
    if operation is None:
        raise method_not_found(call.method)
    if call.upgrade:
        raise InvalidParameter.named(
            "upgrade", "upgrade is true; expected false: there is nothing to change over to"
        )
    return operation


def interface_not_found(interface: str) -> InterfaceNotFound:
    """The error for an interface that is not there."""
    return InterfaceNotFound(
        f"interface is {show(interface)}; expected {INTERFACE} or {SERVICE}",
        {"interface": _cut(interface)},
    )


def method_not_found(method: str) -> MethodNotFound:
    """The error for a method that its interface does not have."""
    return MethodNotFound(
        f"method is {show(method)}; {SERVICE}.GetInterfaceDescription tells all there are",
        {"method": _cut(method)},
    )


def refuse_unknown(parameters: dict[str, Any], known: Any) -> None:
    """Raise InvalidParameter for a parameter that the method does not have."""
    for name in parameters:
        if name not in known:
            names = ", ".join(known) or "none"
            raise InvalidParameter.named(
                name, f"there is no parameter {show(name)}; there are: {names}"
            )


# -- parameters -> the body of a request ----------------------------------------------------------


def _body(operation: type[Request[Any]], parameters: dict[str, Any]) -> bytes:
    """The body in the binary dialect. Takes the parameters out of their dict on the way, so that
    they are not kept beside what they become."""
    name = name_of(operation)
    fields = _fields_of(operation)
    refuse_unknown(parameters, fields)
    body: list[Any] = [name]
    for field in fields.values():
        value = _value_of(field, parameters, name)
        body.append(_encoded(field.name, value))
    return msgspec.msgpack.encode(body)


def _value_of(field: FieldInfo, parameters: dict[str, Any], operation: str) -> Any:
    value = parameters.pop(field.name, NODEFAULT)
    if value is NODEFAULT or (value is None and _is_default_of(field)):
        if field.required:
            raise InvalidParameter.named(field.name, f"{operation}: {field.name} is missing")
        return _default_of(field)
    if field.type is bytes and isinstance(value, str):
        return _as_bytes(field.name, value)
    return _translated(field.type, value)


def _as_bytes(name: str, text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError as error:
        raise InvalidParameter.named(
            name, f"{name} is {show(text)}; expected bytes in base64: {error}"
        ) from error


def _encoded(name: str, value: Any) -> Raw:
    try:
        return Raw(msgspec.msgpack.encode(value))
    except UNENCODABLE as error:
        raise explain_unencodable(error, value, name) from error


@cache
def _fields_of(declared: type[Struct]) -> dict[str, FieldInfo]:
    return {field.name: field for field in msgspec.structs.fields(declared)}


def _default_of(field: FieldInfo) -> Any:
    return field.default_factory() if field.default is NODEFAULT else field.default


def _is_default_of(field: FieldInfo) -> bool:
    """Whether null stands for the default: in Varlink all that may be left out may be null."""
    return not field.required and NoneType not in get_args(field.type)


def _translated(kind: Any, value: Any) -> Any:
    """`value` as the binary dialect has it, in a Struct or in a list of them: without the nulls
    that stand for a default, and with the keys that are numbers there."""
    if isinstance(value, dict) and is_struct(kind):
        defaults, numbered = _to_translate(kind)
        for name in defaults:
            if value.get(name, NODEFAULT) is None:
                del value[name]
        for name in numbered:
            if isinstance(value.get(name), dict):
                value[name] = {_as_number(key): one for key, one in value[name].items()}
    elif isinstance(value, list) and (arguments := get_args(kind)):
        for one in value:
            _translated(arguments[0], one)
    return value


@cache
def _to_translate(declared: type[Struct]) -> tuple[list[str], list[str]]:
    """The fields of which null means the default, and those that are dicts with numbers as keys."""
    fields = _fields_of(declared)
    return (
        [name for name, field in fields.items() if _is_default_of(field)],
        [name for name, field in fields.items() if get_args(field.type)[:1] == (int,)],
    )


def _as_number(key: str) -> int | str:
    return int(key) if key.isdecimal() and len(key) < _LONGEST_NUMBER else key


# -- replies --------------------------------------------------------------------------------------


def encode_reply(operation: type[Request[ReplyT]], reply: ReplyT, continues: bool = False) -> bytes:
    """The reply to a call; with `continues` another one follows.

    It may be larger than a frame: what fills a page in the binary dialect takes more room as text.
    """
    parameters = _by_name(reply)
    if not is_struct(reply_type(operation)):
        parameters = {"result": parameters}
    return encode_parameters(parameters, continues)


def to_json(value: Any) -> bytes:
    """A request, a reply or a part of one, as the JSON dialect has it."""
    return msgspec.json.encode(_by_name(value))


def encode_parameters(parameters: Any, continues: bool = False) -> bytes:
    """The reply that has these parameters, an object."""
    told = {"parameters": parameters}
    return msgspec.json.encode({**told, "continues": True} if continues else told)


def _by_name(value: Any) -> Any:
    """What a message holds, with an object for each Struct, also for those that are arrays in the
    binary dialect. Such Structs hold others, and no other Struct holds them."""
    if isinstance(value, Struct) and value.__struct_config__.array_like:
        return {name: _by_name(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, Struct):
        return {**_always_told(type(value)), **msgspec.to_builtins(value)}
    if isinstance(value, list | tuple):
        return [_by_name(one) for one in value]
    return value


@cache
def _always_told(declared: type[Struct]) -> dict[str, Any]:
    """The fields that an object always has, in their order, each with its default if it has one.

    A field that is null or empty by default is left out when it is so: else a sheet would be
    thirty nulls.
    """
    if not declared.__struct_config__.omit_defaults:
        return {}
    told = {}
    for field in _fields_of(declared).values():
        default = None if field.required else msgspec.to_builtins(_default_of(field))
        if field.required or default not in (None, [], {}):
            told[field.name] = default
    return told
