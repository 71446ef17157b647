"""What every Varlink service tells of itself (https://varlink.org/Service).

What lives here: the answers to the methods of `org.varlink.service`, and the text of both
interfaces. That of `org.jobkeep` is written from the descriptions in `interface`, with docstrings
as comments. What may not: any operation by name. Import it where it is used, like `interface`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

from jobkeep_protocol.errors import ERRORS_BY_CODE
from jobkeep_protocol.interface import (
    FieldDescription,
    OperationDescription,
    TypeDescription,
    describe,
)
from jobkeep_protocol.values import show
from jobkeep_protocol.varlink import (
    ERROR_NAMES,
    INTERFACE,
    METHODS,
    SERVICE,
    InvalidParameter,
    interface_not_found,
    method_not_found,
    refuse_unknown,
)
from jobkeep_protocol.version import __version__

VENDOR, PRODUCT = "jobkeep", "jobkeepd"
URL = ""
"""The project has no page yet."""


def answer(method: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """What a method of SERVICE gives.

    Raises MethodNotFound, InterfaceNotFound and InvalidParameter.
    """
    if method not in _METHODS:
        raise method_not_found(f"{SERVICE}.{method}")
    return _METHODS[method](parameters)


def _get_info(parameters: dict[str, Any]) -> dict[str, Any]:
    refuse_unknown(parameters, ())
    return {
        "vendor": VENDOR,
        "product": PRODUCT,
        "version": __version__,
        "url": URL,
        "interfaces": [SERVICE, INTERFACE],
    }


def _get_interface_description(parameters: dict[str, Any]) -> dict[str, Any]:
    refuse_unknown(parameters, ("interface",))
    interface = parameters.get("interface")
    if not isinstance(interface, str):
        raise InvalidParameter.named(
            "interface", f"interface is {show(interface)}; expected {INTERFACE} or {SERVICE}"
        )
    if interface == INTERFACE:
        return {"description": interface_text()}
    if interface == SERVICE:
        return {"description": SERVICE_TEXT}
    raise interface_not_found(interface)


_METHODS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "GetInfo": _get_info,
    "GetInterfaceDescription": _get_interface_description,
}


SERVICE_TEXT = """\
# The Varlink Service Interface is provided by every varlink service. It
# describes the service and the interfaces it implements.
interface org.varlink.service

# Get a list of all the interfaces a service provides and information
# about the implementation.
method GetInfo() -> (
  vendor: string,
  product: string,
  version: string,
  url: string,
  interfaces: []string
)

# Get the description of an interface that is implemented by this service.
method GetInterfaceDescription(interface: string) -> (description: string)

# The requested interface was not found.
error InterfaceNotFound (interface: string)

# The requested method was not found
error MethodNotFound (method: string)

# The interface defines the requested method, but the service does not
# implement it.
error MethodNotImplemented (method: string)

# One of the passed parameters is invalid.
error InvalidParameter (parameter: string)

# Client is denied access
error PermissionDenied ()

# Method is expected to be called with 'more' set to true, but wasn't
error ExpectedMore ()
"""
"""As the standard has it, word for word."""


# -- the text of org.jobkeep ----------------------------------------------------------------------


_ABOUT = f"""\
The state of long-running jobs and of their numbered sheets, kept by jobkeepd.

A call that is not allowed is answered with {SERVICE}.InvalidParameter, which has a
`message` here that names the value and what is expected, or with
{SERVICE}.PermissionDenied, whose `message` names the role that is needed.

Parameters whose type begins with `?` may be left out or null. What a reply leaves out has its
default."""


@cache
def interface_text() -> str:
    """The description of INTERFACE in Varlink's language."""
    told = [describe(operation) for operation in METHODS.values()]
    types = {one.name: one for operation in told for one in operation.types}
    parts = [
        [*_comment(_ABOUT), f"interface {INTERFACE}"],
        *map(_type, types.values()),
        *map(_method, told),
        *_errors(),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _type(declared: TypeDescription) -> Iterator[str]:
    yield from _comment(declared.doc)
    if declared.values:
        yield f"type {declared.name} ({', '.join(declared.values)})"
    else:
        yield from _with_fields(f"type {declared.name} ", declared.fields)


def _method(told: OperationDescription) -> Iterator[str]:
    yield from _comment(f"{told.doc}\n\n{_who_and_how(told)}")
    (*lines, last) = _with_fields(f"method {told.method.rpartition('.')[2]}", told.fields)
    yield from lines
    yield from _with_fields(f"{last} -> ", told.reply_fields)


def _who_and_how(told: OperationDescription) -> str:
    role = f"For the role {told.role}."
    if told.streams:
        return (
            f"{role} It begins after `after`, null is now; that of the next call is `next`. The\n"
            "reply is empty when there is nothing new for `wait_seconds`. With `more` the replies\n"
            "go on, one whenever there is something new."
        )
    if told.has_pages:
        return f"{role} With `more`, all pages, a reply each."
    return role


def _errors() -> Iterator[list[str]]:
    for code, error in ERRORS_BY_CODE.items():
        interface, _, name = ERROR_NAMES[code].rpartition(".")
        if interface == INTERFACE:
            doc = (error.__doc__ or "").split("\n")[0]
            yield [*_comment(doc), f"error {name} (message: string, data: object)"]


def _with_fields(head: str, fields: Iterable[FieldDescription]) -> Iterator[str]:
    """What has fields: each on a line of its own, below what is said of it."""
    fields = tuple(fields)
    if not fields:
        yield f"{head}()"
        return
    yield f"{head}("
    for field in fields:
        comma = "," if field is not fields[-1] else ""
        yield from _comment(_about_field(field), "  ")
        yield f"  {field.name}: {field.varlink_type}{comma}"
    yield ")"


def _about_field(field: FieldDescription) -> str:
    default = "" if field.default in {None, "null"} else f"Default: {field.default}."
    return " ".join(filter(None, [field.doc, default]))


def _comment(text: str, indent: str = "") -> Iterator[str]:
    for line in text.splitlines():
        yield f"{indent}# {line}".rstrip()
