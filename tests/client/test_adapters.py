"""States of the caller's own type."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pydantic
import pytest

from jobkeep.adapters import Adapter, Remainder
from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.states import CheckpointState, JobStatus, SheetState, SheetStatus
from tests.client.application import KINDS, PydanticJob, PydanticSheet, Status
from tests.first_use import assert_threads_survive

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
NOTHING = Remainder()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """An application's types for a job and a sheet."""
    return KINDS[request.param]


def a_job(kind: tuple[Any, Any]) -> Any:
    job, sheet = kind
    return job(
        job_id="nightly",
        total_sheets=3,
        status=Status.RUNNING,
        created_at=MOMENT,
        pid=7,
        quota_waits=2,
        worktree={"path": "/w", "locked": None},
        sheets={2: sheet(sheet_num=2, status=Status.IN_PROGRESS, fire_at=MOMENT, tags={"a"})},
    )


def test_fields_that_jobkeep_has_go_there_and_the_others_into_extra(kind: tuple[Any, Any]) -> None:
    state = Adapter(kind[0]).to_state(a_job(kind), NOTHING)

    assert (state.job_id, state.total_sheets, state.pid) == ("nightly", 3, 7)
    assert state.status is JobStatus.RUNNING
    assert state.created_at == MOMENT
    assert state.extra == {"quota_waits": 2, "worktree": {"path": "/w", "locked": None}}
    assert state.sheets[2].status is SheetStatus.IN_PROGRESS
    assert set(state.sheets[2].extra) == {"fire_at", "tags"}


def test_what_went_in_comes_out_as_it_was(kind: tuple[Any, Any]) -> None:
    adapter = Adapter(kind[0])
    job = a_job(kind)

    again = adapter.from_state(adapter.to_state(job, NOTHING))

    job.sheets[2].started_at = again.sheets[2].started_at  # filled in: the sheet is in progress
    assert again == job
    assert type(again.sheets[2].status) is Status
    assert again.sheets[2].fire_at == MOMENT


def test_a_state_is_given_only_the_fields_its_type_has(kind: tuple[Any, Any]) -> None:
    kept = CheckpointState(
        job_id="nightly",
        total_sheets=3,
        description="by another program",
        extra={"unheard_of": 1, "quota_waits": 5},
        sheets={1: SheetState(sheet_num=1, exit_code=3, extra={"unheard_of": 2})},
    )

    job = Adapter(kind[0]).from_state(kept)

    assert job.quota_waits == 5
    assert not hasattr(job, "description")
    assert not hasattr(job.sheets[1], "unheard_of")


def test_what_a_type_does_not_have_is_there_again_when_it_is_saved(kind: tuple[Any, Any]) -> None:
    adapter = Adapter(kind[0])
    kept = CheckpointState(
        job_id="nightly",
        total_sheets=3,
        description="by another program",
        extra={"unheard_of": 1, "quota_waits": 5},
        sheets={1: SheetState(sheet_num=1, exit_code=3, extra={"unheard_of": 2})},
    )
    remainder, job = adapter.remainder(kept), adapter.from_state(kept)

    job.quota_waits = 6
    state = adapter.to_state(job, remainder)

    assert state.description == "by another program"
    assert state.extra["unheard_of"] == 1
    assert state.extra["quota_waits"] == 6
    assert state.sheets[1].exit_code == 3
    assert state.sheets[1].extra["unheard_of"] == 2


def test_a_type_without_sheets_leaves_those_that_are_kept() -> None:
    @dataclasses.dataclass
    class Small:
        job_id: str
        total_sheets: int

    adapter = Adapter(Small)
    kept = CheckpointState(
        job_id="a", total_sheets=2, sheets={2: SheetState(sheet_num=2, exit_code=1)}
    )

    state = adapter.to_state(Small("a", 2), adapter.remainder(kept))

    assert state.sheets == kept.sheets


def test_a_type_with_an_extra_of_its_own_keeps_what_it_puts_there() -> None:
    class Job(pydantic.BaseModel):
        job_id: str
        total_sheets: int
        extra: dict[str, Any] = {}
        owner: str = ""

    adapter = Adapter(Job)
    job = Job(job_id="a", total_sheets=1, extra={"x": [1]}, owner="me")

    state = adapter.to_state(job, NOTHING)

    assert state.extra == {"x": [1], "owner": "me"}
    assert adapter.from_state(state) == job


def test_a_model_that_allows_extra_fields_gets_them_all() -> None:
    class Job(pydantic.BaseModel, extra="allow"):
        job_id: str
        total_sheets: int

    adapter = Adapter(Job)
    job = Job.model_validate({"job_id": "a", "total_sheets": 1, "anything": {"x": None}})

    assert adapter.from_state(adapter.to_state(job, NOTHING)) == job


def test_a_model_with_aliases_is_made_from_them() -> None:
    class Job(pydantic.BaseModel):
        job_id: str = pydantic.Field(alias="jobId")
        total_sheets: int
        owner: str = pydantic.Field(default="", alias="theOwner")

    adapter = Adapter(Job)
    job = Job.model_validate({"jobId": "a", "total_sheets": 1, "theOwner": "me"})

    state = adapter.to_state(job, NOTHING)

    assert (state.job_id, state.extra) == ("a", {"owner": "me"})
    assert adapter.from_state(state) == job


