"""What the operations look like from outside follows from their declarations."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta

from jobkeep_protocol import messages as m
from jobkeep_protocol.codec import OPERATIONS
from jobkeep_protocol.interface import (
    FieldDescription,
    OperationDescription,
    _Types,
    describe,
)
from jobkeep_protocol.request import Request
from jobkeep_protocol.states import CheckpointFields, JobStatus
from jobkeep_protocol.varlink import METHODS

# -- operations -----------------------------------------------------------------------------------


def test_every_operation_but_the_hello_is_a_method() -> None:
    assert set(OPERATIONS.values()) - set(METHODS.values()) == {m.Hello}


@pytest.mark.parametrize("operation", METHODS.values())
def test_every_operation_is_described_with_a_docstring(operation: type[Request[Any]]) -> None:
    told = describe(operation)

    assert told.method == f"org.jobkeep.{operation.__name__}"
    assert told.doc.rstrip(")").endswith(".")
    assert [field.name for field in told.fields] == list(operation.__struct_fields__)
    assert all(declared.doc for declared in told.types)


def test_operation_is_described_with_its_types_defaults_and_reply() -> None:
    told = describe(m.QueryJobs)

    assert told[:5] == ("query_jobs", "org.jobkeep.QueryJobs", "read", True, False)
    assert told.fields[:3] == (
        FieldDescription("status", "?JobStatus", True, "null", ""),
        FieldDescription("since", "?string", True, "null", "ISO 8601, with a time zone."),
        FieldDescription("limit", "int", True, "50", ""),
    )
    assert told.fields[2].varlink_type == "?int"
    assert told.reply == "JobsPage"
    assert fields_of(told.reply_fields) == ["jobs: []JobSummary", "more: bool"]
    assert [declared.name for declared in told.types] == ["JobStatus", "JobSummary"]


def test_reply_that_is_no_object_is_the_field_result() -> None:
    assert fields_of(describe(m.SlowLog).reply_fields) == ["result: []ServedRequest"]
    assert fields_of(describe(m.Save).reply_fields) == ["result: ?Saved"]


@pytest.mark.parametrize(
    ("operation", "has_pages", "streams"),
    [(m.Status, False, False), (m.ListJobs, True, False), (m.Watch, True, True)],
)
def test_operation_says_whether_more_may_come(
    operation: type[Request[Any]], has_pages: bool, streams: bool
) -> None:
    told = describe(operation)
    assert (told.has_pages, told.streams) == (has_pages, streams)


# -- types ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (int | None, "?int"),
        (list[str] | None, "?[]string"),
        (Sequence[bool], "[]bool"),
        (dict[str, float], "[string]float"),
        (dict[str, Any] | None, "?object"),
        (list[dict[str, Any]], "[]object"),
        (int | str, "object"),
        (Annotated[bytes, Meta(max_length=16)], "string"),
        (datetime | None, "?string"),
        (Literal["binary", "json"] | None, "?(binary, json)"),
        (Literal["alone"], "string"),
        (Literal["no name", "x"], "string"),
        (JobStatus, "JobStatus"),
        (CheckpointFields | None, "?CheckpointState"),
        (None, "?object"),
    ],
)
def test_type_is_written_as_varlink_has_it(kind: Any, text: str) -> None:
    assert _Types().text(type(None) if kind is None else kind) == text


def test_type_that_varlink_cannot_have_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"complex.* has no Varlink type"):
        _Types().text(complex)


def test_types_are_described_with_what_may_be_left_out() -> None:
    sheet = types_of(describe(m.SaveSheet))["SheetState"]

    assert sheet.doc.startswith("One numbered step of a job")
    assert fields_of(sheet.fields)[:5] == [
        "sheet_num: int",
        "status: ?SheetStatus",
        "started_at: ?string",
        "completed_at: ?string",
        "attempt_count: ?int",
    ]
    assert [field.default for field in sheet.fields[:5]] == [None, '"pending"', "null", "null", "0"]
    assert types_of(describe(m.SaveSheet))["SheetStatus"].values[:2] == ("pending", "ready")


def test_what_is_always_sent_is_no_null() -> None:
    assert "wal_bytes: int" in fields_of(describe(m.Status).reply_fields)
    assert "queued_bytes: int" in fields_of(describe(m.Status).reply_fields)
    assert fields_of(types_of(describe(m.GetJobStatistics))["JobStatistics"].fields)[0] == (
        "total_sheets: ?int"
    )


def test_default_that_is_made_anew_is_told_in_words() -> None:
    fields = types_of(describe(m.Save))["CheckpointState"].fields
    assert next(one for one in fields if one.name == "created_at").default == (
        "the time now, aware, in UTC"
    )


def test_docstring_below_a_field_is_told() -> None:
    fields = types_of(describe(m.Monitor))["ServedRequest"].fields
    assert next(one for one in fields if one.name == "error").doc == (
        "The code of the error that it was answered with."
    )


# -- what it costs --------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["jobkeep.async_client", "jobkeepd.daemon"])
def test_nobody_pays_for_descriptions_before_they_are_asked_for(package: str) -> None:
    program = f"import {package}, sys; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    loaded = set(ran.stdout.decode().split())
    assert "jobkeep_protocol.codec" in loaded
    assert not loaded & {"jobkeep_protocol.interface", "jobkeep_protocol.field_docs"}


def fields_of(fields: Sequence[FieldDescription]) -> list[str]:
    """Fields as an interface has them."""
    return [f"{field.name}: {field.varlink_type}" for field in fields]


def types_of(told: OperationDescription) -> dict[str, Any]:
    """The named types of an operation, by name."""
    return {declared.name: declared for declared in told.types}
