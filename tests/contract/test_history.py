"""Recording attempts, reading them back, and the figures they add up to."""

from __future__ import annotations

import asyncio
import math
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from jobkeep_protocol.errors import InvalidRequest, LimitExceeded
from jobkeep_protocol.request import MAX_TEXT_BYTES
from jobkeep_protocol.states import SheetState, SheetStatus
from tests.contract.implementations import Backend
from tests.contract.jobs import new_job


async def record(backend: Backend, sheet_num: int, attempt_num: int = 1, **fields: Any) -> int:
    """Record an attempt of a job that exists; gives its id."""
    record_id = await backend.record_execution("job", sheet_num, attempt_num, **fields)
    assert record_id is not None
    return record_id


# -- recording ----------------------------------------------------------------------------------


async def test_record_comes_back_with_every_field(backend: Backend) -> None:
    await backend.save(new_job())
    before = datetime.now(UTC)

    record_id = await backend.record_execution("job", 2, 3, "do it", "done \0 né\n", -9, 1.25)

    (found,) = await backend.get_execution_history("job")
    executed_at = datetime.fromisoformat(found.pop("executed_at"))  # type: ignore[misc] # compared apart
    assert before <= executed_at <= datetime.now(UTC)
    assert found == {
        "id": record_id,
        "job_id": "job",
        "sheet_num": 2,
        "attempt_num": 3,
        "prompt": "do it",
        "output": "done \0 né\n",
        "exit_code": -9,
        "duration_seconds": 1.25,
    }


async def test_record_may_hold_nothing_but_its_numbers(backend: Backend) -> None:
    await backend.save(new_job())
    await record(backend, 1, 0)

    (found,) = await backend.get_execution_history("job")

    assert (found["prompt"], found["output"]) == (None, None)
    assert (found["exit_code"], found["duration_seconds"]) == (None, None)


async def test_empty_texts_stay_empty_texts(backend: Backend) -> None:
    await backend.save(new_job())
    await record(backend, 1, prompt="", output="")
    (found,) = await backend.get_execution_history("job")
    assert (found["prompt"], found["output"]) == ("", "")


async def test_record_for_an_unknown_job_is_none_and_keeps_nothing(backend: Backend) -> None:
    assert await backend.record_execution("job", 1, 1, "p", "o", 0, 1.0) is None
    await backend.save(new_job())
    assert await backend.get_execution_history("job") == []


async def test_recording_does_not_change_the_job(backend: Backend) -> None:
    state = new_job()
    await backend.save(state)
    await record(backend, 1)
    assert await backend.load("job") == state
    assert await backend.save(state, if_revision=1) == 2


async def test_records_at_once_have_ids_of_their_own(backend: Backend) -> None:
    await backend.save(new_job())

    ids = await asyncio.gather(*(record(backend, 1, n, output=str(n)) for n in range(60)))

    found = await backend.get_execution_history("job")
    assert {one["id"]: one["output"] for one in found} == dict(
        zip(ids, map(str, range(60)), strict=True)
    )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"attempt_num": -1}, "attempt_num is -1; expected an integer of 0 or more"),
        ({"attempt_num": 1, "duration_seconds": -0.5}, "duration_seconds is -0.5"),
        ({"attempt_num": 1, "duration_seconds": float("inf")}, "duration_seconds is inf"),
        ({"attempt_num": 1, "exit_code": 2**63}, "exit_code is 9223372036854775808"),
        ({"attempt_num": 1, "exit_code": 1.5}, "exit_code is 1.5"),
        ({"attempt_num": 1, "prompt": 7}, "prompt is 7; expected text"),
        ({"attempt_num": 1, "output": "\ud800"}, r"output is '\\ud800'.*UTF-8"),
    ],
)
async def test_bad_record_is_refused_and_the_backend_stays_usable(
    backend: Backend, fields: dict[str, Any], reason: str
) -> None:
    await backend.save(new_job())

    with pytest.raises(InvalidRequest, match=reason):
        await backend.record_execution("job", 1, **fields)

    assert await backend.get_execution_history_count("job") == 0
    assert await record(backend, 1)


