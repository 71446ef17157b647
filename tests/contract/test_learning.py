"""What was learned over all jobs, and a worker that asks for it."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobkeep_protocol.learning import LearnedPattern
from jobkeep_protocol.states import CheckpointState, SheetState, SheetStatus
from tests.contract.implementations import Backend
from tests.contract.jobs import copy_of, new_job

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
JOBS = ("a", "b/ü", "c")
PATTERNS = ("retry", "retry later", "[odd]*", "ü", "")
SHEETS = 6


def learned(sheet_num: int, *patterns: str, **fields: Any) -> SheetState:
    """A sheet that carries these patterns."""
    return SheetState(sheet_num=sheet_num, learned_patterns=list(patterns), **fields)


async def save_learned(backend: Backend, job_id: str, *sheets: SheetState) -> None:
    """A job with these sheets."""
    await backend.save(new_job(job_id, 99, sheets={one.sheet_num: one for one in sheets}))


# -- patterns, against a computation over the states ----------------------------------------------


class Observer:
    """What an onlooker knows who sees every sheet as it is before and after each write."""

    def __init__(self) -> None:
        self._before: dict[str, CheckpointState] = {}
        self._carriers: dict[str, set[tuple[str, int]]] = {}
        self._seen: dict[str, tuple[datetime, datetime]] = {}

    async def look(self, backend: Backend) -> None:
        """A write was made."""
        after = {state.job_id: copy_of(state) for state in await backend.list_jobs()}
        for job_id in {*self._before, *after}:
            old = self._before[job_id].sheets if job_id in self._before else {}
            new = after[job_id].sheets if job_id in after else {}
            for number in old.keys() - new.keys():
                self._changes((job_id, number), old[number], None)
            for number, sheet in sorted(new.items()):
                if self._changes((job_id, number), old.get(number), sheet):
                    self._sees(sheet, after[job_id].updated_at)
        self._before = after

    def _changes(
        self, place: tuple[str, int], old: SheetState | None, new: SheetState | None
    ) -> bool:
        carried = set(new.learned_patterns or ()) if new else set()
        for pattern in carried:
            self._carriers.setdefault(pattern, set()).add(place)
        for pattern in set(old.learned_patterns or ()) - carried if old else ():
            self._carriers[pattern].discard(place)
            if not self._carriers[pattern]:
                del self._carriers[pattern], self._seen[pattern]
        return bool(carried) and (old is None or _what_counts(old) != _what_counts(new))

    def _sees(self, sheet: SheetState, updated_at: datetime) -> None:
        at = sheet.completed_at or sheet.started_at or updated_at
        for pattern in sheet.learned_patterns or ():
            first, last = self._seen.get(pattern, (at, at))
            self._seen[pattern] = (min(first, at), max(last, at))

    def expected(self, pattern: str) -> dict[str, Any]:
        """All but the names of the jobs."""
        sheets = [
            (job_id, sheet)
            for job_id, state in self._before.items()
            for sheet in state.sheets.values()
        ]
        those = [one for one in sheets if pattern in (one[1].learned_patterns or ())]
        others = [one for one in sheets if pattern not in (one[1].learned_patterns or ())]
        confidences = [
            sheet.confidence_score for _, sheet in those if sheet.confidence_score is not None
        ]
        mean = sum(confidences) / len(confidences) if confidences else None
        first, last = self._seen[pattern]
        return {
            "pattern": pattern,
            "sheets": len(those),
            "jobs": len({job_id for job_id, _ in those}),
            "job_ids": {job_id for job_id, _ in those},
            "completed": _count(those, SheetStatus.COMPLETED),
            "failed": _count(those, SheetStatus.FAILED),
            "success_rate": _rate(those),
            "success_rate_without": _rate(others),
            "mean_confidence": None if mean is None else pytest.approx(mean),
            "first_seen_at": first,
            "last_seen_at": last,
        }

    @property
    def patterns(self) -> list[str]:
        """Those of most sheets first."""
        return sorted(self._carriers, key=lambda one: (-len(self._carriers[one]), one))


def _what_counts(sheet: SheetState | None) -> tuple[Any, ...]:
    assert sheet is not None
    times = (sheet.started_at, sheet.completed_at)
    return (sheet.learned_patterns, sheet.status, sheet.confidence_score, *times)


def _count(sheets: list[tuple[str, SheetState]], status: SheetStatus) -> int:
    return sum(sheet.status is status for _, sheet in sheets)


def _rate(sheets: list[tuple[str, SheetState]]) -> Any:
    completed, failed = (_count(sheets, one) for one in (SheetStatus.COMPLETED, SheetStatus.FAILED))
    return pytest.approx(100 * completed / (completed + failed)) if completed + failed else None


def random_sheet(choose: random.Random, sheet_num: int) -> SheetState:
    """A sheet as an application may have it."""
    status = choose.choice(["pending", "in_progress", "completed", "failed", "skipped"])
    patterns = choose.choices(PATTERNS, k=choose.randrange(4))
    return SheetState(
        sheet_num=sheet_num,
        status=status,  # type: ignore[arg-type] # text is fine
        learned_patterns=choose.choice([None, [], patterns, patterns]),
        confidence_score=choose.choice([None, 0.0, 0.25, 0.9]),
        started_at=choose.choice([None, BEGAN + timedelta(hours=choose.randrange(99))]),
        completed_at=choose.choice([None, BEGAN + timedelta(days=choose.randrange(99))]),
    )


async def random_write(backend: Backend, choose: random.Random) -> None:
    """Any of the writes that change sheets."""
    job_id, number = choose.choice(JOBS), choose.randint(1, SHEETS)
    state = await backend.load(job_id)
    match choose.randrange(12):
        case 0:
            await backend.delete(job_id)
        case 1 | 2 | 3 | 4 if state is not None:
            await backend.save_sheet(job_id, random_sheet(choose, number))
        case 5 | 6 | 7 if state is not None and number in state.sheets:
            status = choose.choice(["in_progress", "completed", "failed", "skipped"])
            await backend.mark_sheet_status(job_id, number, status)
        case 8 if state is not None:
            state.sheets.pop(number, None)
            state.sheets[1] = random_sheet(choose, 1)
            await backend.save(state)
        case _:
            numbers = choose.sample(range(1, SHEETS + 1), 3)
            sheets = {one: random_sheet(choose, one) for one in sorted(numbers)}
            await backend.save(new_job(job_id, SHEETS, sheets=sheets))


@pytest.mark.parametrize("seed", range(3))
async def test_patterns_are_what_the_states_say_whatever_is_written(
    backend: Backend, seed: int
) -> None:
    choose = random.Random(seed)  # noqa: S311 # the same at every run
    observer = Observer()
    for _ in range(60):
        await random_write(backend, choose)
        await observer.look(backend)

        found = await backend.get_learned_patterns()

        assert [one.pattern for one in found] == observer.patterns
        for one in found:
            names = {name: getattr(one, name) for name in one.__struct_fields__}
            assert {**names, "job_ids": {*one.job_ids}} == observer.expected(one.pattern)


# -- patterns, one by one -------------------------------------------------------------------------


async def only_pattern(backend: Backend) -> LearnedPattern:
    (found,) = await backend.get_learned_patterns()
    return found


async def test_without_patterns_there_are_none(backend: Backend) -> None:
    await save_learned(backend, "job", learned(1, status="completed"))
    assert await backend.get_learned_patterns() == []


async def test_pattern_that_comes_twice_in_a_sheet_counts_once(backend: Backend) -> None:
    await save_learned(backend, "job", learned(1, "p", "p", status="failed"))
    found = await only_pattern(backend)
    assert (found.sheets, found.failed, found.success_rate) == (1, 1, 0.0)


async def test_rates_compare_sheets_with_a_pattern_and_those_without(backend: Backend) -> None:
    with_it = [learned(1, "p", status="completed"), learned(2, "p", status="completed")]
    without = [learned(3, "q", status="completed"), learned(4, status="failed")]
    going_on = [learned(5, "p", status="in_progress"), learned(6), learned(7, status="skipped")]
    await save_learned(backend, "job", *with_it, *without, *going_on)

    p, q = await backend.get_learned_patterns()

    assert (p.pattern, p.sheets, p.success_rate, p.success_rate_without) == ("p", 3, 100.0, 50.0)
    assert (q.pattern, q.sheets, q.success_rate) == ("q", 1, 100.0)
    assert q.success_rate_without == pytest.approx(100 * 2 / 3)


async def test_what_nobody_has_finished_has_no_rate(backend: Backend) -> None:
    await save_learned(backend, "job", learned(1, "p"))
    found = await only_pattern(backend)
    assert (found.success_rate, found.success_rate_without, found.mean_confidence) == (None,) * 3


async def test_ten_jobs_are_named_the_newest_first(backend: Backend) -> None:
    for number in range(12):
        seen = BEGAN + timedelta(days=number)
        await save_learned(backend, f"job {number}", learned(1, "p", started_at=seen))

    found = await only_pattern(backend)

    assert found.jobs == 12
    assert found.job_ids == [f"job {number}" for number in range(11, 1, -1)]
    assert (found.first_seen_at, found.last_seen_at) == (BEGAN, BEGAN + timedelta(days=11))


async def test_deleted_job_is_unlearned(backend: Backend) -> None:
    await save_learned(backend, "stays", learned(1, "p", status="completed"))
    await save_learned(backend, "goes", learned(1, "p", "q", status="failed"))

    await backend.delete("goes")

    found = await only_pattern(backend)
    assert (found.sheets, found.job_ids, found.success_rate) == (1, ["stays"], 100.0)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("retry", ["retry"]),
        ("retry*", ["retry", "retry later"]),
        ("?", ["ü"]),
        ("[a-z]*", ["retry", "retry later"]),
        ("[!a-z]*", ["[odd]*", "ü"]),
        ("RETRY", []),
        ("", [""]),
        ("*", ["", "[odd]*", "retry", "retry later", "ü"]),
    ],
)
async def test_pattern_is_one_or_has_the_wildcards_of_a_shell(
    backend: Backend, pattern: str, found: list[str]
) -> None:
    await save_learned(backend, "job", learned(1, *PATTERNS))
    assert [one.pattern for one in await backend.get_learned_patterns(pattern)] == found


@pytest.mark.usefixtures("small_pages")
async def test_those_of_most_sheets_come_first_and_no_more_than_asked_for(
    backend: Backend,
) -> None:
    names = [f"{number:02} {'x' * 300}" for number in range(30)]
    sheets = [learned(number + 1, *names[: number + 1]) for number in range(30)]
    await save_learned(backend, "job", *sheets)

    async def found(min_sheets: int = 1, limit: int = 100) -> list[str]:
        patterns = await backend.get_learned_patterns(min_sheets=min_sheets, limit=limit)
        return [one.pattern for one in patterns]

    assert await found() == names
    assert await found(limit=25) == names[:25]
    assert await found(min_sheets=20) == names[:11]
    assert await found(limit=0) == []


# -- what it is for -------------------------------------------------------------------------------


async def is_worth_another_try(backend: Backend, sheet: SheetState) -> bool:
    """How a worker decides: of those that failed alike and were tried again, most went well."""
    alike = await backend.find_similar_outcomes(sheet.error_category, sheet.error_code)
    tried = [one for one in alike if one.attempts_after]
    return sum(one.next_outcome == "completed" for one in tried) * 2 >= len(tried)


async def work_through(backend: Backend, job_id: str, cause: str, *, passes_at: int) -> int:
    """A worker that asks before each further attempt; gives how many it made."""
    state = new_job(job_id, 1)
    await backend.save(state)
    while True:
        state.mark_sheet_started(1)
        sheet = state.sheets[1]
        if sheet.attempt_count == passes_at:
            state.mark_sheet_completed(1)
        else:
            state.mark_sheet_failed(1, f"{cause} again", error_category=cause)
        sheet.learned_patterns = [f"after {cause}"]
        await backend.save(state)
        is_over = sheet.status is SheetStatus.COMPLETED or sheet.attempt_count == 3
        if is_over or not await is_worth_another_try(backend, sheet):
            return sheet.attempt_count


async def test_worker_that_asks_first_tries_again_what_passes_and_gives_up_what_does_not(
    backend: Backend,
) -> None:
    for number in range(3):
        assert await work_through(backend, f"limited {number}", "rate_limit", passes_at=2) == 2
    assert await work_through(backend, "first bad", "bad_input", passes_at=99) == 2

    assert await work_through(backend, "limited at last", "rate_limit", passes_at=2) == 2
    assert await work_through(backend, "second bad", "bad_input", passes_at=99) == 1

    rates = {one.pattern: one.success_rate for one in await backend.get_learned_patterns("after *")}
    assert rates == {"after rate_limit": 100.0, "after bad_input": 0.0}
