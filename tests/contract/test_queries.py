"""Looking jobs up, and finding out from files where a job was."""

from __future__ import annotations

import asyncio
import enum
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from jobkeep_protocol.backend import JobSummary
from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.states import JobStatus
from tests.contract.implementations import Backend
from tests.contract.jobs import new_job, with_sheets

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class TheirStatus(enum.StrEnum):
    """An application's own statuses."""

    HALTED = "paused"
    UNHEARD_OF = "unheard_of"


def ids(found: list[JobSummary]) -> list[str]:
    """The job ids of summaries."""
    return [one["id"] for one in found]


async def save_in_order(backend: Backend, *job_ids: str) -> None:
    """New jobs, the last one updated last."""
    for job_id in job_ids:
        await backend.save(new_job(job_id))


# -- query_jobs ---------------------------------------------------------------------------------


async def test_no_jobs_no_summaries(backend: Backend) -> None:
    assert await backend.query_jobs() == []


async def test_summary_has_these_fields(backend: Backend) -> None:
    state = with_sheets(
        *("job", "completed", "failed"),
        job_name="A job",
        status="failed",
        last_completed_sheet=1,
        created_at=LONG_AGO,
        completed_at=LONG_AGO,
        error_message="it broke",
    )
    await backend.save(state)

    assert await backend.query_jobs() == [
        {
            "id": "job",
            "name": "A job",
            "status": "failed",
            "total_sheets": 2,
            "last_completed_sheet": 1,
            "created_at": "2020-01-01T00:00:00.000000+00:00",
            "updated_at": state.updated_at.isoformat(timespec="microseconds"),
            "completed_at": "2020-01-01T00:00:00.000000+00:00",
            "error_message": "it broke",
        }
    ]


async def test_absent_values_of_a_summary_are_none(backend: Backend) -> None:
    await backend.save(new_job())
    (found,) = await backend.query_jobs()
    assert (found["name"], found["completed_at"], found["error_message"]) == ("", None, None)


async def test_last_updated_comes_first(backend: Backend) -> None:
    await save_in_order(backend, "a", "b", "c")
    await backend.mark_sheet_status("b", 1, "ready")
    assert ids(await backend.query_jobs()) == ["b", "c", "a"]


@pytest.mark.parametrize("status", [JobStatus.PAUSED, "paused", TheirStatus.HALTED])
async def test_status_filters(backend: Backend, status: str) -> None:
    for one in JobStatus:
        await backend.save(new_job(one.value, status=one))
    assert ids(await backend.query_jobs(status)) == ["paused"]


async def test_since_takes_jobs_updated_then_or_later_in_any_zone(backend: Backend) -> None:
    await save_in_order(backend, "a", "b", "c")
    b = await backend.load("b")
    assert b is not None
    there = timezone(timedelta(hours=-7))

    assert ids(await backend.query_jobs(since=b.updated_at)) == ["c", "b"]
    assert ids(await backend.query_jobs(since=b.updated_at.astimezone(there))) == ["c", "b"]
    just_after = b.updated_at + timedelta(microseconds=1)
    assert ids(await backend.query_jobs(since=just_after)) == ["c"]
    assert await backend.query_jobs(since=datetime.now(UTC) + timedelta(days=1)) == []
    assert len(await backend.query_jobs(since=datetime.min.replace(tzinfo=UTC))) == 3


async def test_filters_go_together(backend: Backend) -> None:
    for job_id, status in (("a", "paused"), ("b", "failed"), ("c", "paused"), ("d", "paused")):
        await backend.save(new_job(job_id, status=status))
    c = await backend.load("c")
    assert c is not None

    assert ids(await backend.query_jobs("paused", c.updated_at)) == ["d", "c"]
    assert ids(await backend.query_jobs("paused", limit=1, after="d")) == ["c"]
    assert ids(await backend.query_jobs("paused", after="d")) == ["c", "a"]


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 4])
async def test_limit_is_how_many_come_at_most(backend: Backend, limit: int) -> None:
    await save_in_order(backend, "a", "b", "c")
    assert ids(await backend.query_jobs(limit=limit)) == ["c", "b", "a"][:limit]


