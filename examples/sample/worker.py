"""A worker process of the sample: takes sheets of one job until there is none to take.

What lives here: `python -m examples.sample.worker SOCKET DIRECTORY JOB`. What may not: which jobs
there are. SIGTERM ends it after the sheet that it is at.
"""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path

from examples.sample.command import run
from examples.sample.judge import judge
from examples.sample.kinds import KINDS
from jobkeep import CheckpointState, Client, SheetState, SheetStatus
from jobkeep_protocol.states import utc_now

PATIENCE_SECONDS = 60.0


class Worker:
    """Does sheets of one job."""

    def __init__(self, client: Client[CheckpointState], job_id: str, directory: Path) -> None:
        state = client.load(job_id)
        assert state is not None, "whoever starts a worker has made its job"
        self._client = client
        self._job_id = job_id
        self._kind = KINDS[state.job_name]
        self._items = {number: sheet.extra for number, sheet in state.sheets.items()}
        self._directory = directory
        self._is_to_stop = False
        signal.signal(signal.SIGTERM, self._stop)

    def work(self) -> None:
        """Take sheets until there is none to take."""
        while not self._is_to_stop:
            number = self._client.claim_next_sheet(self._job_id)
            if number is None:
                return
            self._do(number)

    def _do(self, number: int) -> None:
        """Try a sheet until it succeeds, as often as may be."""
        learned: list[str] = []
        first = self._client.get_execution_history_count(self._job_id, number) + 1
        for attempt in range(first, first + self._kind.attempts):
            if attempt > first:
                self._client.mark_sheet_status(self._job_id, number, SheetStatus.IN_PROGRESS)
            sheet = self._try(number, attempt, learned)
            if sheet.status is SheetStatus.COMPLETED:
                return
            learned = sheet.learned_patterns or []

    def _try(self, number: int, attempt: int, learned: list[str]) -> SheetState:
        command = self._kind.command_of(self._items[number]["item"])
        ended = run(command, self._kind.limit(attempt), self._directory)
        sheet = SheetState(
            sheet_num=number,
            attempt_count=attempt,
            execution_mode="first limit" if attempt == 1 else "longer limit",
            started_at=ended.started_at,
            completed_at=utc_now(),
            learned_patterns=learned,
            extra=self._items[number],
        )
        judge(self._kind, ended, sheet)
        self._client.record_execution(
            *(self._job_id, number, attempt),
            prompt=shlex.join(command),
            output=ended.output + ended.errors,
            exit_code=ended.exit_code,
            duration_seconds=ended.seconds,
        )
        self._keep(sheet)
        return sheet

    def _keep(self, sheet: SheetState) -> None:
        # The transition first, which counts the retries and the progress of the job; it knows
        # nothing of rules and patterns, and clears what it does not know.
        self._client.mark_sheet_status(
            self._job_id, sheet.sheet_num, sheet.status, sheet.error_message
        )
        self._client.save_sheet(self._job_id, sheet)

    def _stop(self, signum: int, frame: object) -> None:
        del signum, frame
        self._is_to_stop = True


def main() -> None:
    """Be a worker."""
    socket, directory, job_id = sys.argv[1:]
    with Client(socket, timeout=PATIENCE_SECONDS) as client:
        Worker(client, job_id, Path(directory)).work()


if __name__ == "__main__":
    main()
