"""A save sends what changed since the job was last seen, and nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobkeep_protocol.changes import (
    EncodedSheets,
    SeenJob,
    SeenJobs,
    changed,
    encode_sheets,
    whole,
    without_sheets,
)
from jobkeep_protocol.codec import decode_request, encode_request, open_envelope
from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.messages import Save
from jobkeep_protocol.states import CheckpointState, SheetState, SheetStatus


def job(*numbers: int) -> CheckpointState:
    """A job with these sheets."""
    return CheckpointState(
        job_id="job",
        total_sheets=9,
        sheets={number: SheetState(sheet_num=number) for number in numbers},
    )


def received(request: Save) -> Save:
    """The request as the daemon reads it."""
    _, message = open_envelope(encode_request(1, request))
    decoded = decode_request(message)
    assert isinstance(decoded, Save)
    return decoded


numbers = st.lists(st.integers(1, 9), unique=True)

# -- what is remembered -------------------------------------------------------------------------


def test_job_is_remembered_as_it_was_last_seen() -> None:
    seen = SeenJobs()
    seen.put("job", 1, EncodedSheets([1], [b"x"]))
    seen.put("job", 2, EncodedSheets([1], [b"y"]))

    assert seen.get("job") == SeenJob(2, EncodedSheets([1], [b"y"]))
    assert seen.get("other") is None


def test_loaded_job_is_remembered_as_it_was_when_it_was_loaded() -> None:
    seen, state = SeenJobs(), job(1, 2)
    expected = SeenJob(3, encode_sheets(state))

    seen.put_loaded(3, state)
    state.sheets[1].status = SheetStatus.FAILED

    assert seen.get("job") == expected
    assert seen.get("job") is seen.get("job")


def test_job_seen_longest_ago_is_forgotten_first() -> None:
    seen = SeenJobs(capacity=2)
    for job_id in ("a", "b", "a", "c"):
        seen.put(job_id, 1, EncodedSheets([], []))

    assert [seen.get(job_id) is not None for job_id in ("a", "b", "c")] == [True, False, True]


def test_capacity_of_zero_remembers_nothing() -> None:
    seen = SeenJobs(capacity=0)
    seen.put("job", 1, EncodedSheets([], []))
    assert seen.get("job") is None


def test_everything_can_be_forgotten() -> None:
    seen = SeenJobs()
    seen.put("job", 1, EncodedSheets([], []))
    seen.clear()
    assert seen.get("job") is None


# -- what is sent -------------------------------------------------------------------------------


def test_whole_state_is_sent_without_a_base() -> None:
    state = job(1, 2)

    request = received(whole(without_sheets(state), encode_sheets(state), if_revision=3))

    assert (request.base, request.removed, request.if_revision) == (None, [], 3)
    assert request.state == msgspec.structs.replace(state, sheets={})
    assert request.sheets == [state.sheets[1], state.sheets[2]]


def test_change_is_the_sheets_that_differ_and_those_that_are_gone() -> None:
    state = job(1, 2, 3)
    seen = SeenJob(17, encode_sheets(state))
    state.sheets[2].extra["note"] = "changed in place"
    state.sheets[4] = SheetState(sheet_num=4, status=SheetStatus.READY)
    del state.sheets[1]

    request = received(changed(without_sheets(state), encode_sheets(state), seen, if_revision=None))

    assert (request.base, request.removed, request.if_revision) == (17, [1], None)
    assert request.sheets == [state.sheets[2], state.sheets[4]]


@settings(max_examples=300)
@given(before=numbers, after=numbers, touched=numbers)
def test_change_makes_one_state_into_the_other(
    before: list[int], after: list[int], touched: list[int]
) -> None:
    old, new = job(*before), job(*after)
    for number in set(after) & set(touched):
        new.sheets[number].attempt_count = 1
    seen = SeenJob(17, encode_sheets(old))

    request = received(changed(without_sheets(new), encode_sheets(new, seen), seen, None))

    made = dict(old.sheets)
    for number in request.removed:
        del made[number]
    made.update((sheet.sheet_num, sheet) for sheet in request.sheets)
    assert made == new.sheets
    kept = set(before) & set(after)
    assert {sheet.sheet_num for sheet in request.sheets} == set(after) - (kept - set(touched))


def test_no_change_sends_no_sheets() -> None:
    state = job(1, 2)
    seen = SeenJob(17, encode_sheets(state))

    request = changed(without_sheets(state), encode_sheets(state), seen, if_revision=None)

    assert (request.sheets, request.removed) == ([], [])


def test_state_that_is_sent_keeps_its_sheets() -> None:
    state = job(1)
    whole(without_sheets(state), encode_sheets(state), if_revision=None)
    assert state.sheets.keys() == {1}


# -- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("confidence_score", 1.5, r"sheets\[1\]\.confidence_score is 1\.5; expected a number"),
        ("extra", {"x": {1}}, r"sheets\[1\]\.extra\['x'\] is \{1\}; expected a JSON value"),
        ("sheet_num", 2, r"sheets\[1\]\.sheet_num is 2; expected 1, its key"),
    ],
)
def test_sheet_that_is_not_allowed_is_named(field: str, value: Any, words: str) -> None:
    state = job(1)
    setattr(state.sheets[1], field, value)

    with pytest.raises(InvalidRequest, match=words):
        encode_sheets(state)


def test_sheet_of_another_type_is_refused() -> None:
    sheets: dict[int, Any] = {1: {"sheet_num": 1}}
    state = job()
    state.sheets = sheets

    with pytest.raises(InvalidRequest, match=r"sheets\[1\] is \{'sheet_num': 1\}; expected a She"):
        encode_sheets(state)