@pytest.mark.usefixtures("small_pages")
async def test_fifty_come_unless_told_and_many_page_underneath(backend: Backend) -> None:
    states = [new_job(f"job {n}", job_name="x" * n) for n in range(60)]
    await asyncio.gather(*map(backend.save, states))

    assert len(await backend.query_jobs()) == 50
    found = await backend.query_jobs(limit=500)

    assert sorted(ids(found)) == sorted(state.job_id for state in states)
    updated = [one["updated_at"] for one in found]
    assert updated == sorted(updated, reverse=True)


@pytest.mark.parametrize("as_summary", [True, False])
async def test_after_pages_through_all(backend: Backend, as_summary: bool) -> None:
    job_ids = [f"job {n}" for n in range(7)]
    await save_in_order(backend, *job_ids)

    pages: list[str] = []
    page = await backend.query_jobs(limit=3)
    while page:
        pages += ids(page)
        after: JobSummary | str = page[-1] if as_summary else page[-1]["id"]
        page = await backend.query_jobs(limit=3, after=after)

    assert pages == job_ids[::-1]


async def test_job_that_changes_between_pages_hides_no_other(backend: Backend) -> None:
    await save_in_order(backend, "a", "b", "c", "d")
    first = await backend.query_jobs(limit=2)

    await backend.mark_sheet_status("c", 1, "ready")  # the last one of the first page
    second = await backend.query_jobs(limit=2, after=first[-1])

    assert ids(first) + ids(second) == ["d", "c", "b", "a"]


async def test_job_that_is_deleted_between_pages_hides_no_other(backend: Backend) -> None:
    await save_in_order(backend, "a", "b", "c", "d")
    first = await backend.query_jobs(limit=2)

    await backend.delete("c")
    second = await backend.query_jobs(limit=2, after=first[-1])

    assert ids(second) == ["b", "a"]


async def test_nothing_comes_after_the_last_even_when_it_is_gone(backend: Backend) -> None:
    await save_in_order(backend, "a")
    (last,) = await backend.query_jobs()
    assert await backend.query_jobs(after=last) == []
    await backend.delete("a")
    assert await backend.query_jobs(after=last) == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"status": "asleep"}, "status is 'asleep'; expected one of pending, running"),
        ({"status": TheirStatus.UNHEARD_OF}, "status is .*; expected one of pending, running"),
        ({"limit": -1}, "limit is -1; expected an integer of 0 or more"),
        ({"limit": "5"}, "limit is '5'; expected an integer"),
        ({"after": 5}, "after is 5; expected a summary that query_jobs gave, or a job id"),
        ({"since": datetime(2026, 1, 1)}, "since is .*; expected a datetime with a time zone"),  # noqa: DTZ001
        ({"since": "2026-01-01"}, "since is '2026-01-01'; expected a datetime with a time zone"),
        ({"after": "unknown"}, "after is 'unknown'; expected the id of a kept job, or a summary"),
    ],
)
async def test_bad_argument_is_refused_and_the_backend_stays_usable(
    backend: Backend, arguments: dict[str, Any], reason: str
) -> None:
    await save_in_order(backend, "a")
    with pytest.raises(InvalidRequest, match=reason):
        await backend.query_jobs(**arguments)
    assert ids(await backend.query_jobs()) == ["a"]


# -- infer_state_from_artifacts -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "pattern", "highest"),
    [
        ([], "*", None),
        (["notes.md"], "*", None),
        (["sheet1.md", "sheet10.md", "sheet2.md"], "*.md", 10),
        (["sheet1.md", "sheet9.txt"], "*.md", 1),
        (["out/sheet3.md", "sheet1.md"], "**/*.md", 3),
    ],
)
async def test_highest_sheet_among_the_files_that_match(
    backend: Backend, tmp_path: Path, names: list[str], pattern: str, highest: int | None
) -> None:
    workspace = tmp_path / "workspace"
    for name in names:
        path = workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    assert await backend.infer_state_from_artifacts("job", workspace, pattern) == highest
    assert await backend.infer_state_from_artifacts("job", str(workspace), pattern) == highest


async def test_workspace_that_does_not_exist_has_no_sheets(
    backend: Backend, tmp_path: Path
) -> None:
    assert await backend.infer_state_from_artifacts("job", tmp_path / "none", "*") is None
