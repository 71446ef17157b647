"""The plan of a run: sheets go by their item."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from jobkeep import CheckpointState, InvalidRequest, SheetState, SheetStatus
from jobkeep.cli.plan import UNLISTED, Plan, give_back, item_of, make_plan

COMMAND = ["gzip", "{}"]


def planned(
    kept: CheckpointState | None,
    items: Sequence[str],
    *,
    command: Sequence[str] = COMMAND,
    retry_failed: bool = False,
    new_command: bool = False,
) -> Plan:
    return make_plan(
        kept, "job", command, items, retry_failed=retry_failed, new_command=new_command
    )


def kept_with(**statuses: str) -> CheckpointState:
    """A job of an earlier run, whose items have these statuses."""
    state = planned(None, list(statuses)).state
    for sheet in state.sheets.values():
        sheet.status = SheetStatus(statuses[str(item_of(sheet))])
        if sheet.status is SheetStatus.FAILED:
            sheet.error_message, sheet.exit_code, sheet.exit_signal = "exit code 1", 1, 9
    return state


def statuses(plan: Plan) -> dict[str | None, str]:
    return {item_of(sheet): str(sheet.status) for sheet in plan.state.sheets.values()}


def items(sheets: list[SheetState]) -> list[str | None]:
    return [item_of(sheet) for sheet in sheets]


def test_a_new_job_holds_all_that_is_needed_to_resume_it() -> None:
    state = planned(None, ["a", "b"]).state
    assert (state.job_id, state.total_sheets) == ("job", 2)
    assert state.config_snapshot == {"command": COMMAND}
    assert {number: item_of(sheet) for number, sheet in state.sheets.items()} == {1: "a", 2: "b"}


def test_a_finished_item_is_known_by_itself_and_not_by_its_position() -> None:
    plan = planned(kept_with(a="completed", b="pending", c="completed"), ["c", "b", "a"])
    assert items(plan.remaining()) == ["b"]
    assert plan.listed == [3, 2, 1]


def test_new_items_get_new_sheets_at_the_end() -> None:
    plan = planned(kept_with(a="completed", b="completed"), ["new", "a", "b"])
    assert plan.state.total_sheets == 3
    assert items(plan.remaining()) == ["new"]
    assert plan.listed == [3, 1, 2]


def test_an_item_that_is_not_listed_any_more_is_skipped_and_comes_back() -> None:
    kept = kept_with(a="completed", b="pending", c="failed")
    without = planned(kept, ["a"])
    assert statuses(without) == {"a": "completed", "b": "skipped", "c": "skipped"}
    assert kept.sheets[2].error_message == UNLISTED
    assert without.counts().total == 1
    again = planned(without.state, ["a", "b", "c"])
    assert statuses(again) == {"a": "completed", "b": "pending", "c": "pending"}
    assert kept.sheets[2].error_message is None


def test_a_completed_item_stays_completed_though_it_is_not_listed() -> None:
    plan = planned(kept_with(a="completed", b="completed"), ["b"])
    assert statuses(plan) == {"a": "completed", "b": "completed"}


def test_what_somebody_else_skipped_stays_skipped() -> None:
    kept = kept_with(a="pending")
    kept.mark_sheet_skipped(1, "not today")
    plan = planned(kept, ["a"])
    assert statuses(plan) == {"a": "skipped"}
    assert plan.counts().skipped == 1


def test_the_same_item_twice_is_two_sheets() -> None:
    first = planned(None, ["a", "b", "a"])
    assert first.state.total_sheets == 3
    first.state.sheets[1].status = SheetStatus.COMPLETED
    second = planned(first.state, ["a", "a", "a", "b"])
    assert second.listed == [1, 3, 4, 2]
    assert items(second.remaining()) == ["b", "a", "a"]


def test_a_failed_item_stays_failed_unless_it_is_to_be_tried_again() -> None:
    plan = planned(kept_with(a="failed", b="completed"), ["a", "b"])
    assert items(plan.failed()) == ["a"]
    assert plan.remaining() == []
    again = planned(kept_with(a="failed", b="completed"), ["a", "b"], retry_failed=True)
    assert items(again.remaining()) == ["a"]
    sheet = again.state.sheets[1]
    assert (sheet.error_message, sheet.exit_code, sheet.exit_signal) == (None, None, None)


@pytest.mark.parametrize(
    "status", ["ready", "dispatched", "in_progress", "waiting", "retry_scheduled", "fermata"]
)
def test_what_is_not_over_is_to_be_done(status: str) -> None:
    assert statuses(planned(kept_with(a=status), ["a"])) == {"a": "pending"}


def test_a_number_without_an_item_is_never_claimed() -> None:
    kept = kept_with(a="completed", b="pending", c="pending")
    del kept.sheets[2]
    plan = planned(kept, ["a", "c"])
    assert kept.sheets[2].status is SheetStatus.SKIPPED
    assert items(plan.remaining()) == ["c"]


def test_another_command_is_refused_with_the_ways_out() -> None:
    with pytest.raises(
        InvalidRequest, match=r"begun with another command, `gzip {}` and"
    ) as refused:
        planned(kept_with(a="pending"), ["a"], command=["bzip2", "{}"])
    for way in ("another job name", "jobkeep delete", "--new-command"):
        assert way in str(refused.value)


def test_a_new_command_may_go_on_with_what_is_not_finished() -> None:
    kept = kept_with(a="completed", b="pending")
    plan = planned(kept, ["a", "b"], command=["bzip2"], new_command=True)
    assert items(plan.remaining()) == ["b"]
    assert plan.state.config_snapshot == {"command": ["bzip2"]}


@pytest.mark.parametrize("snapshot", [None, {}, {"command": "gzip"}, {"command": [1]}])
def test_a_job_of_another_program_is_refused(snapshot: dict[str, object] | None) -> None:
    other = CheckpointState(job_id="job", total_sheets=2, config_snapshot=snapshot)
    with pytest.raises(InvalidRequest, match="was not made by `jobkeep run`"):
        planned(other, ["a"], new_command=True)


def test_counts_are_those_of_the_listed_items() -> None:
    counts = planned(
        kept_with(a="completed", b="failed", c="pending", gone="failed"), ["a", "b", "c", "d"]
    ).counts()
    assert (counts.total, counts.completed, counts.failed, counts.remaining) == (4, 1, 1, 2)


def test_what_no_worker_holds_is_given_back() -> None:
    kept = kept_with(a="in_progress", b="completed")
    assert give_back(kept.sheets.values())
    assert [str(sheet.status) for sheet in kept.sheets.values()] == ["pending", "completed"]
    assert not give_back(kept.sheets.values())