def test_a_save_sets_updated_at_where_the_type_has_it(kind: tuple[Any, Any]) -> None:
    job = a_job(kind)

    Adapter(kind[0]).was_saved(job, {"revision": 4, "updated_at": MOMENT})

    assert job.updated_at == MOMENT
    assert not hasattr(job, "revision")


def test_a_frozen_state_is_left_as_it_is() -> None:
    @dataclasses.dataclass(frozen=True)
    class Job:
        job_id: str
        total_sheets: int
        revision: int = 0

    job = Job("a", 1)

    Adapter(Job).was_saved(job, {"revision": 4, "updated_at": MOMENT})

    assert job.revision == 0


def test_a_sheet_of_the_callers_type_becomes_a_sheet() -> None:
    sheet = Adapter(PydanticJob).to_sheet(PydanticSheet(sheet_num=2, attempt_count=1, tags={"a"}))

    assert (sheet.sheet_num, sheet.attempt_count) == (2, 1)
    assert sheet.extra == {"fire_at": None, "tags": ["a"]}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("created_at", datetime(2026, 1, 1), "created_at is datetime"),  # noqa: DTZ001 # that is what is refused
        ("job_id", "", "job_id is ''"),
        ("status", "stuck", "expected one of pending, running"),
        ("pid", "seven", "pid is 'seven'"),
    ],
)
def test_a_bad_value_names_its_field(field: str, value: object, message: str) -> None:
    @dataclasses.dataclass
    class Job:
        job_id: str = "a"
        total_sheets: int = 1
        created_at: Any = MOMENT
        status: str = "pending"
        pid: Any = None

    job = dataclasses.replace(Job(), **{field: value})  # type: ignore[arg-type] # a wrong type is the point

    with pytest.raises(InvalidRequest, match=message):
        Adapter(Job).to_state(job, NOTHING)


def test_what_no_json_can_hold_is_refused_by_name() -> None:
    @dataclasses.dataclass
    class Job:
        job_id: str
        total_sheets: int
        ratio: float

    with pytest.raises(InvalidRequest, match=r"extra\['ratio'\] is nan; expected a finite number"):
        Adapter(Job).to_state(Job("a", 1, float("nan")), NOTHING)


def test_a_kept_state_that_does_not_fit_is_refused_by_name() -> None:
    kept = CheckpointState(job_id="nightly", total_sheets=1, status=JobStatus.CANCELLED)

    with pytest.raises(InvalidRequest, match=r"(?s)'nightly' does not fit PydanticJob.*status"):
        Adapter(PydanticJob).from_state(kept)


@pytest.mark.parametrize("state_type", [dict, int, list[int]])
def test_a_type_that_is_none_of_the_three_kinds_is_refused(state_type: Any) -> None:
    with pytest.raises(InvalidRequest, match="expected a pydantic model, a dataclass or"):
        Adapter(state_type)


def test_a_type_without_a_job_id_is_refused() -> None:
    @dataclasses.dataclass
    class Job:
        total_sheets: int

    with pytest.raises(InvalidRequest, match="expected a type with the field job_id"):
        Adapter(Job)


def test_a_type_whose_sheets_are_no_dict_is_refused() -> None:
    @dataclasses.dataclass
    class Job:
        job_id: str
        total_sheets: int
        sheets: list[PydanticSheet]

    with pytest.raises(InvalidRequest, match="expected `sheets` as a dict from number to sheet"):
        Adapter(Job)


def test_sheets_may_be_optional_and_have_aliases() -> None:
    class Sheet(pydantic.BaseModel):
        sheet_num: int
        note: str = pydantic.Field(default="", alias="theNote")

    class Job(pydantic.BaseModel, strict=True):
        job_id: str
        total_sheets: int
        status: Status = Status.PENDING
        sheets: dict[int, Sheet] | None = None

    adapter = Adapter(Job)
    sheet = Sheet.model_validate({"sheet_num": 1, "theNote": "kept"})
    job = Job(job_id="a", total_sheets=1, status=Status.RUNNING, sheets={1: sheet})

    assert adapter.from_state(adapter.to_state(job, NOTHING)) == job


def test_a_state_of_another_type_is_refused() -> None:
    state: Any = {"job_id": "a"}

    with pytest.raises(InvalidRequest, match=r"state is .*expected a PydanticJob"):
        Adapter(PydanticJob).to_state(state, NOTHING)


def test_clients_in_many_threads_may_restore_their_first_states_at_the_same_moment() -> None:
    assert_threads_survive(
        """
import msgspec
from jobkeep.adapters import Adapter, Remainder
from jobkeep_protocol.states import CheckpointState, SheetState

def first_use():
    sheet_type = msgspec.defstruct("Sheet", [("sheet_num", int), ("status", str)])
    job_type = msgspec.defstruct(
        "Job", [("job_id", str), ("total_sheets", int), ("sheets", dict[int, sheet_type])]
    )
    sheets = {1: SheetState(sheet_num=1)}
    state = CheckpointState(job_id="job", total_sheets=1, sheets=sheets)

    def restore():
        adapter = Adapter(job_type)
        assert adapter.to_state(adapter.from_state(state), Remainder()).total_sheets == 1

    return restore

FIRST_USES = [first_use() for _ in range(30)]
""",
        interpreters=2,
    )
