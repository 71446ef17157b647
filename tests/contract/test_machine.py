"""Any sequence of calls: each backend against a plain model of what it promises.

The model keeps states in a dict and applies the transitions of `CheckpointState`. What is compared
is everything but times, of which only the presence is; and the order of the jobs.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from jobkeep_protocol.errors import InvalidRequest, JobNotFound, RevisionConflict
from jobkeep_protocol.states import CheckpointState, JobStatus, SheetState, SheetStatus
from tests.contract.implementations import IMPLEMENTATIONS, Backend
from tests.contract.jobs import copy_of, without_times
from tests.support import new_uvloop

T = TypeVar("T")
JOB_IDS = ("a", "b")

job_ids = st.sampled_from(JOB_IDS)
sheet_nums = st.integers(1, 5)
statuses = st.sampled_from(
    [
        *(SheetStatus.PENDING, SheetStatus.READY, SheetStatus.IN_PROGRESS, SheetStatus.WAITING),
        *(SheetStatus.COMPLETED, SheetStatus.FAILED, SheetStatus.SKIPPED),
    ]
)
messages = st.sampled_from([None, "", "a message"])


class Model:
    """What a backend promises, in a dict."""

    def __init__(self) -> None:
        self.jobs: dict[str, CheckpointState] = {}
        """The kept jobs, the one updated last at the end."""
        self.history: dict[str, list[int]] = {}
        """The sheet numbers of the attempts of each job, oldest first."""

    def keep(self, state: CheckpointState, revision: int) -> None:
        """This is how the job is from now on."""
        self.jobs.pop(state.job_id, None)
        kept = self.jobs[state.job_id] = copy_of(state)
        kept.revision = revision

    def change(self, job_id: str) -> CheckpointState:
        """The kept job, which is about to change."""
        kept = self.jobs[job_id]
        self.keep(kept, kept.revision + 1)
        return self.jobs[job_id]

    def revision(self, job_id: str) -> int:
        """The kept revision, 0 for no job."""
        return self.jobs[job_id].revision if job_id in self.jobs else 0

    def claimable(self, job_id: str, max_attempts: int) -> int | None:
        """The sheet that a claim must give."""
        state = self.jobs[job_id]
        if state.status in {JobStatus.COMPLETED, JobStatus.CANCELLED}:
            return None
        for number in range(1, state.total_sheets + 1):
            sheet = state.sheets.get(number)
            if (
                sheet is None
                or sheet.status in {SheetStatus.PENDING, SheetStatus.READY}
                or (sheet.status is SheetStatus.FAILED and sheet.attempt_count < max_attempts)
            ):
                return number
        return None


class BackendMachine(RuleBasedStateMachine):
    """Calls methods of one backend in any order."""

    implementation = "embedded"

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner(loop_factory=new_uvloop)
        self.opening: AbstractAsyncContextManager[Backend] = IMPLEMENTATIONS[self.implementation](
            Path(self.directory.name)
        )
        self.backend: Backend = self.run_(self.opening.__aenter__())
        self.model = Model()
        self.at_hand: dict[str, CheckpointState] = {}
        """States that the caller has, as they were saved or loaded, and perhaps changed since."""

    def run_(self, call: Coroutine[Any, Any, T]) -> T:
        """Wait for a call."""
        return self.runner.run(call)

    def teardown(self) -> None:
        self.run_(self.opening.__aexit__(None, None, None))
        self.runner.close()
        self.directory.cleanup()

    # -- whole states ---------------------------------------------------------------------------

    @initialize()
    def start(self) -> None:
        self.save_new("a", 3, {})

    @rule(job_id=job_ids, total=st.integers(1, 5), kinds=st.dictionaries(sheet_nums, statuses))
    def save_new(self, job_id: str, total: int, kinds: dict[int, SheetStatus]) -> None:
        sheets = {
            number: SheetState(sheet_num=number, status=kind) for number, kind in kinds.items()
        }
        self._save(
            CheckpointState(job_id=job_id, total_sheets=max(total, *kinds, 1), sheets=sheets)
        )

    @precondition(lambda self: self.at_hand)
    @rule(data=st.data(), number=sheet_nums, text=st.text(max_size=3), remove=st.booleans())
    def save_after_a_partial_change(
        self, data: st.DataObject, number: int, text: str, remove: bool
    ) -> None:
        state = self.at_hand[data.draw(st.sampled_from(sorted(self.at_hand)))]
        if remove:
            state.sheets.pop(number, None)
        elif number <= state.total_sheets:
            sheet = state.sheets.setdefault(number, SheetState(sheet_num=number))
            sheet.extra["text"] = text
        state.description = text
        self._save(state)

    @precondition(lambda self: self.at_hand)
    @rule(data=st.data(), revision=st.integers(0, 6))
    def save_if_revision(self, data: st.DataObject, revision: int) -> None:
        state = self.at_hand[data.draw(st.sampled_from(sorted(self.at_hand)))]
        if revision == self.model.revision(state.job_id):
            self._save(state, revision)
        else:
            with pytest.raises(RevisionConflict):
                self.run_(self.backend.save(state, if_revision=revision))

    @rule(job_id=job_ids)
    def load(self, job_id: str) -> None:
        state = self.run_(self.backend.load(job_id))
        assert (state is None) == (job_id not in self.model.jobs)
        if state is not None:
            self.at_hand[job_id] = state

    @rule(job_id=job_ids)
    def delete(self, job_id: str) -> None:
        assert self.run_(self.backend.delete(job_id)) is (job_id in self.model.jobs)
        self.model.jobs.pop(job_id, None)
        self.model.history.pop(job_id, None)

    def _save(self, state: CheckpointState, if_revision: int | None = None) -> None:
        revision = self.run_(self.backend.save(state, if_revision=if_revision))
        assert revision == self.model.revision(state.job_id) + 1 == state.revision
        self.model.keep(state, revision)
        self.at_hand[state.job_id] = state

    # -- single sheets --------------------------------------------------------------------------

    @rule(job_id=job_ids, number=sheet_nums, status=statuses, message=messages)
    def mark(self, job_id: str, number: int, status: SheetStatus, message: str | None) -> None:
        call = self.backend.mark_sheet_status(job_id, number, status, message)
        if not self._may_touch(job_id, number, call):
            return
        state = self.model.change(job_id)
        match status:
            case SheetStatus.IN_PROGRESS:
                state.mark_sheet_started(number)
            case SheetStatus.COMPLETED:
                state.mark_sheet_completed(number)
            case SheetStatus.FAILED:
                state.mark_sheet_failed(number, message or "")
            case SheetStatus.SKIPPED:
                state.mark_sheet_skipped(number, message)
            case _:
                state.sheets.setdefault(number, SheetState(sheet_num=number)).status = status
        if message:
            state.sheets[number].error_message = message

    @rule(job_id=job_ids, number=sheet_nums, status=statuses, attempts=st.integers(0, 3))
    def save_sheet(self, job_id: str, number: int, status: SheetStatus, attempts: int) -> None:
        sheet = SheetState(sheet_num=number, status=status, attempt_count=attempts)
        if self._may_touch(job_id, number, self.backend.save_sheet(job_id, sheet)):
            self.model.change(job_id).sheets[number] = msgspec.structs.replace(sheet)

    @rule(job_id=job_ids, max_attempts=st.integers(1, 3))
    def claim(self, job_id: str, max_attempts: int) -> None:
        call = self.backend.claim_next_sheet(job_id, max_attempts=max_attempts)
        if job_id not in self.model.jobs:
            with pytest.raises(JobNotFound):
                self.run_(call)
            return
        number = self.run_(call)
        assert number == self.model.claimable(job_id, max_attempts)
        if number is not None:
            self.model.change(job_id).mark_sheet_started(number)

    @rule(job_id=job_ids, number=sheet_nums)
    def record(self, job_id: str, number: int) -> None:
        call = self.backend.record_execution(job_id, number, 1, exit_code=0)
        if job_id not in self.model.jobs:
            assert self.run_(call) is None
        elif self._may_touch(job_id, number, call):
            self.model.history.setdefault(job_id, []).append(number)

    def _may_touch(self, job_id: str, number: int, call: Coroutine[Any, Any, object]) -> bool:
        """Make a call for one sheet; says whether it was for one that the job can have."""
        state = self.model.jobs.get(job_id)
        if state is None:
            with pytest.raises(JobNotFound):
                self.run_(call)
            return False
        if number > state.total_sheets:
            with pytest.raises(InvalidRequest, match="sheet_num"):
                self.run_(call)
            return False
        self.run_(call)
        return True

    # -- what always holds ----------------------------------------------------------------------

    @invariant()
    def all_jobs_are_as_the_model_has_them(self) -> None:
        expected = [without_times(state) for state in reversed(self.model.jobs.values())]
        assert [without_times(state) for state in self.run_(self.backend.list_jobs())] == expected

    @rule(job_id=job_ids)
    def look_closer(self, job_id: str) -> None:
        state = self.model.jobs.get(job_id)
        history = self.model.history.get(job_id, [])
        records = self.run_(self.backend.get_execution_history(job_id))
        assert [one["sheet_num"] for one in records] == history[::-1]
        assert self.run_(self.backend.get_execution_history_count(job_id)) == len(history)
        statistics = self.run_(self.backend.get_job_statistics(job_id))
        following = self.run_(self.backend.get_next_sheet(job_id))
        if state is None:
            assert (statistics, following) == ({}, 1)
        else:
            assert following == state.get_next_sheet()
            assert statistics["total_executions"] == len(history)
            assert statistics["completed_sheets"] == state.last_completed_sheet
            assert statistics["total_retries"] == state.total_retry_count


@pytest.mark.parametrize(
    ("implementation", "examples"), [("embedded", 50), ("async-client", 15), ("client", 15)]
)
def test_backend_does_what_the_model_does(implementation: str, examples: int) -> None:
    class Machine(BackendMachine):
        """This implementation's."""

    Machine.implementation = implementation
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            suppress_health_check=list(HealthCheck),
        ),
    )