async def test_output_at_the_limit_is_kept_and_one_byte_more_is_refused(backend: Backend) -> None:
    await backend.save(new_job())
    largest = "é" * (MAX_TEXT_BYTES // 2)

    await record(backend, 1, output=largest)
    with pytest.raises(LimitExceeded, match="output has more than 16777216 bytes"):
        await record(backend, 1, output=largest + "x")

    (found,) = await backend.get_execution_history("job")
    assert found["output"] == largest


async def test_ids_are_not_used_again_after_a_delete(backend: Backend) -> None:
    await backend.save(new_job())
    first = await record(backend, 1)
    await backend.delete("job")
    await backend.save(new_job())

    assert await record(backend, 1) > first


# -- reading ------------------------------------------------------------------------------------


async def test_history_of_an_unknown_job_is_empty(backend: Backend) -> None:
    assert await backend.get_execution_history("job") == []
    assert await backend.get_execution_history_count("job") == 0
    assert await backend.get_execution_history_count("job", 1) == 0


async def test_history_is_newest_first_for_the_job_or_one_sheet(backend: Backend) -> None:
    await backend.save(new_job())
    await backend.save(new_job("other"))
    ids = [await record(backend, sheet) for sheet in (1, 2, 1, 3)]
    await backend.record_execution("other", 1, 1)

    whole = await backend.get_execution_history("job")
    of_first = await backend.get_execution_history("job", 1)

    assert [one["id"] for one in whole] == ids[::-1]
    assert [one["id"] for one in of_first] == [ids[2], ids[0]]
    assert await backend.get_execution_history_count("job") == 4
    assert await backend.get_execution_history_count("job", 1) == 2
    assert await backend.get_execution_history_count("job", 7) == 0


@pytest.mark.parametrize("limit", [0, 1, 4, 5, 6])
async def test_limit_is_how_many_come_at_most(backend: Backend, limit: int) -> None:
    await backend.save(new_job())
    ids = [await record(backend, 1, n) for n in range(5)]
    found = await backend.get_execution_history("job", limit=limit)
    assert [one["id"] for one in found] == ids[::-1][:limit]


async def test_a_hundred_come_unless_told(backend: Backend) -> None:
    await backend.save(new_job())
    await asyncio.gather(*(record(backend, 1, n) for n in range(101)))
    assert len(await backend.get_execution_history("job")) == 100


async def test_before_id_pages_through_all(backend: Backend) -> None:
    await backend.save(new_job())
    ids = [await record(backend, 1 + n % 2) for n in range(7)]

    pages: list[int] = []
    before: int | None = None
    while page := await backend.get_execution_history("job", limit=3, before_id=before):
        pages += [one["id"] for one in page]
        before = page[-1]["id"]
        await record(backend, 3)  # what comes meanwhile is no part of older pages

    assert pages == ids[::-1]
    assert await backend.get_execution_history("job", before_id=0) == []
    assert await backend.get_execution_history("job", before_id=-5) == []


@pytest.mark.usefixtures("small_pages")
async def test_long_history_pages_underneath(backend: Backend) -> None:
    await backend.save(new_job())
    ids = await asyncio.gather(*(record(backend, 1 + n % 2, n) for n in range(50)))

    whole = await backend.get_execution_history("job", limit=500)
    newest = await backend.get_execution_history("job", limit=23)

    assert [one["id"] for one in whole] == sorted(ids, reverse=True)
    assert newest == whole[:23]


@pytest.mark.usefixtures("small_pages")
async def test_large_outputs_page_underneath(backend: Backend) -> None:
    await backend.save(new_job())
    outputs = ["x" * size for size in (0, 5_000, 1, 9_000, 1_000, 1_000, 1_000, 3, 2)]
    for number, output in enumerate(outputs):
        await record(backend, 1, number, output=output)

    found = await backend.get_execution_history("job")

    assert [one["output"] for one in found] == outputs[::-1]


async def test_history_larger_than_a_frame_comes_whole(backend: Backend) -> None:
    await backend.save(new_job())
    outputs = [str(n) * 12_000_000 for n in range(3)] + ["x" * n for n in range(3)]
    for number, output in enumerate(outputs):
        await record(backend, 1, number, output=output)

    found = await backend.get_execution_history("job", limit=len(outputs))

    assert [one["output"] == outputs[one["attempt_num"]] for one in found] == [True] * len(outputs)
    assert len(await backend.get_execution_history("job", limit=2)) == 2


async def test_record_as_large_as_a_frame_comes_by_itself(backend: Backend) -> None:
    await backend.save(new_job())
    text = "x" * (16 * 1024 * 1024 - 100_000)
    await backend.record_execution("job", 1, 1, prompt=text, output=text)
    await backend.record_execution("job", 1, 2, output="y" * 900_000)

    newest, oldest = await backend.get_execution_history("job")

    assert (newest["attempt_num"], oldest["attempt_num"]) == (2, 1)
    assert oldest["prompt"] == oldest["output"] == text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"limit": -1}, "limit is -1; expected an integer of 0 or more"),
        ({"limit": None}, "limit is None; expected an integer of 0 or more"),
        ({"sheet_num": 0}, "sheet_num is 0; expected an integer of 1 or more"),
        ({"before_id": 2**63}, "before_id is 9223372036854775808"),
    ],
)
async def test_bad_argument_is_refused(
    backend: Backend, arguments: dict[str, Any], reason: str
) -> None:
    await backend.save(new_job())
    with pytest.raises(InvalidRequest, match=reason):
        await backend.get_execution_history("job", **arguments)
    assert await backend.get_execution_history("job") == []


