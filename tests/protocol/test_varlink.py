"""Calls and replies in JSON mean what requests and replies in the binary dialect mean."""

from __future__ import annotations

import base64
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobkeep_protocol import messages as m
from jobkeep_protocol.codec import decode_request
from jobkeep_protocol.errors import (
    ERRORS_BY_CODE,
    InvalidRequest,
    JobkeepError,
    LimitExceeded,
    PermissionDenied,
    ProtocolError,
)
from jobkeep_protocol.framing import MAX_FRAME_BYTES
from jobkeep_protocol.request import Request, operation_name, reply_type
from jobkeep_protocol.states import CheckpointState, SheetState
from jobkeep_protocol.values import refused
from jobkeep_protocol.varlink import (
    BINARY_ONLY,
    METHODS,
    Call,
    InterfaceNotFound,
    InvalidParameter,
    MethodNotFound,
    decode_call,
    encode_error,
    encode_reply,
    to_json,
    to_request,
)
from tests.protocol.examples import CREATED, ERRORS, REPLIES, REQUESTS, full_job, full_sheet
from tests.protocol.strategies import json_values
from tests.protocol.test_messages import REFUSED

CALLABLE = {name: one for name, one in REQUESTS.items() if type(one) not in BINARY_ONLY}
READABLE = {name: one for name, one in REPLIES.items() if one[0] not in BINARY_ONLY}


def call(method: str, parameters: Any = None, **flags: Any) -> Call:
    """The call in a message that names all of these."""
    text = msgspec.json.encode({"method": method, "parameters": parameters, **flags})
    return decode_call(text)


def request_of(operation: type[Request[Any]], parameters: Any) -> Request[Any]:
    """The request that a call with these parameters makes."""
    return to_request(call(f"org.jobkeep.{operation.__name__}", parameters))[0]


def reply_of(operation: type[Request[Any]], reply: Any) -> Any:
    """A reply as a client finds it."""
    return msgspec.json.decode(encode_reply(operation, reply))


def error_of(error: JobkeepError) -> Any:
    """An error as a client finds it."""
    return msgspec.json.decode(encode_error(error))


def default_of(field: msgspec.structs.FieldInfo) -> Any:
    """What a field is that is not given; None for one that must be."""
    if field.required:
        return None
    return field.default_factory() if field.default is msgspec.NODEFAULT else field.default


# -- calls ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"method":"a.B"}', ("a.B", None, False, False, False)),
        (b'{"method":"a.B","parameters":null,"more":null}', ("a.B", None, False, False, False)),
        (b' {"more":true,\n"parameters":{"x":[]},"method":"a.B"}\r', ("a.B", {"x": []}, True)),
        (b'{"method":"a.B","oneway":true}', ("a.B", None, False, True, False)),
        (b'{"method":"a.B","upgrade":true}', ("a.B", None, False, False, True)),
        (b'{"method":"a.B","more":true,"oneway":true}', ("a.B", None, False, True, False)),
        (b'{"method":"a.B","com.example":{"x":1}}', ("a.B", None)),
    ],
)
def test_call_is_a_method_with_parameters_and_flags(body: bytes, expected: tuple[Any]) -> None:
    found = decode_call(body)

    told = found._replace(parameters=msgspec.json.decode(found.parameters))
    assert told[: len(expected)] == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"[]",
        b"{}",
        b'"org.jobkeep.Status"',
        b'{"method":1}',
        b'{"method":null}',
        b'{"method":"a.B","more":1}',
        b'{"method":"a.B"} x',
        b'{"method":"a.B","parameters":}',
        b'{"method":"a.B","parameters":{"x":NaN}}',
        b'{"method":"\xff"}',
        b'{"method":"a.B","parameters":' + b"[" * 100_000,
    ],
)
def test_what_is_no_call_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"a message is no call: .*; expected one object") as e:
        decode_call(body)

    assert str(e.value).isprintable()
    assert len(str(e.value)) < 400


@pytest.mark.parametrize("name", CALLABLE)
def test_every_request_can_be_made_in_json(name: str) -> None:
    request = CALLABLE[name]
    parameters = msgspec.json.decode(to_json(request))
    assert list(parameters) == list(request.__struct_fields__)

    assert request_of(type(request), parameters) == request


@pytest.mark.parametrize("name", CALLABLE)
def test_parameters_with_their_defaults_may_be_left_out_or_null(name: str) -> None:
    kind = type(CALLABLE[name])
    required = {one.name for one in msgspec.structs.fields(kind) if one.required}
    parameters = msgspec.json.decode(to_json(CALLABLE[name]))
    least = {name: value for name, value in parameters.items() if name in required}

    expected = kind(**{one: getattr(CALLABLE[name], one) for one in required})

    assert request_of(kind, least) == expected
    assert request_of(kind, {**dict.fromkeys(parameters), **least}) == expected


