"""A tool that knows nothing of jobkeep can ask what there is, and gets it in Varlink's language."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from varlink import scanner

from jobkeep_protocol.errors import JobkeepError
from jobkeep_protocol.interface import describe
from jobkeep_protocol.request import Request
from jobkeep_protocol.service import SERVICE_TEXT, interface_text
from jobkeep_protocol.varlink import (
    BINARY_ONLY,
    ERROR_NAMES,
    METHODS,
    Call,
    InterfaceNotFound,
    InvalidParameter,
    MethodNotFound,
    encode_reply,
    own_reply,
    to_json,
)
from jobkeep_protocol.version import __version__
from tests.protocol.examples import REPLIES, REQUESTS

GET_INFO = "org.varlink.service.GetInfo"
GET_DESCRIPTION = "org.varlink.service.GetInterfaceDescription"
NAME = re.compile(r"[A-Za-z](_?[A-Za-z0-9])*")


def ask(method: str, parameters: bytes = b"{}") -> Any:
    """The parameters of the reply to a call."""
    reply = own_reply(Call(method, parameters))
    assert reply is not None
    return msgspec.json.decode(reply)["parameters"]


@pytest.fixture(scope="module")
def interface() -> Any:
    """The interface of jobkeep, as the varlink package reads it."""
    return scanner.Interface(ask(GET_DESCRIPTION, b'{"interface":"org.jobkeep"}')["description"])


# -- the methods of every service -----------------------------------------------------------------


def test_service_says_what_it_is_and_which_interfaces_it_has() -> None:
    assert ask(GET_INFO) == {
        "vendor": "jobkeep",
        "product": "jobkeepd",
        "version": __version__,
        "url": "",
        "interfaces": ["org.varlink.service", "org.jobkeep"],
    }


@pytest.mark.parametrize(
    ("interface", "text"),
    [("org.jobkeep", interface_text()), ("org.varlink.service", SERVICE_TEXT)],
)
def test_service_describes_each_of_its_interfaces(interface: str, text: str) -> None:
    parameters = msgspec.json.encode({"interface": interface})

    assert ask(GET_DESCRIPTION, parameters) == {"description": text}
    assert scanner.Interface(text).name == interface


@pytest.mark.parametrize(
    ("method", "parameters", "error", "data"),
    [
        (GET_INFO, b'{"x":1}', InvalidParameter, {"parameter": "x"}),
        (GET_DESCRIPTION, b"{}", InvalidParameter, {"parameter": "interface"}),
        (GET_DESCRIPTION, b'{"interface":1}', InvalidParameter, {"parameter": "interface"}),
        (GET_DESCRIPTION, b'{"interface":"x"}', InterfaceNotFound, {"interface": "x"}),
        (GET_DESCRIPTION, b"[]", InvalidParameter, {"parameter": "parameters"}),
        ("org.varlink.service.X", b"{}", MethodNotFound, {"method": "org.varlink.service.X"}),
    ],
)
def test_question_that_cannot_be_answered_is_refused(
    method: str, parameters: bytes, error: type[JobkeepError], data: dict[str, str]
) -> None:
    with pytest.raises(error) as refused:
        ask(method, parameters)

    assert refused.value.data == data


def test_call_of_another_interface_is_none_of_the_services() -> None:
    assert own_reply(Call("org.jobkeep.Status")) is None


# -- the text of the interface --------------------------------------------------------------------


def test_interface_has_every_method_type_and_error_with_a_comment(interface: Any) -> None:
    members = interface.members
    errors = {name.rpartition(".")[2] for name in ERROR_NAMES.values()} - {"PermissionDenied"}
    types = {one.name for method in METHODS.values() for one in describe(method).types}

    assert members.keys() == METHODS.keys() | errors | types
    assert interface.doc
    assert all(one.doc for one in members.values() if not isinstance(one, scanner._Error))


@pytest.mark.parametrize("operation", METHODS.values())
def test_method_has_the_fields_of_its_operation(
    interface: Any, operation: type[Request[Any]]
) -> None:
    method = interface.get_method(operation.__name__)

    assert list(method.in_type.fields) == list(operation.__struct_fields__)
    assert list(method.out_type.fields) == [one.name for one in describe(operation).reply_fields]
    for field in msgspec.structs.fields(operation):
        may_be_left_out = isinstance(method.in_type.fields[field.name], scanner._Maybe)
        assert may_be_left_out or field.required, field.name


@pytest.mark.parametrize(
    "name", [name for name, one in REQUESTS.items() if type(one) not in BINARY_ONLY]
)
def test_parameters_are_what_the_interface_says(interface: Any, name: str) -> None:
    request = REQUESTS[name]
    method = interface.get_method(type(request).__name__)

    check(interface, method.in_type, msgspec.json.decode(to_json(request)), name)


@pytest.mark.parametrize(
    "name", [name for name, one in REPLIES.items() if one[0] in METHODS.values()]
)
def test_replies_are_what_the_interface_says(interface: Any, name: str) -> None:
    operation, reply = REPLIES[name]
    told = msgspec.json.decode(encode_reply(operation, reply))["parameters"]

    check(interface, interface.get_method(operation.__name__).out_type, told, name)


def test_all_names_are_names_in_varlink(interface: Any) -> None:
    names = [name for member in interface.members.values() for name in names_in(member)]

    assert len(names) > 100
    assert [name for name in names if not NAME.fullmatch(name)] == []


def test_text_says_who_may_what_and_what_goes_on(interface: Any) -> None:
    members = interface.members

    assert "For the role admin." in members["Delete"].doc
    assert "With `more`, all pages, a reply each." in members["QueryJobs"].doc
    assert "With `more` the replies\n" in members["Watch"].doc.replace("\n ", "\n")
    assert "Default: 50." in members["QueryJobs"].doc


def names_in(kind: Any) -> Iterator[str]:
    """All names that a type uses for fields and values."""
    if isinstance(kind, scanner._Struct | scanner._Enum):
        yield from kind.fields
    if isinstance(kind, scanner._Struct):
        for one in kind.fields.values():
            yield from names_in(one)
    for part in ("type", "in_type", "out_type", "element_type"):
        if hasattr(kind, part):
            yield from names_in(getattr(kind, part))


def check(interface: Any, kind: Any, value: Any, place: str) -> None:
    """Assert that a value in JSON is of a type of the interface, and has nothing beyond it."""
    match kind:
        case scanner._Maybe():
            if value is not None:
                check(interface, kind.element_type, value, place)
        case scanner._CustomType():
            check(interface, interface.members[kind.name].type, value, place)
        case scanner._Struct():
            assert value.keys() <= kind.fields.keys(), place
            for name, field in kind.fields.items():
                assert name in value or isinstance(field, scanner._Maybe), f"{place}.{name}"
                if name in value:
                    check(interface, field, value[name], f"{place}.{name}")
        case scanner._Enum():
            assert value in kind.fields, place
        case scanner._Array():
            for one in value:
                check(interface, kind.element_type, one, f"{place}[]")
        case scanner._Dict():
            for one in value.values():
                check(interface, kind.element_type, one, f"{place}[…]")
        case scanner._Object():
            pass
        case float():
            assert type(value) in {float, int}, place
        case _:
            assert type(value) is type(kind), place
