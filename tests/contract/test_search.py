"""Finding attempts and failures by their words."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.search import SearchHit, SearchPage
from jobkeep_protocol.states import SheetStatus
from jobkeepd import SQLiteStateBackend
from tests.contract.implementations import Backend
from tests.contract.jobs import new_job
from tests.daemon.search_index import assert_index_is_right


async def record(backend: Backend, output: str, **fields: Any) -> int:
    """Record an attempt at the first sheet of a job, which is made if there is none."""
    job_id = fields.pop("job_id", "job")
    if await backend.load(job_id) is None:
        await backend.save(new_job(job_id))
    record_id = await backend.record_execution(job_id, 1, 1, output=output, **fields)
    assert record_id is not None
    return record_id


def executions(page: SearchPage) -> list[int | None]:
    """The attempts found."""
    return [hit.execution_id for hit in page.hits]


def found_words(hit: SearchHit) -> list[str]:
    """What is marked in a snippet."""
    return [hit.snippet[mark.start : mark.end] for mark in hit.marks]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where each implementation keeps its file."""
    return tmp_path / "state.db"


# -- what is found ------------------------------------------------------------------------------


async def test_attempt_is_found_by_its_output_with_all_that_is_known_of_it(
    backend: Backend,
) -> None:
    record_id = await record(backend, "the disk of host seven is full", exit_code=28)

    (hit,) = (await backend.search_executions("FULL disk")).hits

    assert (hit.job_id, hit.sheet_num, hit.attempt_num) == ("job", 1, 1)
    assert (hit.execution_id, hit.failure_id, hit.exit_code) == (record_id, None, 28)
    assert hit.field == "output"
    assert hit.snippet == "the disk of host seven is full"
    assert found_words(hit) == ["disk", "full"]
    (kept,) = await backend.get_execution_history("job")
    assert hit.at.isoformat() == kept["executed_at"]


async def test_attempt_is_found_by_its_prompt(backend: Backend) -> None:
    record_id = await record(backend, "done", prompt="translate the third chapter")

    (hit,) = (await backend.search_executions("chapter")).hits

    assert (hit.execution_id, hit.field) == (record_id, "prompt")
    assert found_words(hit) == ["chapter"]


async def test_failure_is_found_by_its_message_without_an_attempt_that_was_recorded(
    backend: Backend,
) -> None:
    await backend.save(new_job())
    await backend.mark_sheet_status("job", 2, SheetStatus.FAILED, "connection refused by peer")

    (hit,) = (await backend.search_executions("refused")).hits

    assert (hit.job_id, hit.sheet_num, hit.execution_id) == ("job", 2, None)
    assert hit.failure_id is not None
    assert (hit.field, hit.snippet) == ("error_message", "connection refused by peer")


async def test_message_is_found_that_came_after_the_record_of_its_attempt(
    backend: Backend,
) -> None:
    await backend.save(new_job())
    await backend.mark_sheet_status("job", 1, SheetStatus.IN_PROGRESS)
    record_id = await backend.record_execution("job", 1, 1, exit_code=1)
    await backend.mark_sheet_status("job", 1, SheetStatus.FAILED, "out of quota")

    (hit,) = (await backend.search_executions("quota")).hits

    assert (hit.execution_id, hit.field, hit.exit_code) == (record_id, "error_message", 1)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("red green", ["red green blue"]),
        ('"green blue"', ["red green blue"]),
        ('"blue green"', []),
        ("gre*", ["red green blue", "grey"]),
        ("gre* -blue", ["grey"]),
        ("grey OR red", ["red green blue", "grey"]),
        ("grey OR red green", ["red green blue"]),
        ("src/store/reads.py", ["in src/store/reads.py:5"]),
        ("reads:5", []),
        ("store src", ["in src/store/reads.py:5"]),
        ("RESUME", ["Résumé наука"]),
        ("НАУКА", ["Résumé наука"]),  # noqa: RUF001 # Cyrillic is meant
        ("error_code", ["the error_code is 3"]),
        ('"unbalanced', []),
    ],
)
async def test_words_are_found_as_the_query_asks(
    backend: Backend, query: str, found: list[str]
) -> None:
    texts = ["red green blue", "grey", "in src/store/reads.py:5", "Résumé наука"]
    ids = {await record(backend, text): text for text in [*texts, "the error_code is 3"]}

    page = await backend.search_executions(query)

    assert sorted(ids[key] for key in executions(page) if key) == sorted(found)


