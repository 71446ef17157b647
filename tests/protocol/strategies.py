"""Hypothesis strategies for states and for the values they hold."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from jobkeep_protocol.states import CheckpointState, JobStatus, SheetState, SheetStatus
from jobkeep_protocol.values import MAX_INTEGER

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
integers = st.integers(-MAX_INTEGER - 1, MAX_INTEGER)
counts = st.integers(0, MAX_INTEGER)
numbers = st.floats(allow_nan=False, allow_infinity=False)
times = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001 # hypothesis wants naive bounds
json_values = st.recursive(
    st.none() | st.booleans() | integers | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(texts, json_values, max_size=3)
text_lists = st.lists(texts, max_size=3)


def sheets(sheet_num: int) -> st.SearchStrategy[SheetState]:
    """Any sheet with this number."""
    return st.builds(
        SheetState,
        sheet_num=st.just(sheet_num),
        status=st.sampled_from(SheetStatus),
        started_at=st.none() | times,
        completed_at=st.none() | times,
        attempt_count=counts,
        exit_code=st.none() | integers,
        exit_signal=st.none() | integers,
        exit_reason=st.none() | texts,
        execution_duration_seconds=st.none() | st.floats(0, allow_infinity=False),
        error_message=st.none() | texts,
        error_category=st.none() | texts,
        error_code=st.none() | texts,
        validation_passed=st.none() | st.booleans(),
        validation_details=st.none() | st.lists(json_objects, max_size=2),
        completion_attempts=counts,
        passed_validations=st.none() | text_lists,
        failed_validations=st.none() | text_lists,
        last_pass_percentage=st.none() | numbers,
        execution_mode=st.none() | texts,
        outcome_data=st.none() | json_objects,
        confidence_score=st.none() | st.floats(0, 1),
        learned_patterns=st.none() | text_lists,
        similar_outcomes_count=counts,
        success_without_retry=st.booleans(),
        outcome_category=st.none() | texts,
        model=st.none() | texts,
        input_tokens=st.none() | integers,
        output_tokens=st.none() | integers,
        estimated_cost=st.none() | numbers,
        extra=json_objects,
    )


@st.composite
def jobs(draw: st.DrawFn) -> CheckpointState:
    """Any job, with any sheets, without a process."""
    numbers_of_sheets = draw(st.sets(st.integers(1, 6), max_size=4))
    return CheckpointState(
        job_id=draw(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)),
        job_name=draw(texts),
        description=draw(st.none() | texts),
        config_hash=draw(st.none() | texts),
        config_snapshot=draw(st.none() | json_objects),
        config_path=draw(st.none() | texts),
        created_at=draw(times),
        updated_at=draw(times),
        started_at=draw(st.none() | times),
        completed_at=draw(st.none() | times),
        total_sheets=draw(st.integers(1, 8)),
        last_completed_sheet=draw(st.integers(0, 9)),
        current_sheet=draw(st.none() | st.integers(-1, 9)),
        status=draw(st.sampled_from(JobStatus)),
        sheets={number: draw(sheets(number)) for number in sorted(numbers_of_sheets)},
        error_message=draw(st.none() | texts),
        total_retry_count=draw(counts),
        rate_limit_waits=draw(counts),
        revision=draw(counts),
        extra=draw(json_objects),
    )


def anything() -> st.SearchStrategy[Any]:
    """Any value that msgpack has."""
    return st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats()
        | st.text()
        | st.binary(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.text() | st.integers(-9, 9), inner, max_size=4)
        ),
        max_leaves=12,
    )
