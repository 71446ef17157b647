"""What `jobkeep call` makes of its arguments."""

from __future__ import annotations

import io
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from jobkeep import InvalidRequest
from jobkeep.cli.operations import find_operation
from jobkeep.cli.parameters import to_request
from jobkeep_protocol.messages import (
    Load,
    MarkSheetStatus,
    Monitor,
    QueryJobs,
    RecordExecution,
    SaveSheet,
)
from jobkeep_protocol.request import Request
from jobkeep_protocol.states import JobStatus, SheetState, SheetStatus


def requested(operation: str, *given: str) -> Request[Any]:
    """The request of `jobkeep call OPERATION …`."""
    return to_request(find_operation(operation), given)


@pytest.mark.parametrize("name", ["load", "Load", "org.jobkeep.Load"])
def test_an_operation_has_a_name_in_each_dialect(name: str) -> None:
    assert requested(name, "job_id=a") == Load("a")


@pytest.mark.parametrize(
    ("operation", "given", "request_"),
    [
        ("load", ["job_id=7"], Load("7")),
        ("load", ["job_id=null"], Load("null")),
        ("load", ["job_id=a=b {c} é"], Load("a=b {c} é")),
        ("load", ["job_id=a", "after_sheet=null"], Load("a")),
        ("load", ["job_id=a", "after_sheet=3"], Load("a", 3)),
        (
            "query_jobs",
            ["status=failed", "since=2026-03-01T12:00:00+01:00"],
            QueryJobs(JobStatus.FAILED, datetime(2026, 3, 1, 11, tzinfo=UTC)),
        ),
        (
            "mark_sheet_status",
            ["status=completed", "sheet_num=2", "job_id=a", "error_message="],
            MarkSheetStatus("a", 2, SheetStatus.COMPLETED, ""),
        ),
        (
            "monitor",
            ['methods=["load"]', "errors_only=true", "slower_than_seconds=0.5"],
            Monitor(["load"], errors_only=True, slower_than_seconds=0.5),
        ),
        ("load", ['{"job_id": "a", "after_sheet": 3}'], Load("a", 3)),
        ("query_jobs", [], QueryJobs()),
    ],
)
def test_values_have_the_types_of_their_fields(
    operation: str, given: list[str], request_: Request[Any]
) -> None:
    assert requested(operation, *given) == request_


def test_a_structure_is_json() -> None:
    request = requested("save_sheet", "job_id=a", 'sheet={"sheet_num": 2, "exit_code": 1}')

    assert isinstance(request, SaveSheet)
    assert request.sheet == SheetState(sheet_num=2, exit_code=1)


def test_a_dash_reads_an_object_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b'{"job_id": "a", "sheet_num": 1, "attempt_num": 1, "output": "two\\nlines"}'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))

    assert requested("record_execution", "-") == RecordExecution("a", 1, 1, output="two\nlines")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (["jobid=a"], r"'jobid'; it has job_id \(string\), after_sheet \(\?int\)"),
        (['{"job_id": "a", "x": 1}'], r"load has no field 'x'; it has job_id \(string\)"),
        ([], "job_id is missing"),
        (["job_id=a", "job_id=b"], "'job_id' is given twice"),
        (["a"], "'a' is neither key=value nor"),
        (["{", "job_id=a"], "'{' is neither key=value nor"),
        (['{"job_id": 7}'], "job_id is 7; expected `str`"),
        (['{"job_id": '], "parameters cannot be read"),
        (["job_id=a", "after_sheet=many"], "after_sheet is 'many'; expected `int"),
        (["job_id=a", "after_sheet=[1"], r"after_sheet is '\[1'; expected JSON"),
        (["job_id=a", "after_sheet=1.5"], "after_sheet is 1.5; expected `int"),
        (["job_id=a\udcff"], "expected text in UTF-8"),
        (["job_id="], "job_id is ''; expected a text"),
    ],
)
def test_what_is_wrong_is_named_with_what_there_is(given: list[str], reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        requested("load", *given)


def test_an_unknown_operation_may_be_one_that_is_nearly_called_so() -> None:
    with pytest.raises(InvalidRequest, match=r"'lod' \(is it load\?\); `jobkeep introspect` lists"):
        requested("lod")
    with pytest.raises(InvalidRequest, match=r"no operation 'other\.Load'"):
        requested("other.Load")
