"""What a client process does for a history: `python -m tests.faults.histories.client …`.

What lives here: the choice of operations. What may not: judging their results.

All tasks of all clients work on the same few jobs, and go on to the next ones together: so each
job is in few hands, but in several at a time, and its history is short.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable

from jobkeep import (
    CheckpointState,
    JobkeepError,
    JobNotFound,
    JobStatus,
    RevisionConflict,
    SheetState,
    SheetStatus,
)
from tests.faults.client_process import RecordingClient, serve
from tests.faults.histories.model import SHEETS, view
from tests.faults.operations import OperationLost

OPEN_JOBS = 4
"""How many jobs are worked on at a time."""

TASKS = 3
"""Of each client."""

JOB_STATUSES = [JobStatus.PENDING, JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.COMPLETED]
SHEET_STATUSES = [
    *(SheetStatus.PENDING, SheetStatus.READY, SheetStatus.IN_PROGRESS, SheetStatus.WAITING),
    *(SheetStatus.COMPLETED, SheetStatus.FAILED, SheetStatus.SKIPPED),
]


def job_ids(generation: int) -> list[str]:
    """The jobs that are worked on at the same time."""
    return [f"{generation}/{number}" for number in range(OPEN_JOBS)]


async def work(client: RecordingClient) -> None:
    """One operation after the other, at random."""
    task = _Task(client)
    while not client.is_resting:
        try:
            with contextlib.suppress(RevisionConflict, JobNotFound):  # which are in the log
                await task.do_something()
        except OperationLost:
            await task.wait_for_daemon()


async def read_back(client: RecordingClient) -> None:
    """What is left of every job at the end."""
    for generation in range(client.generation + 1):
        for job_id in job_ids(generation):
            reader = _Task(client)
            await reader.load(job_id)
            await reader.count(job_id, None)


class _Task:
    def __init__(self, client: RecordingClient) -> None:
        self._client = client
        self._backend = client.backend
        self._choice = random.Random(client.task_name)  # noqa: S311 # no secret
        self._held: dict[str, CheckpointState] = {}
        """States as this task has loaded or saved them last."""
        self._texts = 0

    async def do_something(self) -> None:
        """One operation on one of the open jobs."""
        operations: list[tuple[int, Callable[[str], Awaitable[object]]]] = [
            (30, self.load),
            (20, self._save_held),
            (6, self._save_new),
            (6, self._save_sheet),
            (14, self._mark),
            (10, self._claim),
            (10, self._record),
            (8, self._count_some),
            (1, self._delete),
        ]
        weights = [weight for weight, _ in operations]
        ((_, operation),) = self._choice.choices(operations, weights)
        await operation(self._choice.choice(job_ids(self._client.generation)))

    async def wait_for_daemon(self) -> None:
        """Return when the daemon answers again."""
        while True:
            with contextlib.suppress(JobkeepError):
                await self._backend.load("nothing")
                return

    async def load(self, job_id: str) -> None:
        """Read a job."""
        state = await self._client.record(
            job_id,
            *("load", []),
            self._backend.load(job_id),
            lambda state: None if state is None else view(state),
        )
        if state is not None:
            self._held[job_id] = state

    async def count(self, job_id: str, number: int | None) -> None:
        """Count the attempts at a sheet, or at all."""
        await self._client.record(
            job_id,
            *("get_execution_history_count", [number]),
            self._backend.get_execution_history_count(job_id, number),
        )

    async def _count_some(self, job_id: str) -> None:
        await self.count(job_id, self._choice.choice([None, *range(1, SHEETS + 1)]))

    async def _save_new(self, job_id: str) -> None:
        sheets = {
            number: SheetState(
                sheet_num=number,
                status=self._choice.choice(SHEET_STATUSES),
                attempt_count=self._choice.randint(0, 2),
            )
            for number in range(1, SHEETS + 1)
            if self._choice.random() < 0.5
        }
        state = CheckpointState(
            job_id=job_id,
            total_sheets=SHEETS,
            status=self._choice.choices(JOB_STATUSES, [4, 4, 1, 1])[0],
            sheets=sheets,
        )
        await self._save(state, self._choice.choice([0, None]))

    async def _save_held(self, job_id: str) -> None:
        """Change what was loaded or saved last, and save it: mostly if nobody else has."""
        state = self._held.get(job_id)
        if state is None:
            await self._save_new(job_id)
            return
        number = self._choice.randint(1, SHEETS)
        if self._choice.random() < 0.2:
            state.sheets.pop(number, None)
        elif self._choice.random() < 0.5:
            sheet = state.sheets.setdefault(number, SheetState(sheet_num=number))
            sheet.attempt_count += 1
        await self._save(state, state.revision if self._choice.random() < 0.7 else None)

    async def _save(self, state: CheckpointState, if_revision: int | None) -> None:
        self._texts += 1
        state.description = f"{self._client.task_name}:{self._texts}"
        self._held.pop(state.job_id, None)
        await self._client.record(
            state.job_id,
            *("save", [view(state), if_revision]),
            self._backend.save(state, if_revision=if_revision),
        )
        self._held[state.job_id] = state

    async def _save_sheet(self, job_id: str) -> None:
        number, attempts = self._choice.randint(1, SHEETS), self._choice.randint(0, 2)
        status = self._choice.choice(SHEET_STATUSES)
        sheet = SheetState(sheet_num=number, status=status, attempt_count=attempts)
        await self._client.record(
            job_id,
            *("save_sheet", [number, str(status), attempts]),
            self._backend.save_sheet(job_id, sheet),
        )

    async def _mark(self, job_id: str) -> None:
        number, status = self._choice.randint(1, SHEETS), self._choice.choice(SHEET_STATUSES)
        await self._client.record(
            job_id,
            *("mark_sheet_status", [number, str(status)]),
            self._backend.mark_sheet_status(job_id, number, status),
        )

    async def _claim(self, job_id: str) -> None:
        attempts = self._choice.randint(1, 3)
        await self._client.record(
            job_id,
            *("claim_next_sheet", [attempts]),
            self._backend.claim_next_sheet(job_id, max_attempts=attempts),
        )

    async def _record(self, job_id: str) -> None:
        number = self._choice.randint(1, SHEETS)
        await self._client.record(
            job_id,
            *("record_execution", [number]),
            self._backend.record_execution(job_id, number, 1),
        )

    async def _delete(self, job_id: str) -> None:
        await self._client.record(job_id, "delete", [], self._backend.delete(job_id))


if __name__ == "__main__":
    serve(work, TASKS, read_back)