def test_size_of_a_request_is_that_in_the_binary_dialect() -> None:
    _, size = to_request(call("org.jobkeep.Load", {"job_id": "x" * 100}))
    assert size == len(msgspec.msgpack.encode(m.Load("x" * 100)))


def test_null_within_a_sheet_stands_for_its_default_unless_null_is_a_value() -> None:
    sheet = dict.fromkeys(SheetState.__struct_fields__) | {"sheet_num": 1}
    request = request_of(m.SaveSheet, {"job_id": "j", "sheet": sheet})

    none = {"passed_validations": None, "failed_validations": None, "learned_patterns": None}
    assert request == m.SaveSheet("j", SheetState(sheet_num=1, **none))  # type: ignore[arg-type] # three of its fields


def test_null_within_a_state_and_its_sheets_stands_for_a_default() -> None:
    state = {"job_id": "j", "total_sheets": 1, "status": None, "extra": None}
    sheets = [{"sheet_num": 1, "status": None, "attempt_count": None}]

    request = request_of(m.Save, {"state": state, "sheets": sheets})

    assert isinstance(request, m.Save)
    assert request.state.extra == {}
    assert request.sheets == [SheetState(sheet_num=1)]


# -- calls that are refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "kind", "data"),
    [
        ("org.jobkeep.Nope", MethodNotFound, {"method": "org.jobkeep.Nope"}),
        ("org.jobkeep.Hello", MethodNotFound, {"method": "org.jobkeep.Hello"}),
        ("org.jobkeep.load", MethodNotFound, {"method": "org.jobkeep.load"}),
        ("org.jobkeep.", MethodNotFound, {"method": "org.jobkeep."}),
        ("org.nope.Load", InterfaceNotFound, {"interface": "org.nope"}),
        ("Load", InterfaceNotFound, {"interface": ""}),
        ("", InterfaceNotFound, {"interface": ""}),
        ("x" * 10_000 + ".y", InterfaceNotFound, {"interface": "x" * 80}),
    ],
)
def test_method_that_is_not_there_is_refused_in_the_words_of_varlink(
    method: str, kind: type[JobkeepError], data: dict[str, str]
) -> None:
    with pytest.raises(kind) as caught:
        to_request(call(method))

    assert error_of(caught.value) == {
        "error": f"org.varlink.service.{kind.__name__}",
        "parameters": data,
    }


