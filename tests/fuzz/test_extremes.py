"""Requests that are read without fault, and are at the edge of what anybody may ask: each gets an
answer, and the daemon goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from unittest.mock import ANY

import msgspec
import pytest

from jobkeep_protocol.codec import decode_reply, encode_request
from jobkeep_protocol.errors import (
    InvalidRequest,
    JobkeepError,
    ProtocolError,
    RevisionConflict,
)
from jobkeep_protocol.framing import frame
from jobkeep_protocol.messages import (
    SLOTS,
    ClaimNextSheet,
    Delete,
    GetExecutionHistory,
    GetExecutionHistoryCount,
    GetJobStatistics,
    GetNextSheet,
    Hello,
    ListJobs,
    Load,
    MarkSheetStatus,
    QueryJobs,
    RecordExecution,
    Save,
    SaveSheet,
)
from jobkeep_protocol.request import Request
from jobkeep_protocol.states import CheckpointState, JobStatus, SheetState, SheetStatus
from jobkeep_protocol.values import MAX_INTEGER, MAX_JSON_DEPTH, MIN_INTEGER
from tests.daemon_process import DaemonProcess
from tests.wire import Wire

FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
ALLOWED_IDS = [0, SLOTS - 1, 2**62, MAX_INTEGER]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A daemon for all of these, which must not complain of any."""
    process = DaemonProcess(tmp_path_factory.mktemp("extremes"))
    process.start()
    yield process
    process.stop()
    for complaint in ("ERROR", "Traceback", "a defect"):
        assert complaint not in process.log


@pytest.fixture
def wire(daemon: DaemonProcess) -> Iterator[Wire]:
    """A connection to it, with no job there."""
    with Wire(daemon.socket) as wire:
        yield wire
        for summary in wire.ask(QueryJobs()).jobs:
            wire.ask(Delete(summary["id"]))


def job(job_id: str = "job", **fields: Any) -> CheckpointState:
    """A job of as many sheets as there can be."""
    return CheckpointState(job_id=job_id, total_sheets=MAX_INTEGER, **fields)


def outcome(wire: Wire, request: Request[Any]) -> Any:
    """The answer, or the type of the error that was the answer."""
    try:
        return wire.ask(request)
    except JobkeepError as error:
        return type(error)


AT_THE_EDGE: dict[str, tuple[Request[Any], Any]] = {
    "next sheet after the last": (GetNextSheet("job"), None),
    "claim with any attempts": (ClaimNextSheet("job", MAX_INTEGER), 2),
    "start what can be started no more": (
        MarkSheetStatus("job", 1, SheetStatus.IN_PROGRESS),
        InvalidRequest,
    ),
    "fail what can be tried no more": (
        MarkSheetStatus("job", 1, SheetStatus.FAILED),
        InvalidRequest,
    ),
    "complete the last sheet": (MarkSheetStatus("job", MAX_INTEGER, SheetStatus.COMPLETED), None),
    "save the last sheet": (SaveSheet("job", SheetState(sheet_num=MAX_INTEGER)), 2),
    "record of the last sheet": (
        RecordExecution("job", MAX_INTEGER, MAX_INTEGER, "", "", MIN_INTEGER, 1.7e308),
        ANY,
    ),
    "history before any": (GetExecutionHistory("job", None, MAX_INTEGER, MIN_INTEGER), ([], False)),
    "all history": (GetExecutionHistory("job", MAX_INTEGER, MAX_INTEGER, MAX_INTEGER), ([], False)),
    "count of the last sheet": (GetExecutionHistoryCount("job", MAX_INTEGER), 0),
    "page after all sheets": (Load("job", MAX_INTEGER), (None, [])),
    "list after all jobs": (ListJobs(MAX_INTEGER), ([], None)),
    "jobs since ever": (QueryJobs(since=FIRST, limit=0), ([], False)),
    "jobs of the end of time": (QueryJobs(since=LAST, limit=MAX_INTEGER), ([], False)),
    "jobs after none that is kept": (QueryJobs(after_id="\0"), InvalidRequest),
    "jobs after a time beyond time": (
        QueryJobs(after_id="", after_updated_at="0001-01-01T00:00:00+23:59"),
        ([], False),
    ),
    "save at a revision to come": (Save(job(), [], if_revision=MAX_INTEGER), RevisionConflict),
    "change of what is to come": (Save(job(), [], base=2**64 - 1), None),
}


@pytest.mark.parametrize("name", AT_THE_EDGE)
def test_numbers_at_their_edge_are_answered(wire: Wire, name: str) -> None:
    request, expected = AT_THE_EDGE[name]
    sheets = [
        SheetState(
            sheet_num=1,
            status=SheetStatus.FAILED,
            attempt_count=MAX_INTEGER,
            completion_attempts=MAX_INTEGER,
            similar_outcomes_count=MAX_INTEGER,
            exit_code=MIN_INTEGER,
            input_tokens=MIN_INTEGER,
        ),
        SheetState(sheet_num=MAX_INTEGER),
    ]
    state = job(
        total_retry_count=MAX_INTEGER,
        rate_limit_waits=MAX_INTEGER,
        last_completed_sheet=MAX_INTEGER,
        current_sheet=MAX_INTEGER,
        revision=MAX_INTEGER,
        created_at=FIRST,
        started_at=FIRST,
        completed_at=LAST,
    )
    wire.ask(Save(state, sheets))

    found = outcome(wire, request)

    if isinstance(expected, tuple):  # the first fields of a page
        found = msgspec.structs.astuple(found)[: len(expected)]
    assert found == expected
    loaded, kept = wire.load()
    assert loaded.total_sheets == MAX_INTEGER
    assert kept.keys() >= {1, MAX_INTEGER}
    assert wire.ask(GetJobStatistics("job")) is not None