@pytest.mark.parametrize("query", ["", "  ", "-word", "-a -b", "*", '""', "(:/"])
async def test_query_without_a_word_to_look_for_is_refused(backend: Backend, query: str) -> None:
    with pytest.raises(InvalidRequest, match="expected a word to look for"):
        await backend.search_executions(query)


async def test_search_of_one_job_finds_nothing_of_another(backend: Backend) -> None:
    await record(backend, "needle", job_id="one")
    wanted = await record(backend, "needle", job_id="two")
    await record(backend, "needle", job_id="three")

    page = await backend.search_executions("needle", job_id="two")

    assert executions(page) == [wanted]
    assert (await backend.search_executions("needle", job_id="unknown")).hits == []


# -- order and pages ----------------------------------------------------------------------------


async def test_better_match_comes_first_and_of_equals_the_newest(backend: Backend) -> None:
    weak = await record(backend, "needle " + "hay " * 50)
    older = await record(backend, "needle in it")
    newer = await record(backend, "needle in it")
    for _ in range(9):
        await record(backend, "nothing but straw")

    page = await backend.search_executions("needle")

    assert executions(page) == [newer, older, weak]
    assert [hit.rank for hit in page.hits] == sorted(hit.rank for hit in page.hits)


@pytest.mark.usefixtures("small_pages")
async def test_pages_give_each_hit_once_in_the_order_of_the_whole(backend: Backend) -> None:
    for number in range(25):
        await record(backend, f"needle {'hay ' * (number % 4)}")
    await backend.mark_sheet_status("job", 1, SheetStatus.FAILED, "needle")
    whole = await backend.search_executions("needle", limit=100)

    hits: list[SearchHit] = []
    while True:
        page = await backend.search_executions("needle", limit=7, after=hits[-1] if hits else None)
        hits += page.hits
        if not page.more:
            break

    assert len(hits) == 26
    assert hits == whole.hits
    assert not whole.more


async def test_text_without_end_is_shown_around_the_word(backend: Backend) -> None:
    await record(backend, f"{'hay ' * 100_000} Needle {'straw ' * 100_000}")

    (hit,) = (await backend.search_executions("needle")).hits

    assert found_words(hit) == ["Needle"]
    assert hit.snippet.startswith("…")
    assert hit.snippet.endswith("…")
    assert len(hit.snippet) < 1_000


async def test_text_that_is_one_long_word_is_cut(backend: Backend) -> None:
    await record(backend, f"needle{'x' * 10_000} needle")

    (hit,) = (await backend.search_executions("needle*")).hits

    assert len(hit.snippet) < 1_000


# -- in step ------------------------------------------------------------------------------------


async def test_what_is_deleted_is_found_no_more(backend: Backend, database: Path) -> None:
    await record(backend, "needle")
    await backend.mark_sheet_status("job", 1, SheetStatus.FAILED, "needle")
    kept = await record(backend, "needle", job_id="other")

    await backend.delete("job")

    assert executions(await backend.search_executions("needle")) == [kept]
    await backend.close()
    assert_index_is_right(database)


async def test_what_is_refused_leaves_nothing_to_find(backend: Backend, database: Path) -> None:
    await backend.save(new_job(total_sheets=1))
    with pytest.raises(InvalidRequest):
        await backend.record_execution("job", 2, 1, output="needle")
    assert await backend.record_execution("unknown", 1, 1, output="needle") is None

    assert (await backend.search_executions("needle")).hits == []
    assert_index_is_right(database)


async def test_what_another_program_changes_is_found_as_it_is_now(
    backend: Backend, database: Path
) -> None:
    await record(backend, "needle")
    gone = await record(backend, "needle")
    with closing(sqlite3.connect(database)) as other, other:
        other.execute("DELETE FROM execution_history WHERE id = ?", (gone,))
        other.execute("UPDATE execution_history SET output = 'thread'")
        other.execute("UPDATE execution_history SET output = NULL WHERE id < 0")

    assert (await backend.search_executions("needle")).hits == []
    assert len((await backend.search_executions("thread")).hits) == 1
    assert_index_is_right(database)


# -- on and off ---------------------------------------------------------------------------------


async def test_search_that_is_off_says_how_to_turn_it_on_and_leaves_no_table(
    database: Path,
) -> None:
    async with SQLiteStateBackend(database) as backend:
        await record(backend, "needle")
    async with SQLiteStateBackend(database, search=False) as backend:
        with pytest.raises(InvalidRequest, match="--search on"):
            await backend.search_executions("needle")
        await record(backend, "needle")

    with closing(sqlite3.connect(database)) as looking:
        rows = looking.execute("SELECT name FROM sqlite_master WHERE sql LIKE '%search%'")
        assert rows.fetchall() == []
