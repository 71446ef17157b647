"""Clients with a state type that has less than the kept job: nothing is taken away from it."""

from __future__ import annotations

import dataclasses
import itertools
import threading

import pytest

from jobkeep import CheckpointState, Client, InvalidRequest, SheetState, SheetStatus
from tests.client.application import PydanticJob, PydanticSheet
from tests.daemon_process import DaemonProcess


@dataclasses.dataclass
class Small:
    job_id: str
    total_sheets: int
    status: str = "pending"
    description: str | None = None


@dataclasses.dataclass
class SmallSheet:
    sheet_num: int
    status: str = "pending"


FULL = SheetState(sheet_num=1, model="a-model", extra={"key": 1})


def kept(client: Client[CheckpointState]) -> CheckpointState:
    state = client.load("job")
    assert state is not None
    return state


def test_what_others_have_changed_since_the_load_stays(daemon: DaemonProcess) -> None:
    with Client(daemon.socket, state_type=Small) as small, Client(daemon.socket) as other:
        other.save(CheckpointState(job_id="job", total_sheets=3, sheets={1: FULL}))
        state = small.load("job")
        assert state is not None
        small.mark_sheet_status("job", 1, "completed")
        other.save_sheet("job", SheetState(sheet_num=3, exit_code=5))

        state.description = "by a small program"
        small.save(state)

        found = kept(other)
        assert found.description == "by a small program"
        assert found.last_completed_sheet == 1
        assert found.sheets[1].status is SheetStatus.COMPLETED
        assert found.sheets[1].extra == {"key": 1}
        assert found.sheets[3].exit_code == 5


def test_nothing_of_a_deleted_job_comes_back(daemon: DaemonProcess) -> None:
    with Client(daemon.socket, state_type=Small) as small, Client(daemon.socket) as other:
        other.save(CheckpointState(job_id="job", total_sheets=3, sheets={1: FULL}, extra={"k": 1}))
        state = small.load("job")
        assert state is not None
        other.delete("job")

        small.save(state)

        assert kept(other).sheets == {}
        assert kept(other).extra == {}


def test_a_sheet_of_a_smaller_type_leaves_the_rest_of_the_kept_one(daemon: DaemonProcess) -> None:
    with Client(daemon.socket, state_type=PydanticJob) as small, Client(daemon.socket) as other:
        other.save(CheckpointState(job_id="job", total_sheets=3, sheets={1: FULL}))

        small.save_sheet("job", PydanticSheet(sheet_num=1, attempt_count=4))  # type: ignore[arg-type] # the caller's own type of sheet

        sheet = kept(other).sheets[1]
        assert (sheet.model, sheet.attempt_count, sheet.extra["key"]) == ("a-model", 4, 1)


def test_a_new_job_of_a_small_type_is_saved(daemon: DaemonProcess) -> None:
    with Client(daemon.socket, state_type=Small) as small, Client(daemon.socket) as other:
        assert small.save(Small("job", 2)) == 1
        assert small.save(Small("job", 3)) == 2
        assert kept(other).total_sheets == 3


def test_a_state_of_another_type_is_refused(daemon: DaemonProcess) -> None:
    with Client(daemon.socket, state_type=Small) as client:
        with pytest.raises(InvalidRequest, match=r"state is .*; expected a Small"):
            client.save({"job_id": "job"})  # type: ignore[arg-type] # that is what is refused
        assert client.list_jobs() == []


def test_a_large_job_is_loaded_while_others_change_it(daemon: DaemonProcess) -> None:
    sheets = {n: SheetState(sheet_num=n, error_message="x" * 500) for n in range(1, 3_001)}
    done = threading.Event()

    def change() -> None:
        with Client(daemon.socket) as other:
            for number in itertools.cycle(range(1, 3_001)):
                if done.is_set():
                    return
                other.mark_sheet_status("job", number, SheetStatus.READY)

    with Client(daemon.socket) as client:
        client.save(CheckpointState(job_id="job", total_sheets=3_000, sheets=sheets))
        changing = threading.Thread(target=change)
        changing.start()
        try:
            found = [kept(client) for _ in range(3)]
            listed = client.list_jobs()
        finally:
            done.set()
            changing.join()

    assert [len(state.sheets) for state in (*found, *listed)] == [3_000] * 4
    assert found[0].revision < found[2].revision