def test_sheet_that_comes_twice_in_a_save_is_kept_as_it_comes_last(wire: Wire) -> None:
    twice = [
        SheetState(sheet_num=1, status=SheetStatus.FAILED),
        SheetState(sheet_num=1, status=SheetStatus.COMPLETED),
    ]

    saved = wire.ask(Save(job(), twice))

    assert saved is not None
    assert [sheet.status for sheet in wire.load()[1].values()] == ["completed"]
    wire.ask(Save(job(), twice[:1], base=saved.sequence, removed=[1, 1, MAX_INTEGER, 1]))
    assert [sheet.status for sheet in wire.load()[1].values()] == ["failed"]


def test_ids_that_look_the_same_are_different_jobs(wire: Wire) -> None:
    alike = ["é", "e\u0301", "É", "a", "a\0", "a\0b", "a ", "A", "\u212b", "\u00c5"]
    for number, job_id in enumerate(alike, 1):
        wire.ask(Save(CheckpointState(job_id=job_id, total_sheets=number), []))

    assert [wire.load(job_id)[0].total_sheets for job_id in alike] == list(range(1, len(alike) + 1))
    assert wire.ask(Delete("a\0"))
    assert wire.load("a")[0].total_sheets == 4


def test_any_text_and_number_comes_back_whole(wire: Wire) -> None:
    text = "\0 in \0 the middle \U0010ffff\r\n\u2028 '; DROP TABLE jobs; --"
    free: dict[str, Any] = {
        text: text,
        "": None,
        "numbers": [0.0, -0.0, 5e-324, 1.7e308, 1e22, MIN_INTEGER, MAX_INTEGER],
        "deep": nested(MAX_JSON_DEPTH - 1),
    }
    state = job(job_name=text, error_message=text, config_snapshot=free, extra=free)
    sheet = SheetState(sheet_num=1, model=text, learned_patterns=[text, ""], outcome_data=free)
    wire.ask(Save(state, [sheet]))
    wire.ask(RecordExecution("job", 1, 1, text, text))

    loaded, sheets = wire.load()
    (record,) = wire.ask(GetExecutionHistory("job")).records

    assert (loaded.job_name, loaded.error_message, loaded.extra) == (text, text, free)
    assert str(loaded.config_snapshot) == str(free), "-0.0 is 0.0 for all but its sign"
    assert sheets[1] == msgspec.convert(msgspec.to_builtins(sheet), type(sheets[1]))
    assert (record["prompt"], record["output"]) == (text, text)


def nested(depth: int) -> Any:
    """Lists in lists."""
    return [nested(depth - 1)] if depth > 1 else []


@pytest.mark.parametrize(
    "pid", [1, 0, -1, MIN_INTEGER, 2**22 + 1, 2**31 - 1, 2**31, 2**32 + 1, MAX_INTEGER]
)
def test_any_pid_may_be_said_to_run_a_job(wire: Wire, pid: int) -> None:
    wire.ask(Save(job(status=JobStatus.RUNNING, pid=pid), []))

    assert wire.load()[0].status in {"running", "paused"}


def test_job_may_be_said_to_be_run_by_the_daemon(wire: Wire, daemon: DaemonProcess) -> None:
    wire.ask(Save(job(status=JobStatus.RUNNING, pid=daemon.pid), []))

    assert wire.load()[0].status == "running"


@pytest.mark.parametrize("request_id", ALLOWED_IDS)
@pytest.mark.parametrize("size", [1, 5, 16])
def test_write_with_any_id_of_a_client_and_a_request_is_applied_once(
    daemon: DaemonProcess, wire: Wire, size: int, request_id: int
) -> None:
    client_id = bytes([ALLOWED_IDS.index(request_id)]) * size
    wire.ask(Save(job(), []))

    for _ in range(2):
        with Wire(daemon.socket, client_id) as own:
            assert own.ask(RecordExecution("job", 1, 1), request_id) is not None

    assert wire.ask(GetExecutionHistoryCount("job")) == 1


@pytest.mark.parametrize("request_id", [-1, MIN_INTEGER, 2**63, 2**64 - 1])
def test_id_that_no_request_can_have_ends_the_connection(
    daemon: DaemonProcess, wire: Wire, request_id: int
) -> None:
    with Wire(daemon.socket, os.urandom(16)) as own:
        own.send_bytes(frame(encode_request(request_id, Delete("job"))))

        with pytest.raises(ProtocolError, match="holds no"):
            own.reply_to(Hello)
        with pytest.raises((EOFError, ConnectionError)):
            own.receive()
    assert wire.ask(GetNextSheet("job")) == 1


@pytest.mark.parametrize("size", [17, 1_000])
def test_client_id_that_is_too_long_is_refused(daemon: DaemonProcess, size: int) -> None:
    with Wire(daemon.socket, hello=False) as own:
        hello = msgspec.msgpack.encode([0, ["hello", 1, "test", "0", bytes(size)]])
        own.send_bytes(frame(hello))

        with pytest.raises(ProtocolError, match="client_id is b"):
            decode_reply(Hello, own.receive()[1])
