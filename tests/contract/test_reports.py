"""Reports say what looking at every sheet and every attempt says."""

from __future__ import annotations

import itertools
import random
from datetime import datetime, timedelta
from typing import Any

import pytest

from jobkeep_protocol.backend import StateBackend
from jobkeep_protocol.states import CheckpointState, JobStatus, SheetState, SheetStatus
from jobkeepd.store.reports import overview as overview_module
from tests.contract import plain_reports as plain
from tests.contract.clock import BEGAN, Clock
from tests.contract.jobs import new_job
from tests.contract.plain_reports import Failure, Filters, Kept

Backend = StateBackend[CheckpointState]

NAMES = {"a": "night build", "b": "night deploy", "c": "day build", "d": "", "e": "100% [x]"}


@pytest.fixture
def clock(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """For the end of a span too."""
    monkeypatch.setattr(overview_module, "utc_now", clock)
    return clock


class Writer:
    """Writes jobs as dice have it, and remembers which attempts it said had failed.

    Durations and costs are sums of powers of two, so that they add up alike in any order.
    """

    def __init__(self, backend: Backend, clock: Clock, seed: int) -> None:
        self._backend = backend
        self._clock = clock
        self._dice = random.Random(seed)  # noqa: S311 # no secret
        self.failures: list[Failure] = []

    async def write_all(self) -> None:
        """Every job, then one that is gone again, and one that was made smaller."""
        for job_id, name in NAMES.items():
            await self._write_job(job_id, name)
        await self._write_job("gone", "night")
        assert await self._backend.delete("gone")
        self.failures = [one for one in self.failures if one.job_id != "gone"]
        smaller = await self._backend.load("a")
        assert smaller is not None
        smaller.total_sheets -= 2
        del smaller.sheets[min(smaller.sheets)]
        await self._backend.save(smaller)

    async def _write_job(self, job_id: str, name: str) -> None:
        total = self._dice.randint(5, 8)
        self._pass_time()
        job = new_job(job_id, total, job_name=name, created_at=self._clock.now)
        await self._backend.save(job)
        for number in range(1, total):
            for attempt in range(1, self._dice.randint(2, 4)):
                await self._try(job_id, number, attempt)
        state = await self._backend.load(job_id)
        assert state is not None
        self._pass_time()
        state.status = self._dice.choice([*JobStatus])
        state.completed_at = self._clock.now
        state.total_retry_count = self._dice.randint(0, 9)
        await self._backend.save(state)

    async def _try(self, job_id: str, number: int, attempt: int) -> None:
        dice = self._dice
        self._pass_time()
        recorded_at = self._clock.now
        exit_code = dice.choice([None, 0, 0, 0, 1, 1, -9])
        seconds = dice.choice([None, 0.25, 0.5, 2.0, 8.0, 32.5])
        await self._backend.record_execution(
            job_id, number, attempt, "do", "x" * 5_000, exit_code, seconds
        )
        if dice.random() < 0.2:
            if exit_code:
                self._failed(job_id, number, attempt, (None, None, exit_code, None), recorded_at)
            return
        self._pass_time()
        sheet = self._sheet(number, attempt)
        await self._backend.save_sheet(job_id, sheet)
        if sheet.status is SheetStatus.FAILED:
            code = sheet.exit_code if sheet.exit_code is not None else exit_code or None
            told = recorded_at if exit_code else sheet.completed_at or self._clock.now
            alike = (sheet.error_category, sheet.error_code, code, sheet.exit_signal)
            self._failed(job_id, number, attempt, alike, told, sheet.error_message)
        elif exit_code:
            self._failed(job_id, number, attempt, (None, None, exit_code, None), recorded_at)

    def _sheet(self, number: int, attempt: int) -> SheetState:
        dice = self._dice
        status = dice.choice(
            [*([SheetStatus.COMPLETED] * 3), *([SheetStatus.FAILED] * 2), *SheetStatus]
        )
        ended = dice.random() < 0.9
        sheet = SheetState(
            sheet_num=number,
            status=status,
            attempt_count=attempt,
            completed_at=self._clock.now if ended else None,
            passed_validations=dice.choice([None, [], ["a"], ["a", "it's"], ["b", "b"]]),
            failed_validations=dice.choice([None, [], [], ["a"], ["é", "b"]]),
            outcome_category=dice.choice([None, None, "", "good", "flaky"]),
            success_without_retry=dice.random() < 0.3,
            input_tokens=dice.choice([None, 0, 1_000]),
            output_tokens=dice.choice([None, 17]),
            estimated_cost=dice.choice([None, 0.125, 2.5]),
        )
        if status is SheetStatus.FAILED:
            sheet.error_message = dice.choice(["it broke", "x" * 300])
            sheet.error_category = dice.choice([None, "crash", "timeout"])
            sheet.error_code = dice.choice([None, "E1"])
            sheet.exit_code = dice.choice([None, 3])
            sheet.exit_signal = dice.choice([None, 9])
        return sheet

    def _failed(
        self,
        job_id: str,
        number: int,
        attempt: int,
        alike: tuple[str | None, str | None, int | None, int | None],
        at: datetime,
        message: str | None = None,
    ) -> None:
        self.failures.append(Failure(job_id, number, attempt, alike, at, message))

    def _pass_time(self) -> None:
        self._clock.now += timedelta(seconds=self._dice.choice([0, 1, 1_800, 3_600.5]))


def questions(kept: Kept, clock: Clock) -> list[Filters]:
    """Every filter with every other. The times are those at which something happened, and some at
    which nothing did."""
    executed = plain.executed_at(kept.records[len(kept.records) // 2])
    updated = kept.states["b"].updated_at
    third = BEGAN + (clock.now - BEGAN) / 3
    times = [None, BEGAN, third, executed, updated, clock.now + timedelta(hours=2)]
    names = [None, "night*", "*build", "[nx]ight ?*y", "100% [[]x]", "Night*", "[!n]*", ""]
    spans = [
        (since, until)
        for since, until in itertools.product(times, times)
        if since is None or until is None or since <= until
    ]
    chosen = [(None, name) for name in names] + [("b", None), ("b", "*build"), ("nobody", None)]
    return [
        Filters(job_id, name, since, until) for job_id, name in chosen for since, until in spans
    ]


def _happened(kept: Kept) -> list[tuple[datetime | None, datetime | None]]:
    """Times that begin and end exactly when something happened, which counts in the former."""
    executed = plain.executed_at(kept.records[len(kept.records) // 2])
    updated = kept.states["b"].updated_at
    return [(executed, None), (None, executed), (updated, None), (None, updated)]


async def assert_reports_are_right(backend: Backend, clock: Clock, seed: int, asks: int) -> None:
    """Write jobs, then ask for every report with some of the filters."""
    writer = Writer(backend, clock, seed)
    await writer.write_all()
    kept = await Kept.read(backend, writer.failures)
    everything = questions(kept, clock)
    chosen = random.Random(seed).sample(everything, min(asks, len(everything)))  # noqa: S311 # no secret
    bounds = [Filters(since=one, until=other) for one, other in _happened(kept)]
    for filters in [Filters(), *bounds, *chosen]:
        asked: dict[str, Any] = vars(filters)
        assert await backend.get_overview(**asked) == plain.overview(kept, filters, clock.now)
        for limit in (2, 50):
            of = (kept, filters, limit)
            assert await backend.get_durations(**asked, limit=limit) == plain.durations(*of)
            assert await backend.get_errors(**asked, limit=limit) == plain.errors(*of)
            assert await backend.get_validations(**asked, limit=limit) == plain.validations(*of)
            assert await backend.get_outcomes(**asked, limit=limit) == plain.outcomes(*of)
        for by in ("hour", "day"):
            found = await backend.get_timeline(**asked, by=by)
            assert found == plain.timeline(kept, filters, by)


async def test_reports_are_what_a_plain_computation_gives_whatever_is_asked(
    backend: Backend, clock: Clock
) -> None:
    await assert_reports_are_right(backend, clock, seed=1, asks=12)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, 12))
async def test_reports_are_what_a_plain_computation_gives_for_many_histories(
    backend: Backend, clock: Clock, seed: int
) -> None:
    await assert_reports_are_right(backend, clock, seed, asks=120)
