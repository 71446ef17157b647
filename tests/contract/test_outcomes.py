"""Earlier attempts that failed alike, and what happened next on their sheets."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime
from itertools import product
from typing import Any

import pytest

from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.learning import SimilarOutcome
from jobkeep_protocol.states import CheckpointState, SheetState, SheetStatus
from tests.contract.implementations import Backend
from tests.contract.jobs import new_job

JOBS = ("a", "b/ü", "c")
CATEGORIES: tuple[str | None, ...] = ("timeout", "crash", None)
CODES: tuple[str | None, ...] = ("E1", "E2", None)
EXIT_CODES: tuple[int | None, ...] = (1, 137, None)


class Work:
    """Jobs whose sheets fail and are tried again, and what there is to be known of them."""

    def __init__(self, backend: Backend, choose: random.Random) -> None:
        self._backend, self._choose = backend, choose
        self.failures: list[dict[str, Any]] = []
        self._recorded: dict[tuple[str, int], int] = {}
        self.states = {job_id: new_job(job_id, 4) for job_id in JOBS}

    async def attempt(self) -> None:
        """One try at some sheet."""
        state = self.states[self._choose.choice(JOBS)]
        number = self._choose.randint(1, 4)
        sheet = state.sheets.get(number)
        if sheet is not None and sheet.status is SheetStatus.COMPLETED:
            return
        state.mark_sheet_started(number)
        await self._backend.save(state)
        if self._choose.random() < 0.2:
            return
        if self._choose.random() < 0.3:
            await self._record(state, number, 0)
            state.mark_sheet_completed(number)
        else:
            await self._fail(state, number)
        await self._backend.save(state)

    async def _fail(self, state: CheckpointState, number: int) -> None:
        category, code = self._choose.choice(CATEGORIES), self._choose.choice(CODES)
        exit_code = self._choose.choice(EXIT_CODES)
        execution_id = failed_at = None
        if exit_code is not None:
            execution_id = await self._record(state, number, exit_code)
            (record,) = await self._backend.get_execution_history(state.job_id, limit=1)
            failed_at = datetime.fromisoformat(record["executed_at"])
        message = f"broke {len(self.failures)}"
        state.mark_sheet_failed(number, message, category, exit_code, exit_signal=exit_code and 9)
        sheet = state.sheets[number]
        sheet.error_code = code
        self.failures.append(
            {
                "job_id": state.job_id,
                "sheet_num": number,
                "attempt_num": sheet.attempt_count,
                "execution_id": execution_id,
                "failed_at": failed_at or sheet.completed_at,
                "error_category": category,
                "error_code": code,
                "exit_code": exit_code,
                "exit_signal": exit_code and 9,
                "error_message": message,
            }
        )

    async def _record(self, state: CheckpointState, number: int, exit_code: int) -> int | None:
        attempt = state.sheets[number].attempt_count
        self._recorded[state.job_id, number] = attempt
        return await self._backend.record_execution(
            state.job_id, number, attempt, exit_code=exit_code
        )

    def expected(self, **criteria: Any) -> Iterator[dict[str, Any]]:
        """The failures that match, the newest first, with what happened next."""
        later: set[tuple[str, int]] = set()
        for failure in reversed(self.failures):
            place = (failure["job_id"], failure["sheet_num"])
            sheet = self.states[place[0]].sheets.get(place[1])
            is_completed = sheet is not None and sheet.status is SheetStatus.COMPLETED
            now = "gone" if sheet is None else sheet.status.value
            if all(failure[name] == value for name, value in criteria.items()):
                yield {
                    **failure,
                    "next_outcome": "failed" if place in later else now,
                    "attempts_after": self._tries(place) - failure["attempt_num"],
                    "completed_at": sheet.completed_at if sheet and is_completed else None,
                }
            later.add(place)

    def _tries(self, place: tuple[str, int]) -> int:
        sheet = self.states[place[0]].sheets.get(place[1])
        known: list[int] = [
            one["attempt_num"]
            for one in self.failures
            if (one["job_id"], one["sheet_num"]) == place
        ]
        return max([*known, self._recorded.get(place, 0), sheet.attempt_count if sheet else 0])


@pytest.mark.parametrize("seed", range(2))
async def test_outcomes_are_those_of_the_attempts_that_match_all_that_is_given(
    backend: Backend, seed: int
) -> None:
    work = Work(backend, random.Random(seed))  # noqa: S311 # the same at every run
    for _ in range(60):
        await work.attempt()
    del work.states["a"].sheets[1]
    await backend.save(work.states["a"])

    for category, code, exit_code in product(CATEGORIES, CODES, EXIT_CODES):
        criteria = {"error_category": category, "error_code": code, "exit_code": exit_code}
        given = {name: value for name, value in criteria.items() if value is not None}
        if given:
            found = await backend.find_similar_outcomes(category, code, exit_code, limit=100)
            assert [_fields(one) for one in found] == [*work.expected(**given)]
    assert {one["next_outcome"] for one in work.expected()} >= {"failed", "completed", "gone"}


def _fields(one: SimilarOutcome) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__struct_fields__}


# -- one by one -----------------------------------------------------------------------------------


async def fail(backend: Backend, job_id: str, message: str = "broke", **fields: Any) -> None:
    """A job of one sheet whose first attempt fails."""
    state = new_job(job_id, 1)
    state.mark_sheet_started(1)
    state.mark_sheet_failed(1, message)
    for name, value in fields.items():
        setattr(state.sheets[1], name, value)
    await backend.save(state)


async def test_newest_come_first_and_no_more_than_asked_for(backend: Backend) -> None:
    for number in range(5):
        await fail(backend, f"job {number}", error_code="E1")

    found = await backend.find_similar_outcomes(error_code="E1", limit=3)

    assert [one.job_id for one in found] == ["job 4", "job 3", "job 2"]
    assert await backend.find_similar_outcomes(error_code="E1", limit=0) == []
    assert await backend.find_similar_outcomes(error_code="e1") == []


async def test_what_happened_next_is_told_as_it_happens(backend: Backend) -> None:
    await fail(backend, "job", error_category="timeout")

    async def known() -> tuple[str, int, bool]:
        (one,) = await backend.find_similar_outcomes(error_category="timeout")
        return one.next_outcome, one.attempts_after, one.completed_at is not None

    assert await known() == ("failed", 0, False)
    await backend.mark_sheet_status("job", 1, "retry_scheduled")
    assert await known() == ("retry_scheduled", 0, False)
    await backend.mark_sheet_status("job", 1, "in_progress")
    assert await known() == ("in_progress", 1, False)
    await backend.mark_sheet_status("job", 1, "completed")
    assert await known() == ("completed", 1, True)


async def test_attempt_that_was_only_recorded_is_among_them(backend: Backend) -> None:
    await backend.save(new_job("job", 1))
    number = await backend.record_execution("job", 1, 1, exit_code=3)
    await backend.record_execution("job", 1, 2, exit_code=0)

    (found,) = await backend.find_similar_outcomes(exit_code=3)

    assert (found.execution_id, found.error_message) == (number, None)
    assert (found.next_outcome, found.attempts_after) == ("gone", 1)


async def test_long_texts_are_cut(backend: Backend) -> None:
    await fail(backend, "job", "x" * 501, error_code="E" * 500, error_category="ü" * 9_000)

    (found,) = await backend.find_similar_outcomes(error_code="E" * 500)

    assert found.error_message == "x" * 499 + "…"
    assert found.error_code == "E" * 500
    assert found.error_category == "ü" * 499 + "…"


async def test_sheet_without_times_failed_when_it_was_saved(backend: Backend) -> None:
    await backend.save(new_job("job", 1))
    await backend.save_sheet(
        "job", SheetState(sheet_num=1, status=SheetStatus.FAILED, error_code="E1")
    )
    state = await backend.load("job")

    (found,) = await backend.find_similar_outcomes(error_code="E1")

    assert state is not None
    assert found.failed_at == state.updated_at


async def test_something_has_to_be_asked_for(backend: Backend) -> None:
    with pytest.raises(InvalidRequest, match="no criterion is given; expected one or more of"):
        await backend.find_similar_outcomes()
    with pytest.raises(InvalidRequest, match="limit is 1001; expected an integer from 0 to 1000"):
        await backend.find_similar_outcomes(exit_code=1, limit=1001)


# -- by the words of a message --------------------------------------------------------------------

ASKED = "No answer from db-7 (10.0.0.7:5432) after 31.5 s, while reading /srv/a/part_9.csv"


async def like(backend: Backend, text: str, **criteria: Any) -> list[str]:
    """The jobs that failed with a message like this one, the best first."""
    return [one.job_id for one in await backend.find_similar_outcomes(text=text, **criteria)]


async def test_message_that_differs_in_numbers_only_is_the_best_match(backend: Backend) -> None:
    await fail(
        backend,
        "same",
        "no answer from db-9 (10.0.0.9:5432) after 2 s, while reading /srv/a/part_1.csv",
    )
    await fail(backend, "akin", "no answer from the queue")
    await fail(backend, "other", "disk full")

    assert await like(backend, ASKED) == ["same", "akin"]
    assert await like(backend, "DISK") == ["other"]
    assert await like(backend, "unheard of") == []


async def test_those_with_all_words_come_first_the_newest_before_the_others(
    backend: Backend,
) -> None:
    for job_id in ("old", "new"):
        await fail(backend, job_id, "timeout while reading")
    await fail(backend, "akin", "timeout timeout timeout")

    assert await like(backend, "timeout reading") == ["new", "old", "akin"]
    assert await like(backend, "timeout reading", limit=2) == ["new", "old"]


async def test_words_and_other_criteria_go_together(backend: Backend) -> None:
    await fail(backend, "a", "timeout", error_code="E1")
    await fail(backend, "b", "timeout", error_code="E2")
    await fail(backend, "c", "crash", error_code="E1")

    assert await like(backend, "timeout or crash", error_code="E1") == ["c", "a"]


@pytest.mark.parametrize(
    "text", ["E42", "error E42: 42", "erreur: déjà vu", 'a "quoted" AND NOT x*']
)
async def test_message_finds_itself_whatever_is_in_it(backend: Backend, text: str) -> None:
    await fail(backend, "other", "nothing of the kind")
    await fail(backend, "job", text)
    assert await like(backend, text) == ["job"]


@pytest.mark.parametrize("text", ["", " ", "... /// --- !?"])
async def test_text_without_words_is_refused(backend: Backend, text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"text is .*; expected a text with at least one word"):
        await like(backend, text)


async def test_text_of_any_length_is_taken(backend: Backend) -> None:
    words = " ".join(f"{'abcdefghij'[n % 10]}{'klmnopqrst'[n // 10 % 10]}" for n in range(100))
    await fail(backend, "job", words)
    assert await like(backend, words * 10_000) == ["job"]
