"""What the embedded backend has beyond the contract: its lock, and being opened again."""

from __future__ import annotations

from pathlib import Path

import pytest

import jobkeepd
from jobkeep_protocol.states import CheckpointState, SheetState
from jobkeepd.backend import SQLiteStateBackend
from jobkeepd.store.lock import DatabaseInUse


async def test_backend_takes_the_lock_and_gives_it_back(tmp_path: Path) -> None:
    database = tmp_path / "x.db"
    async with SQLiteStateBackend(database) as backend:
        await backend.save(CheckpointState(job_id="job", total_sheets=1))

        with pytest.raises(DatabaseInUse, match="connect to its socket instead"):
            await SQLiteStateBackend(database).load("job")

    async with SQLiteStateBackend(database) as backend:
        assert await backend.load("job") is not None


async def test_backend_makes_the_directory_of_its_file(tmp_path: Path) -> None:
    async with SQLiteStateBackend(tmp_path / "a" / "b" / "x.db") as backend:
        assert await backend.list_jobs() == []


async def test_backend_that_was_closed_opens_again_on_another_file(tmp_path: Path) -> None:
    database = tmp_path / "x.db"
    state = CheckpointState(job_id="job", total_sheets=3, sheets={1: SheetState(sheet_num=1)})
    async with SQLiteStateBackend(database) as backend:
        await backend.save(state)
        await backend.close()
        database.unlink()
        async with SQLiteStateBackend(database) as other:
            await other.save(CheckpointState(job_id="job", total_sheets=3))

        await backend.save(state)

        kept = await backend.load("job")
        assert kept is not None
        assert kept.sheets == state.sheets


async def test_package_gives_the_backend_and_nothing_unknown() -> None:
    assert jobkeepd.SQLiteStateBackend is SQLiteStateBackend
    with pytest.raises(AttributeError, match="no attribute 'Postgres'"):
        _ = jobkeepd.Postgres