# -- statistics ---------------------------------------------------------------------------------


async def test_unknown_job_has_no_statistics(backend: Backend) -> None:
    assert await backend.get_job_statistics("job") == {}


async def test_new_job_has_statistics_of_nothing(backend: Backend) -> None:
    await backend.save(new_job())
    assert await backend.get_job_statistics("job") == {
        "total_sheets": 3,
        "completed_sheets": 0,
        "success_rate": 0.0,
        "total_retries": 0,
        "total_executions": 0,
        "successful_executions": 0,
        "avg_duration_seconds": None,
    }


async def test_statistics_add_up(backend: Backend) -> None:
    await backend.save(new_job(total_sheets=4))
    await record(backend, 1, exit_code=0, duration_seconds=1.0)
    await record(backend, 2, exit_code=1, duration_seconds=2.0)
    await record(backend, 2, exit_code=0)
    await record(backend, 3, duration_seconds=6.0)
    await backend.mark_sheet_status("job", 1, "completed")
    await backend.mark_sheet_status("job", 2, "failed")
    await backend.mark_sheet_status("job", 3, "completed")

    assert await backend.get_job_statistics("job") == {
        "total_sheets": 4,
        "completed_sheets": 3,
        "success_rate": 75.0,
        "total_retries": 1,
        "total_executions": 4,
        "successful_executions": 2,
        "avg_duration_seconds": 3.0,
    }


async def test_statistics_outlive_a_save(backend: Backend) -> None:
    await backend.save(new_job())
    await record(backend, 1, exit_code=0, duration_seconds=2.0)

    await backend.save(new_job(sheets={1: SheetState(sheet_num=1, status=SheetStatus.SKIPPED)}))

    statistics = await backend.get_job_statistics("job")
    assert statistics["total_executions"] == 1
    assert statistics["avg_duration_seconds"] == 2.0


async def test_average_of_the_longest_durations_there_are_is_a_number(backend: Backend) -> None:
    await backend.save(new_job())
    for _ in range(3):
        await record(backend, 1, duration_seconds=sys.float_info.max)

    average = (await backend.get_job_statistics("job"))["avg_duration_seconds"]

    assert average is not None
    assert math.isfinite(average)
