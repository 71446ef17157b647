"""Messages: declared once, checked when made and when decoded, and never a surprise."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobkeep_protocol import codec as c
from jobkeep_protocol import messages as m
from jobkeep_protocol import request as r
from jobkeep_protocol.changes import without_sheets
from jobkeep_protocol.errors import InvalidRequest, JobkeepError, LimitExceeded, ProtocolError
from jobkeep_protocol.states import (
    CheckpointFields,
    CheckpointState,
    JobStatus,
    SheetFields,
    SheetState,
    SheetStatus,
    trusted_state,
)
from tests.first_use import assert_threads_survive
from tests.protocol.examples import REPLIES, REQUESTS
from tests.protocol.strategies import anything, jobs, sheets


def pack(value: Any) -> bytes:
    """`value` as msgpack, whatever it is."""
    return msgspec.msgpack.encode(value)


# -- what is declared ---------------------------------------------------------------------------


def test_operation_is_its_class_in_snake_case() -> None:
    assert r.operation_name("QueryJobs") == "query_jobs"
    assert {r.operation_name(kind.__name__): kind for kind in c.OPERATIONS.values()} == c.OPERATIONS


def test_each_operation_is_for_readers_writers_or_administrators() -> None:
    by_role: dict[str, set[str]] = {}
    for name, kind in c.OPERATIONS.items():
        by_role.setdefault(kind.role, set()).add(name)

    assert by_role == {
        "read": {
            *("hello", "status", "monitor", "slow_log", "list_clients", "watch"),
            *("load", "list_jobs", "query_jobs", "get_job_statistics"),
            *("get_next_sheet", "get_execution_history", "get_execution_history_count"),
            *("get_overview", "get_durations", "get_errors", "get_validations"),
            *("get_outcomes", "get_timeline"),
            *("get_learned_patterns", "find_similar_outcomes"),
            *("search_executions", "export_history"),
        },
        "write": {
            *("save", "mark_sheet_status", "save_sheet", "claim_next_sheet", "record_execution"),
        },
        "admin": {
            *("delete", "kill_client", "start_backup", "read_backup", "start_export"),
            *("start_import", "write_import", "import_jobs", "import_job", "import_history"),
            *("preview_prune", "prune", "shrink"),
        },
    }


def test_what_follows_a_page_without_sheets_is_no_first_page_again() -> None:
    only_the_job = m.Loaded(CheckpointFields(job_id="job", total_sheets=2), [], 1, more=True)
    one_sheet = m.Loaded(None, [SheetFields(sheet_num=1)], 1, more=True)

    assert m.Load("job").following(only_the_job) == m.Load("job", after_sheet=0)
    assert m.Load("job", after_sheet=0).following(one_sheet) == m.Load("job", after_sheet=1)


@pytest.mark.parametrize("kind", c.OPERATIONS.values())
def test_each_operation_names_the_type_of_its_reply(kind: type[r.Request[Any]]) -> None:
    replies = [reply for operation, reply in REPLIES.values() if operation is kind]
    for reply in replies:
        msgspec.convert(msgspec.to_builtins(reply), r.reply_type(kind), strict=False)


@pytest.mark.parametrize("kind", c.OPERATIONS.values())
def test_requests_are_frozen(kind: type[r.Request[Any]]) -> None:
    assert kind.__struct_config__.frozen


# -- what a request may hold --------------------------------------------------------------------

JOB = CheckpointState(job_id="job", total_sheets=1)
RECORD = m.RecordExecution("job", 1, 1)
REFUSED: list[tuple[type[r.Request[Any]], dict[str, Any], str]] = [
    (m.Load, {"job_id": ""}, "job_id is ''; expected a text of 1 to 512 bytes"),
    (m.Delete, {"job_id": "x" * 513}, "job_id is 'xxx"),
    (m.GetNextSheet, {"job_id": "\ud800"}, r"job_id is '\\ud800'"),
    (m.GetJobStatistics, {"job_id": ""}, "job_id is ''"),
    (m.MarkSheetStatus, {"job_id": "j", "sheet_num": 0, "status": "pending"}, "sheet_num is 0"),
    (m.ClaimNextSheet, {"job_id": "j", "max_attempts": 0}, "max_attempts is 0; .* 1 or more"),
    (m.RecordExecution, {"job_id": "j", "sheet_num": 0, "attempt_num": 1}, "sheet_num is 0"),
    (m.RecordExecution, {"job_id": "j", "sheet_num": 1, "attempt_num": -1}, "attempt_num is -1"),
    (m.GetExecutionHistory, {"job_id": "j", "limit": -1}, "limit is -1; .* 0 or more"),
    (m.GetExecutionHistory, {"job_id": "j", "sheet_num": 0}, "sheet_num is 0"),
    (
        m.GetExecutionHistory,
        {"job_id": "j", "before_id": 2**63},
        "before_id is 9223372036854775808",
    ),
    (m.GetExecutionHistoryCount, {"job_id": "j", "sheet_num": -1}, "sheet_num is -1"),
    (m.SearchExecutions, {"query": "q", "limit": -1}, "limit is -1; .* 0 or more"),
    (m.QueryJobs, {"limit": -1}, "limit is -1; .* 0 or more"),
    (m.QueryJobs, {"since": datetime(2026, 1, 1)}, "since is .*; .* time zone"),  # noqa: DTZ001
    (m.GetOverview, {"job_id": ""}, "job_id is ''"),
    (m.GetErrors, {"limit": -1}, "limit is -1; .* 0 or more"),
    (m.GetTimeline, {"until": datetime(2026, 1, 1)}, "until is .*; .* time zone"),  # noqa: DTZ001
    (m.Load, {"job_id": "j", "after_sheet": 2**63}, "after_sheet is 9223372036854775808"),
    (m.Save, {"state": JOB, "sheets": [], "removed": [1, 2**63]}, r"removed\[1\] is 92233720368"),
    (
        m.Save,
        {
            "state": CheckpointState(
                job_id="j", total_sheets=1, sheets={1: SheetState(sheet_num=1)}
            ),
            "sheets": [],
        },
        r"state\.sheets is \{1: .*; expected no sheets here: they go into `sheets`",
    ),
    (m.GetLearnedPatterns, {"min_sheets": 0}, "min_sheets is 0; .* 1 or more"),
    (m.FindSimilarOutcomes, {"exit_code": 1, "limit": 1001}, "limit is 1001; .* from 0 to 1000"),
    (m.PreviewPrune, {"keep_last": 0}, "keep_last is 0; .* 1 or more"),
    (m.ListJobs, {"after": 2**63}, "after is 9223372036854775808"),
    (
        m.RecordExecution,
        {"job_id": "j", "sheet_num": 1, "attempt_num": 1, "exit_code": "0"},
        "exit_code is '0'; .* 64 bits",
    ),
    (
        m.RecordExecution,
        {"job_id": "j", "sheet_num": 1, "attempt_num": 1, "duration_seconds": float("nan")},
        "duration_seconds is nan",
    ),
]


@pytest.mark.parametrize(("kind", "fields", "reason"), REFUSED)
def test_value_that_is_not_allowed_is_refused_where_it_is_given(
    kind: type[r.Request[Any]], fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        kind(**fields)


@pytest.mark.parametrize("field", ["prompt", "output"])
def test_text_of_a_record_is_at_most_16_mib(field: str) -> None:
    largest = "é" * (r.MAX_TEXT_BYTES // 2)
    msgspec.structs.replace(RECORD, **{field: largest})

    with pytest.raises(LimitExceeded, match=f"{field} has more than 16777216 bytes") as refused:
        msgspec.structs.replace(RECORD, **{field: largest + "x"})

    assert refused.value.data == {"limit": field, "maximum": r.MAX_TEXT_BYTES}


def test_state_that_cannot_be_encoded_is_refused_with_the_place() -> None:
    state = CheckpointState(job_id="job", total_sheets=1)
    state.extra = {"x": [object()]}

    with pytest.raises(InvalidRequest, match=r"state\.extra\['x'\]\[0\] is <object .*; expected"):
        c.encode_request(1, m.Save(state, []))


def test_text_that_is_no_unicode_is_refused_by_name() -> None:
    request = m.RecordExecution("job", 1, 1, output="\ud800")
    with pytest.raises(InvalidRequest, match=r"output is '\\ud800'; expected text .* UTF-8"):
        c.encode_request(1, request)


# -- bytes that are no message ------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"", b"\xc1", pack(1), pack([]), pack([1]), pack(["1", 2]), pack([1, 2, 3]), pack({1: 2})],
)
def test_body_without_an_id_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"no \[request_id, message\]"):
        c.open_envelope(body)


@pytest.mark.parametrize("request_id", [-1, -(2**63), 2**63, 2**64 - 1])
def test_id_that_no_request_can_have_is_a_protocol_error(request_id: int) -> None:
    with pytest.raises(ProtocolError, match=r"no \[request_id, message\]: Expected `int` [<>]="):
        c.open_envelope(pack([request_id, ["status"]]))


@pytest.mark.parametrize("request_id", [0, 2**63 - 1])
def test_id_is_the_clients_from_0_to_63_bits(request_id: int) -> None:
    assert c.open_envelope(pack([request_id, ["status"]]))[0] == request_id


@pytest.mark.parametrize(
    "message",
    [
        pack(["ok"]),
        pack(["error", "x"]),
        pack(["ok", "text"]),
        b"\xc1",
        pack(["what", 1]),
        pack(None),
    ],
)
def test_reply_that_cannot_be_read_is_a_protocol_error(message: bytes) -> None:
    with pytest.raises(ProtocolError, match="reply to get_execution_history_count cannot be read"):
        c.decode_reply(m.GetExecutionHistoryCount, message)


@pytest.mark.parametrize("kind", ["o\nk", "x" * 1_000_000])
def test_what_a_strange_reply_holds_is_told_in_one_short_line(kind: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        c.decode_reply(m.Load, pack([kind, None]))

    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 200


def test_deep_nesting_is_refused_by_both_decoders() -> None:
    deep = b"\x91" * 100_000 + b"\xc0"

    with pytest.raises(InvalidRequest, match="more than 128 levels"):
        c.decode_request(deep)
    with pytest.raises(InvalidRequest, match="cannot be read"):
        c.decode_request(deep[-10_000:])
    with pytest.raises(ProtocolError, match="cannot be read"):
        c.decode_reply(m.Load, deep)
    with pytest.raises(ProtocolError):
        c.open_envelope(b"\x92\x01" + deep)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_message_or_an_error_of_ours(data: bytes) -> None:
    _decode_everything(data)


@given(anything())
def test_any_value_gives_a_message_or_an_error_of_ours(value: Any) -> None:
    _decode_everything(pack(value))


@settings(max_examples=400)
@given(st.sampled_from(sorted(c.OPERATIONS)), st.lists(anything(), max_size=7))
def test_any_fields_give_a_request_or_a_refusal(name: str, fields: list[Any]) -> None:
    _decode_everything(pack([name, *fields]))


@settings(max_examples=400)
@given(st.sampled_from(sorted(REQUESTS)), st.data())
def test_request_with_any_one_value_replaced_is_read_or_refused(
    name: str, data: st.DataObject
) -> None:
    _, message = c.open_envelope(c.encode_request(1, REQUESTS[name]))
    body = msgspec.msgpack.decode(message)
    place: Any = body
    while True:  # walk down to some list or dict, and put anything into it
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], list | dict) or data.draw(st.booleans()):
            place[key] = data.draw(anything())
            break
        place = place[key]

    _decode_everything(pack(body))


def _decode_everything(message: bytes) -> None:
    """Decode in every way there is; whatever is raised is an error of ours."""
    for decode in (
        c.open_envelope,
        c.decode_request,
        lambda data: c.decode_reply(m.Load, data),
        lambda data: c.decode_reply(m.GetJobStatistics, data),
    ):
        try:
            decode(message)
        except JobkeepError as error:
            assert str(error)  # noqa: PT017 # an error of ours is as good as a message


# -- what survives ------------------------------------------------------------------------------


@given(jobs())
def test_job_survives_the_wire_whole(state: CheckpointState) -> None:
    kept = list(state.sheets.values())
    state = without_sheets(state)
    _, message = c.open_envelope(c.encode_request(1, m.Save(state, kept)))

    request = c.decode_request(message)

    assert isinstance(request, m.Save)
    assert request.state == state
    assert request.sheets == kept


@given(sheets(1))
def test_sheet_survives_a_reply_whole(sheet: SheetState) -> None:
    state = CheckpointState(job_id="job", total_sheets=1)
    _, message = c.open_envelope(c.encode_reply(1, m.Loaded(state, [sheet], 1)))

    loaded = c.decode_reply(m.Load, message)

    assert loaded is not None
    assert loaded.state is not None
    state.sheets[1] = sheet
    assert trusted_state(loaded.state, loaded.sheets) == state


@pytest.mark.parametrize("field", ["passed_validations", "failed_validations", "learned_patterns"])
@pytest.mark.parametrize("value", [None, [], ["x"]])
def test_no_list_and_an_empty_list_stay_different(field: str, value: list[str] | None) -> None:
    sheet = SheetState(sheet_num=1, **{field: value})  # type: ignore[arg-type] # one of three fields
    assert getattr(_through_the_wire(sheet), field) == value


@pytest.mark.parametrize("value", [None, {}, {"x": None}, {"x": []}, {"x": {}}])
def test_no_dict_and_an_empty_dict_stay_different(value: dict[str, Any] | None) -> None:
    assert _through_the_wire(SheetState(sheet_num=1, outcome_data=value)).outcome_data == value


def test_microseconds_survive() -> None:
    moment = datetime(2026, 3, 1, 12, 0, 0, 1, tzinfo=UTC)
    assert _through_the_wire(SheetState(sheet_num=1, started_at=moment)).started_at == moment


def _through_the_wire(sheet: SheetState) -> SheetState:
    _, message = c.open_envelope(c.encode_request(1, m.SaveSheet("job", sheet)))
    request = c.decode_request(message)
    assert isinstance(request, m.SaveSheet)
    return request.sheet


def test_many_threads_may_decode_their_first_replies_at_the_same_moment() -> None:
    assert_threads_survive(
        """
from jobkeep_protocol.messages import Load, Loaded
from jobkeep_protocol.codec import decode_reply, encode_reply, open_envelope
from jobkeep_protocol.states import CheckpointState, SheetState
state = CheckpointState(job_id="job", total_sheets=1)
_, message = open_envelope(encode_reply(1, Loaded(state, [SheetState(sheet_num=1)], 1)))
FIRST_USES = [lambda: decode_reply(Load, message)]
""",
        interpreters=10,
    )


# -- compatibility ------------------------------------------------------------------------------


def test_fields_that_a_newer_client_adds_at_the_end_are_ignored() -> None:
    assert c.decode_request(pack(["load", "job", None, "new"])) == m.Load("job")


def test_fields_that_an_older_client_leaves_out_have_defaults() -> None:
    assert c.decode_request(pack(["query_jobs"])) == m.QueryJobs(None, None, 50, None, None)


def test_status_may_come_as_text() -> None:
    assert c.decode_request(pack(["query_jobs", "paused"])) == m.QueryJobs(JobStatus.PAUSED)
    assert c.decode_request(pack(["mark_sheet_status", "j", 1, "ready"])) == m.MarkSheetStatus(
        "j", 1, SheetStatus.READY
    )
