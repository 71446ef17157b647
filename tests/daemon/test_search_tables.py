"""The index of the texts: on and off, filled in, and made anew."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from jobkeep_protocol.errors import StorageError
from jobkeep_protocol.states import CheckpointState, SheetStatus
from jobkeepd import SQLiteStateBackend
from jobkeepd.store import search_tables
from tests.daemon.search_index import assert_index_is_right
from tests.support import wait_until_async


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


async def write(database: Path, *, search: bool, texts: int = 5) -> None:
    """A job with attempts and a failure."""
    async with SQLiteStateBackend(database, search=search) as backend:
        await backend.save(CheckpointState(job_id="job", total_sheets=1))
        for number in range(texts):
            await backend.record_execution("job", 1, 1, f"needle {number}", "in it " * 50)
        await backend.mark_sheet_status("job", 1, SheetStatus.FAILED, "needle")


async def is_complete(backend: SQLiteStateBackend) -> bool:
    return (await backend.search_executions("needle")).complete


def execute(database: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as connection, connection:
        return [row for one in statement.split(";") for row in connection.execute(one)]


async def test_what_was_written_while_search_was_off_is_filled_in(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_tables, "BATCH_ROWS", 2)
    await write(database, search=False)

    async with SQLiteStateBackend(database) as backend:
        await wait_until_async(lambda: is_complete(backend))
        hits = (await backend.search_executions("needle")).hits

    assert len(hits) == 6
    assert_index_is_right(database)


async def test_rows_that_change_before_they_are_filled_in_do_not_spoil_the_index(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(database, search=False)
    monkeypatch.setattr(search_tables, "fill", lambda _: False)
    monkeypatch.setattr("jobkeepd.store.filling.fill", lambda _: False)
    async with SQLiteStateBackend(database) as backend:
        await backend.record_execution("job", 1, 1, "needle new")
        page = await backend.search_executions("needle")
        assert (len(page.hits), page.complete) == (1, False)
    execute(database, "DELETE FROM execution_history WHERE id IN (1, 5)")
    execute(database, "UPDATE execution_history SET prompt = 'thread' WHERE id = 2")
    execute(database, "UPDATE failures SET error_message = 'thread'")
    assert_index_is_right(database)
    monkeypatch.undo()

    async with SQLiteStateBackend(database) as backend:
        await wait_until_async(lambda: is_complete(backend))
        needles = (await backend.search_executions("needle")).hits
        threads = (await backend.search_executions("thread")).hits

    assert (len(needles), len(threads)) == (3, 2)
    assert_index_is_right(database)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TRIGGER execution_indexed",
        "DELETE FROM counters WHERE name = 'search_failures'",
        "DROP TABLE search_failures",
        "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'search_failures'",
    ],
)
async def test_index_that_is_not_as_declared_is_made_anew_at_the_start(
    database: Path, statement: str, caplog: pytest.LogCaptureFixture
) -> None:
    await write(database, search=True)
    execute(database, statement)

    async with SQLiteStateBackend(database) as backend:
        await wait_until_async(lambda: is_complete(backend))

    assert "made anew" in caplog.text
    assert_index_is_right(database)


async def test_index_that_is_dropped_is_told_of(
    database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await write(database, search=True)
    await write(database, search=False)

    assert "the index of the texts was dropped" in caplog.text
    assert execute(database, "SELECT name FROM counters") == [("sequence",)]


async def test_sqlite_without_fts5_is_refused_unless_search_is_off(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_tables, "has_fts5", lambda _: False)

    with pytest.raises(StorageError, match=r"no FTS5, which the search needs.*--search off"):
        await write(database, search=True)
    await write(database, search=False)


async def test_index_that_sqlite_without_fts5_cannot_drop_is_refused(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(database, search=True)
    monkeypatch.setattr(search_tables, "has_fts5", lambda _: False)

    with pytest.raises(StorageError, match="neither kept in step nor dropped"):
        await write(database, search=False)
    assert_index_is_right(database)
