"""Rounds of jobs: made, worked on, and brought to the different ends that jobs have.

What lives here: which jobs a round has, and starting and stopping their workers. What may not: the
daemon's process, and what a worker does.

A round is what a night of such checks would be. Most of its jobs run to their end; one is paused,
one cancelled, and the worker of one is killed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from examples.sample.kinds import (
    COMPILE,
    DISASSEMBLE,
    DOCTEST,
    IMPORT,
    LARGE_BYTES,
    LIBRARY,
    MEASURE,
    PARSE,
    SLOW_FACTOR,
    TOKENIZE,
    UNITTEST,
    Kind,
)
from jobkeep import CheckpointState, Client, JobStatus, SheetState, SheetStatus
from jobkeep_protocol.states import utc_now

ROOT = Path(__file__).resolve().parents[2]
MEASURE_PROGRAM = ROOT / "examples" / "measure.py"
CROWD = 3
"""How many workers a processor has in a crowded round."""

PATIENCE_SECONDS = 120.0
POLL_SECONDS = 0.01

Jobs = Client[CheckpointState]
Processes = list[subprocess.Popen[bytes]]


class Workplace:
    """A directory to work in, and a daemon's socket."""

    def __init__(self, client: Jobs, directory: Path, say: Callable[[str], None] = print) -> None:
        self.client = client
        self.directory = directory / "work"
        self.say = say
        self.directory.mkdir(exist_ok=True)
        for name, target in {"lib": LIBRARY, "measure.py": MEASURE_PROGRAM}.items():
            if not (self.directory / name).exists():
                (self.directory / name).symlink_to(target)

    def next_id(self, kind: Kind) -> str:
        """The id of the next job of a kind: its name, and how many there are."""
        ids = (f"{kind.name}/{number}" for number in itertools.count(1))
        return next(one for one in ids if self.client.load(one) is None)

    def new_job(self, kind: Kind, size: float, workers: int, *, is_ours: bool) -> str | None:
        """Make a job with a sheet for each item; gives its id, None when there is no item here.

        A job that is ours runs until we say how it ended; one that is not belongs to whoever
        works on it.
        """
        items = kind.items()[: max(3, round(kind.sheets * size))]
        if not items:
            self.say(f"{kind.name}: left out, this Python comes without any")
            return None
        job_id = self.next_id(kind)
        state = CheckpointState(
            job_id=job_id,
            job_name=kind.name,
            description=kind.description,
            total_sheets=len(items),
            sheets={number: _sheet(kind, number, item) for number, item in enumerate(items, 1)},
            config_snapshot={
                "attempts": kind.attempts,
                "limit_seconds": kind.limit_seconds,
                "second_limit_seconds": kind.limit_seconds * SLOW_FACTOR,
                "workers": workers,
                "python": platform.python_version(),
            },
        )
        if is_ours:
            state.status = JobStatus.RUNNING
            state.started_at = utc_now()
            state.set_running_pid()
        self.client.save(state)
        return job_id

    @contextlib.contextmanager
    def working(self, job_id: str, workers: int) -> Iterator[Processes]:
        """Worker processes for a job, a sheet each at least; what is left at the end is stopped."""
        line = [sys.executable, "-m", "examples.sample.worker"]
        arguments = [str(self.client.socket), str(self.directory), job_id]
        sheets = len(self._load(job_id).sheets)
        processes = [
            subprocess.Popen([*line, *arguments], cwd=ROOT, process_group=0)
            for _ in range(min(workers, sheets))
        ]
        try:
            yield processes
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()

    def work_off(self, kind: Kind, size: float, workers: int) -> None:
        """Work until nothing is left to do, and say how the job ended."""
        if (job_id := self.new_job(kind, size, workers, is_ours=True)) is None:
            return
        with self.working(job_id, workers) as processes:
            for process in processes:
                if process.wait() != 0:
                    raise RuntimeError(f"a worker of {job_id} ended with {process.returncode}")
        self._end(job_id, _complete_or_fail)

    def stop_halfway(
        self, kind: Kind, size: float, workers: int, end: Callable[[CheckpointState], None]
    ) -> None:
        """Work on half of a job, then stop its workers and end it as told."""
        if (job_id := self.new_job(kind, size, workers, is_ours=True)) is None:
            return
        with self.working(job_id, workers):
            self._wait_for_half(job_id)
        self._end(job_id, end)

    def kill_halfway(self, kind: Kind, size: float) -> None:
        """Kill the only worker of a job at its work. Nobody is left to say so."""
        if (job_id := self.new_job(kind, size, 1, is_ours=False)) is None:
            return
        with self.working(job_id, 1) as (worker,):
            self._wait_for_half(job_id)
            worker.kill()
        self._tell(job_id)

    @contextlib.contextmanager
    def under_way(self, kind: Kind) -> Iterator[None]:
        """A job that one worker is at as long as the context lasts; what is left is paused."""
        job_id = self.new_job(kind, 1, 1, is_ours=True)
        assert job_id is not None, "there are files in every library"
        with self.working(job_id, 1):
            yield
        state = self._load(job_id)
        if not state.status.is_terminal:
            self._end(job_id, CheckpointState.mark_job_paused)

    def _wait_for_half(self, job_id: str) -> None:
        sheets = self._load(job_id).sheets.values()
        half = sum(sheet.status is not SheetStatus.SKIPPED for sheet in sheets) // 2
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.client.get_execution_history_count(job_id) < half:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{job_id} is not half done after {PATIENCE_SECONDS:g} s")
            time.sleep(POLL_SECONDS)

    def _end(self, job_id: str, end: Callable[[CheckpointState], None]) -> None:
        state = self._load(job_id)
        end(state)
        self.client.save(state, if_revision=state.revision)
        self._tell(job_id)

    def _tell(self, job_id: str) -> None:
        state = self._load(job_id)
        attempts = self.client.get_execution_history_count(job_id)
        self.say(f"{job_id}: {state.status}, {state.total_sheets} sheets, {attempts} executions")

    def _load(self, job_id: str) -> CheckpointState:
        state = self.client.load(job_id)
        assert state is not None, "we have made it, and nobody removes it"
        return state


def _sheet(kind: Kind, number: int, item: str) -> SheetState:
    sheet = SheetState(sheet_num=number, extra={"item": item})
    if kind is TOKENIZE and (LIBRARY / item.removeprefix("lib/")).stat().st_size > LARGE_BYTES:
        sheet.status = SheetStatus.SKIPPED
        sheet.error_message = f"left out: larger than {LARGE_BYTES} bytes"
    return sheet


def _complete_or_fail(state: CheckpointState) -> None:
    failed = sum(sheet.status is SheetStatus.FAILED for sheet in state.sheets.values())
    if failed:
        state.mark_job_failed(f"{failed} of {state.total_sheets} sheets failed")


def make_round(place: Workplace, size: float) -> None:
    """One round: every kind of check but the survey. Every second round is crowded."""
    is_crowded = place.next_id(COMPILE).endswith(tuple("02468"))
    workers = (os.cpu_count() or 1) * (CROWD if is_crowded else 1)
    for kind in (COMPILE, IMPORT, MEASURE, DOCTEST, UNITTEST):
        place.work_off(kind, size, workers)
    place.stop_halfway(TOKENIZE, size, workers, CheckpointState.mark_job_paused)
    place.stop_halfway(DISASSEMBLE, size, workers, CheckpointState.mark_job_cancelled)
    place.kill_halfway(PARSE, size)
