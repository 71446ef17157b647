"""What a client process does while the daemon is killed: `python -m tests.faults.load …`.

What lives here: the load, and what each part of it must look like afterwards. What may not: judging
whether it does (that is `ledger`).

Each task takes sheets from a queue that it shares with all others, records an attempt at each and
marks it completed; and it saves a job of its own, which it looks at now and then: nobody else
writes that one, so it must be as it was saved last. What it writes follows from a few numbers, so
that the log need not hold it.
"""

from __future__ import annotations

import contextlib

from jobkeep import CheckpointState, RevisionConflict, SheetState
from tests.faults.client_process import RecordingClient, serve

QUEUE_SHEETS = 200
"""When these are taken, the clients go on to the next queue."""

TASKS = 6
"""Of each client: enough to have a daemon busy that is away part of the time."""

OWN_SHEETS = 10
SAVES_BETWEEN_LOOKS = 10


def queue_id(number: int) -> str:
    """The id of a queue."""
    return f"queue/{number}"


def output_of(prompt: str) -> str:
    """The output of an attempt, which no other attempt has."""
    return f"{prompt} says so. " * 40


def own_state(job_id: str, saves: int) -> CheckpointState:
    """A job of one task after so many saves: each changes one sheet, in turn."""
    state = CheckpointState(job_id=job_id, total_sheets=OWN_SHEETS, description=f"save {saves}")
    for save in range(max(1, saves - OWN_SHEETS + 1), saves + 1):
        number = own_sheet(save)
        state.sheets[number] = SheetState(sheet_num=number, extra={"save": save})
    state.revision = saves
    return state


def own_sheet(saves: int) -> int:
    """The sheet that this save changes."""
    return saves % OWN_SHEETS + 1


def differs(found: CheckpointState | None, wanted: CheckpointState) -> str | None:
    """What of a task's own job is not as it should be."""
    if found is None:
        return f"{wanted.job_id} is not there"
    is_equal = (found.revision, found.description) == (wanted.revision, wanted.description) and {
        number: sheet.extra for number, sheet in found.sheets.items()
    } == {number: sheet.extra for number, sheet in wanted.sheets.items()}
    return None if is_equal else f"{wanted.job_id} is {found}, not {wanted}"


async def work(client: RecordingClient) -> None:
    """The load of one task."""
    task = _Task(client)
    while not client.is_resting:
        await task.do_a_sheet()
        await task.save_own()
        if task.saves % SAVES_BETWEEN_LOOKS == 0:
            await task.look_at_own()


class _Task:
    def __init__(self, client: RecordingClient) -> None:
        self.saves = 0
        self._client = client
        self._backend = client.backend
        self._queue = 0
        self._is_queue_made = False
        self._name = client.task_name
        self._own_id = f"own/{self._name}"
        self._attempts = 0

    async def do_a_sheet(self) -> None:
        """Take a sheet, record an attempt, complete it. Goes on to the next queue when it can take
        none."""
        job_id = queue_id(self._queue)
        if not self._is_queue_made:
            await self._make_queue(job_id)
        number = await self._client.record(
            job_id, "claim_next_sheet", [], self._backend.claim_next_sheet(job_id)
        )
        if number is None:
            self._queue += 1
            self._is_queue_made = False
            return
        await self._record_attempt(job_id, number)
        await self._client.record(
            job_id,
            *("mark_sheet_status", [number, "completed"]),
            self._backend.mark_sheet_status(job_id, number, "completed"),
        )

    async def save_own(self) -> None:
        """Save the task's own job: only where it was left, so that a save applied twice is seen."""
        state = own_state(self._own_id, self.saves + 1)
        await self._client.record(
            self._own_id,
            *("save", [self.saves + 1]),
            self._backend.save(state, if_revision=self.saves),
        )
        self.saves += 1

    async def look_at_own(self) -> None:
        """Nobody else writes this job: it is as it was saved last."""
        found = await self._client.record(
            self._own_id, "load", [], self._backend.load(self._own_id), lambda _: None
        )
        difference = differs(found, own_state(self._own_id, self.saves))
        assert difference is None, difference

    async def _record_attempt(self, job_id: str, number: int) -> None:
        self._attempts += 1
        prompt = f"{self._name}/{self._attempts}"
        await self._client.record(
            job_id,
            *("record_execution", [number, self._attempts, prompt]),
            self._backend.record_execution(
                job_id, number, self._attempts, prompt, output_of(prompt), 0, 0.5
            ),
        )

    async def _make_queue(self, job_id: str) -> None:
        """Make it unless another task was first."""
        state = CheckpointState(job_id=job_id, total_sheets=QUEUE_SHEETS)
        with contextlib.suppress(RevisionConflict):
            await self._client.record(job_id, "save", [0], self._backend.save(state, if_revision=0))
        self._is_queue_made = True


if __name__ == "__main__":
    serve(work, TASKS)
