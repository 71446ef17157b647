"""What the operations look like from outside: names, types, defaults and docstrings.

What lives here: descriptions of operations and of the types they use, made from the declarations in
`messages` for people and for tools that know nothing of jobkeep. Types are written as Varlink has
them (https://varlink.org/Interface-Definition). What may not: any operation by name, and the text
of an interface (that is `service`).

It takes longer to import than all the rest of the protocol: import it where it is used.
"""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import msgspec
from msgspec import NODEFAULT, Struct
from msgspec.structs import FieldInfo

from jobkeep_protocol.field_docs import docs_of_fields
from jobkeep_protocol.request import Request, Role, Stream, name_of, reply_type
from jobkeep_protocol.states import CheckpointFields, CheckpointState, SheetFields, SheetState
from jobkeep_protocol.varlink import INTERFACE, is_struct


class FieldDescription(NamedTuple):
    """A field of an operation or of a type."""

    name: str
    type: str
    """As Varlink writes it; `?` before it when the value may be null."""
    may_be_left_out: bool
    default: str | None
    """What a field that is left out stands for, as JSON or in words; None when it may not be."""
    doc: str

    @property
    def varlink_type(self) -> str:
        """The type for an interface: in Varlink what may be left out is what may be null."""
        return _or_null(self.type) if self.may_be_left_out else self.type


class TypeDescription(NamedTuple):
    """A type with a name: an object with fields, or a text with one of some values."""

    name: str
    doc: str
    fields: tuple[FieldDescription, ...] = ()
    values: tuple[str, ...] = ()


class OperationDescription(NamedTuple):
    """One operation."""

    name: str
    """In the binary dialect and in Python: `query_jobs`."""
    method: str
    """In the JSON dialect: `org.jobkeep.QueryJobs`."""
    role: Role
    """Who may ask for it. Some values may need a higher one; `doc` says so."""
    has_pages: bool
    """Whether the reply is a page, so that the flag `more` gives those after it too."""
    streams: bool
    """Whether there is no last page: it goes on as long as somebody listens."""
    doc: str
    fields: tuple[FieldDescription, ...]
    reply: str
    """The type of the reply, as Varlink writes it."""
    reply_fields: tuple[FieldDescription, ...]
    """What a reply in JSON has: the fields of the type, or the one field `result`."""
    types: tuple[TypeDescription, ...]
    """The types with a name that `fields` and `reply_fields` use, each before those it uses."""


@cache
def describe(operation: type[Request[Any]]) -> OperationDescription:
    """All there is to know to ask for an operation and to read its reply."""
    types = _Types()
    fields = tuple(_fields_of(operation, types, may_be_left_out=True))
    reply_fields = tuple(_fields_of_reply(operation, types))
    return OperationDescription(
        name=name_of(operation),
        method=f"{INTERFACE}.{operation.__name__}",
        role=operation.role,
        has_pages=operation.following is not Request.following,
        streams=issubclass(operation, Stream),
        doc=inspect.getdoc(operation) or "",
        fields=fields,
        reply=_Types().text(reply_type(operation)),
        reply_fields=reply_fields,
        types=tuple(types.named.values()),
    )


def _fields_of_reply(operation: type[Request[Any]], types: _Types) -> Iterator[FieldDescription]:
    reply = reply_type(operation)
    if is_struct(reply):
        yield from _fields_of(reply, types, may_be_left_out=_leaves_out(reply))
    else:
        doc = _how_written(reply)
        yield FieldDescription("result", types.text(reply), False, None, doc)


def _fields_of(
    declared: type[Struct], types: _Types, *, may_be_left_out: bool
) -> Iterator[FieldDescription]:
    """The fields of a Struct; `may_be_left_out` is whether those with a default may be."""
    docs = docs_of_fields(declared)
    for field in msgspec.structs.fields(declared):
        default = _default_of(field) if may_be_left_out and not field.required else None
        doc = " ".join(filter(None, [docs.get(field.name), _how_written(field.type)]))
        text = types.text(field.type)
        yield FieldDescription(field.name, text, default is not None, default, doc)


def _leaves_out(declared: type[Struct]) -> bool:
    """Whether a Struct is sent without the fields that have their defaults."""
    return declared.__struct_config__.omit_defaults and not declared.__struct_config__.array_like