@pytest.mark.parametrize(
    ("parameters", "parameter", "message"),
    [
        ({}, "job_id", "load: job_id is missing"),
        ({"job_id": None}, "job_id", "load: job_id is None; expected `str`, got `None`"),
        ({"job_id": "j", "sheet": 1}, "sheet", "no parameter 'sheet'; there are: job_id, after_sh"),
        ({"job_id": 7}, "job_id", "load: job_id is 7; expected `str`, got `int`"),
        ({"job_id": ""}, "job_id", "load: job_id is ''; expected a text of 1 to 512 bytes"),
        ({"job_id": "j", "after_sheet": 2**70}, "after_sheet", "after_sheet is 118059"),
        ([], "parameters", "parameters is []; expected an object"),
        ("x", "parameters", "parameters is 'x'; expected an object"),
        ({"job_id": "j", "y" * 9_999: 1}, "y" * 80, "there is no parameter 'yyy"),
    ],
)
def test_parameter_that_is_not_allowed_is_named(
    parameters: Any, parameter: str, message: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        request_of(m.Load, parameters)

    told = error_of(caught.value)
    assert told["error"] == "org.varlink.service.InvalidParameter"
    assert told["parameters"]["parameter"] == parameter
    assert message in told["parameters"]["message"]
    assert told["parameters"].keys() == {"parameter", "message"}


SAYABLE = [case for case in REFUSED if not set(map(str, case[1].values())) & {"\ud800", "nan", "0"}]
"""Those that JSON can say, and that are refused for more than their type."""


@pytest.mark.parametrize(("kind", "fields", "reason"), SAYABLE)
def test_what_the_binary_dialect_refuses_is_refused_in_the_same_words(
    kind: type[Request[Any]], fields: dict[str, Any], reason: str
) -> None:
    in_order = [
        fields[one.name] if one.name in fields else default_of(one)
        for one in msgspec.structs.fields(kind)
    ]
    body = msgspec.msgpack.encode([operation_name(kind.__name__), *in_order])
    with pytest.raises(InvalidRequest, match=reason) as expected:
        decode_request(body)

    with pytest.raises(InvalidRequest) as caught:
        request_of(kind, msgspec.json.decode(msgspec.json.encode(fields)))

    assert str(caught.value) == str(expected.value)
    told = error_of(caught.value)
    assert told["error"] == "org.varlink.service.InvalidParameter"
    assert told["parameters"]["parameter"].split(".")[0].split("[")[0] in kind.__struct_fields__


@pytest.mark.parametrize(
    ("sheet", "parameter"),
    [
        ({"confidence_score": 7, "sheet_num": 1}, "sheet.confidence_score"),
        ({"extra": {"x": [2**70]}, "sheet_num": 1}, "sheet['extra']['x'][0]"),
        ({}, "sheet"),
        ({"sheet_num": 1, "status": "done"}, "sheet.status"),
    ],
)
def test_value_within_a_parameter_is_named_with_its_place(sheet: Any, parameter: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        request_of(m.SaveSheet, {"job_id": "j", "sheet": sheet})

    assert error_of(caught.value)["parameters"]["parameter"] == parameter


def test_upgrade_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="upgrade is true; expected false"):
        to_request(call("org.jobkeep.Status", upgrade=True))


def test_nesting_without_end_is_refused() -> None:
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    for padding in ("", "x" * 20_000):
        state = {"job_id": "j", "total_sheets": 1, "extra": {"x": deep, "y": padding}}
        with pytest.raises(InvalidRequest, match=r"levels|deep"):
            request_of(m.Save, {"state": state, "sheets": []})


@pytest.mark.parametrize("item", [b"{}", b'{"a":{}}'])
def test_message_that_would_take_much_memory_is_refused_and_takes_none(item: bytes) -> None:
    count = (MAX_FRAME_BYTES - 200) // (len(item) + 1)
    text = b'{"method":"org.jobkeep.Save","parameters":{"state":{},"sheets":['
    text += b",".join([item] * count) + b"]}}"
    tracemalloc.start()
    try:
        with pytest.raises(LimitExceeded, match="more values than"):
            to_request(decode_call(text))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 2 * MAX_FRAME_BYTES


@pytest.mark.parametrize("filling", ["{},", "né", '\\"', "\n"])
def test_largest_text_is_accepted_whatever_it_holds(filling: str) -> None:
    output = filling * (16 * 1024 * 1024 // len(filling.encode()))
    parameters = {"job_id": "j", "sheet_num": 1, "attempt_num": 1, "output": output}

    assert getattr(request_of(m.RecordExecution, parameters), "output", None) == output


# -- any bytes, any values ------------------------------------------------------------------------


def outcome(body: bytes) -> Request[Any] | JobkeepError:
    """What comes of a message: a request, or an error that can be told in few words."""
    try:
        request, _ = to_request(decode_call(body))
    except JobkeepError as error:
        assert str(error).isprintable()  # noqa: PT017 # an error of ours is as good as a request
        assert len(encode_error(error)) < 2_000  # noqa: PT017
        return error
    assert decode_request(msgspec.msgpack.encode(request)) == request
    return request


@given(st.binary(max_size=100), st.sampled_from([b"", b'{"method":"org.jobkeep.Load",']))
def test_any_bytes_give_a_request_or_an_error_of_ours(data: bytes, before: bytes) -> None:
    outcome(before + data)


@settings(max_examples=300)
@given(st.sampled_from(sorted(CALLABLE)), st.data())
def test_call_with_any_one_parameter_replaced_is_read_or_refused(
    name: str, data: st.DataObject
) -> None:
    request = CALLABLE[name]
    parameters = msgspec.json.decode(to_json(request))
    names = [*parameters, "other"]
    parameters[data.draw(st.sampled_from(names))] = data.draw(json_values)
    message = {"method": f"org.jobkeep.{type(request).__name__}", "parameters": parameters}

    outcome(msgspec.json.encode(message))


# -- replies --------------------------------------------------------------------------------------


def test_reply_that_is_a_struct_gives_its_fields() -> None:
    assert reply_of(m.Watch, m.EventsPage([], 41)) == {"parameters": {"events": [], "next": 41}}


@pytest.mark.parametrize("name", READABLE)
def test_every_reply_is_an_object_with_each_part_by_its_name(name: str) -> None:
    operation, reply = READABLE[name]

    parameters = reply_of(operation, reply)["parameters"]

    declared = reply_type(operation)
    names = getattr(declared, "__struct_fields__", ("result",))
    assert list(parameters) == list(names)
    assert not holds_struct_as_list(parameters, reply)


def holds_struct_as_list(told: Any, reply: Any) -> bool:
    """Whether anything that has names lost them."""
    if isinstance(reply, msgspec.Struct):
        told = told.get("result", told) if isinstance(told, dict) else told
        return not isinstance(told, dict) or any(
            holds_struct_as_list(told[name], getattr(reply, name))
            for name in reply.__struct_fields__
            if name in told
        )
    if isinstance(reply, list):
        told = told["result"] if isinstance(told, dict) else told
        return any(map(holds_struct_as_list, told, reply))
    return False


@pytest.mark.parametrize("operation", METHODS.values())
def test_no_object_of_a_reply_holds_what_is_an_array_in_the_binary_dialect(
    operation: type[Request[Any]],
) -> None:
    found = msgspec.inspect.type_info(reply_type(operation))
    assert not arrays_in_objects(found, within_object=False)


def arrays_in_objects(kind: Any, *, within_object: bool) -> list[str]:
    """The Structs that are arrays and lie within ones that are none."""
    if isinstance(kind, msgspec.inspect.StructType):
        name = [kind.cls.__name__] if kind.array_like and within_object else []
        inside = within_object or not kind.array_like
        return name + [
            one
            for field in kind.fields
            for one in arrays_in_objects(field.type, within_object=inside)
        ]
    inner = getattr(kind, "types", None) or [getattr(kind, "item_type", None)]
    return [
        one
        for item in inner
        if item is not None
        for one in arrays_in_objects(item, within_object=within_object)
    ]


def test_object_leaves_out_what_is_null_or_empty_by_default_and_nothing_else() -> None:
    state = CheckpointState(job_id="j", total_sheets=1, created_at=CREATED, updated_at=CREATED)
    sheet = SheetState(sheet_num=1, learned_patterns=None, validation_details=[], error_message="")
    loaded = reply_of(m.Load, m.Loaded(state, [sheet], 1))["parameters"]["result"]

    assert list(loaded["state"]) == [
        *("job_id", "job_name", "created_at", "updated_at", "total_sheets"),
        *("last_completed_sheet", "status", "total_retry_count", "rate_limit_waits", "revision"),
    ]
    assert loaded["sheets"] == [
        {
            "sheet_num": 1,
            "status": "pending",
            "attempt_count": 0,
            "error_message": "",
            "validation_details": [],
            "completion_attempts": 0,
            "learned_patterns": None,
            "similar_outcomes_count": 0,
            "success_without_retry": False,
        }
    ]


def test_reply_has_times_as_text_and_bytes_in_base64() -> None:
    saved = reply_of(m.Save, m.Saved(10, CREATED, 18))["parameters"]["result"]
    piece = reply_of(m.ReadBackup, m.BackupPiece(b"SQLite\0\xff", True))["parameters"]

    assert saved == {"revision": 10, "updated_at": "2026-03-01T12:30:45.123456Z", "sequence": 18}
    assert piece == {"data": base64.b64encode(b"SQLite\0\xff").decode(), "more": True}


def test_reply_says_whether_another_one_follows() -> None:
    assert msgspec.json.decode(encode_reply(m.GetNextSheet, 2, continues=True)) == {
        "parameters": {"result": 2},
        "continues": True,
    }


def test_reply_is_one_line() -> None:
    job = full_job()
    job.error_message = "one\ntwo\0three"
    assert not {b"\n", b"\0"} & set(encode_reply(m.Load, m.Loaded(job, [], 1)))


def test_what_was_loaded_can_be_saved_as_it_is() -> None:
    loaded = reply_of(m.Load, m.Loaded(full_job(), [full_sheet()], 17))["parameters"]["result"]

    request = request_of(m.Save, {"state": loaded["state"], "sheets": loaded["sheets"]})

    assert request == m.Save(full_job(), [full_sheet()])


def test_nothing_and_an_empty_list_stay_different() -> None:
    for value in (None, [], ["x"]):
        sheet = SheetState(sheet_num=1, passed_validations=value)
        state = CheckpointState(job_id="j", total_sheets=1)
        loaded = reply_of(m.Load, m.Loaded(state, [sheet], 1))["parameters"]["result"]
        request = request_of(m.SaveSheet, {"job_id": "j", "sheet": loaded["sheets"][0]})
        assert request == m.SaveSheet("j", sheet)


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", sorted(ERRORS_BY_CODE.keys() - {InvalidRequest.code}))
def test_error_has_a_name_a_message_and_its_data(code: str) -> None:
    told = error_of(ERRORS[code])

    interface, _, name = told["error"].rpartition(".")
    assert name in {ERRORS_BY_CODE[code].__name__, "InternalError"}
    assert interface == ("org.varlink.service" if code == PermissionDenied.code else "org.jobkeep")
    assert told["parameters"] == {"message": f"about {code}", "data": ERRORS[code].data}


@pytest.mark.parametrize(
    "text", ["there is no backup 'x'", "what: it is", "a message is too deep", "load: too deep"]
)
def test_refusal_that_is_about_no_parameter_names_none(text: str) -> None:
    assert error_of(InvalidRequest(text)) == {
        "error": "org.jobkeep.InvalidRequest",
        "parameters": {"message": text, "data": {}},
    }


def test_refusal_of_a_handler_names_the_parameter() -> None:
    told = error_of(refused("sheet_num", 7, "1 to 3"))["parameters"]
    assert told == {"parameter": "sheet_num", "message": "sheet_num is 7; expected 1 to 3"}