def _default_of(field: FieldInfo) -> str:
    if field.default is not NODEFAULT:
        return msgspec.json.encode(field.default).decode()
    if field.default_factory in {list, dict}:
        return msgspec.json.encode(field.default_factory()).decode()
    (in_words, *_) = (inspect.getdoc(field.default_factory) or "made anew.").split("\n")
    return f"{in_words[0].lower()}{in_words[1:].rstrip('.')}"


# -- types ----------------------------------------------------------------------------------------


_ONE_TYPE_ON_THE_WIRE: dict[type, type] = {
    CheckpointFields: CheckpointState,
    SheetFields: SheetState,
}
"""Types that differ in what they check only, and the one that is described."""

_PLAIN: dict[Any, str] = {
    bool: "bool",
    int: "int",
    float: "float",
    str: "string",
    bytes: "string",
    datetime: "string",
    Any: "object",
    NoneType: "?object",
}

_HOW_WRITTEN: dict[Any, str] = {
    datetime: "ISO 8601, with a time zone.",
    bytes: "In base64.",
}

_NAME = re.compile(r"[A-Za-z](_?[A-Za-z0-9])*")
"""What the name of a field or of a value of an enum may be."""


class _Types:
    """Writes types as Varlink has them, and keeps a description of each that has a name."""

    def __init__(self) -> None:
        self.named: dict[str, TypeDescription] = {}

    def text(self, kind: Any) -> str:
        """A type in Varlink. Raises TypeError for one that cannot be described."""
        if plain := _PLAIN.get(kind):
            return plain
        if isinstance(kind, type) and (is_struct(kind) or issubclass(kind, enum.Enum)):
            return self._name(kind)
        if is_typeddict(kind):
            return self._name(kind)
        return self._composed(kind)

    def _composed(self, kind: Any) -> str:
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is Annotated:
            return self.text(arguments[0])
        if origin is Literal:
            return _enum(arguments)
        if origin in {Union, UnionType}:
            others = [one for one in arguments if one is not NoneType]
            text = self.text(others[0]) if len(others) == 1 else "object"
            return _or_null(text) if NoneType in arguments else text
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return "object" if arguments[1] is Any else f"[string]{self.text(arguments[1])}"
        if isinstance(origin, type) and issubclass(origin, Sequence):
            return f"[]{self.text(arguments[0])}"
        raise TypeError(f"{kind!r} has no Varlink type; use one that _Types knows, or teach it")

    def _name(self, kind: type) -> str:
        kind = _ONE_TYPE_ON_THE_WIRE.get(kind, kind)
        name = kind.__name__
        if name not in self.named:
            self.named[name] = TypeDescription(name, "")  # its place; it may use itself
            self.named[name] = self._description(kind)
        return name

    def _description(self, kind: type) -> TypeDescription:
        doc = inspect.getdoc(kind) or ""
        if issubclass(kind, enum.Enum):
            return TypeDescription(kind.__name__, doc, values=tuple(one.value for one in kind))
        if issubclass(kind, Struct):
            fields = _fields_of(kind, self, may_be_left_out=_leaves_out(kind))
        else:
            fields = self._fields_of_dict(kind)
        return TypeDescription(kind.__name__, doc, tuple(fields))

    def _fields_of_dict(self, kind: Any) -> Iterator[FieldDescription]:
        """The fields of a TypedDict."""
        docs = docs_of_fields(kind)
        for name, declared in get_type_hints(kind).items():
            is_optional = name in kind.__optional_keys__
            yield FieldDescription(name, self.text(declared), is_optional, None, docs.get(name, ""))


def _or_null(text: str) -> str:
    return text if text.startswith("?") else f"?{text}"


def _enum(values: tuple[Any, ...]) -> str:
    """Some texts as an enum, if Varlink can have one of them."""
    if len(values) > 1 and all(isinstance(one, str) and _NAME.fullmatch(one) for one in values):
        return f"({', '.join(values)})"
    return "string"


def _how_written(kind: Any) -> str:
    """What text stands for a value that JSON does not have, if there is one in this type."""
    if kind in _HOW_WRITTEN:
        return _HOW_WRITTEN[kind]
    return next(filter(None, map(_how_written, get_args(kind))), "")
