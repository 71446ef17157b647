"""What the embedded backend has beyond the contract: its lock, and being opened again."""

from __future__ import annotations

from pathlib import Path

import pytest

import jobkeepd
from jobkeep_protocol.states import CheckpointState, SheetState
from jobkeepd.backend import SQLiteStateBackend
from jobkeepd.store.lock import DatabaseInUse


async def test_backend_takes_the_lock_and_gives_it_back(tmp_path: Path) -> None:
    one, other = SQLiteStateBackend(tmp_path / "x.db"), SQLiteStateBackend(tmp_path / "x.db")
    await one.save(CheckpointState(job_id="job", total_sheets=1))

    with pytest.raises(DatabaseInUse, match="connect to its socket instead"):
        await other.load("job")

    await one.close()
    assert await other.load("job") is not None
    await other.close()


async def test_backend_makes_the_directory_of_its_file(tmp_path: Path) -> None:
    async with SQLiteStateBackend(tmp_path / "a" / "b" / "x.db") as backend:
        assert await backend.list_jobs() == []


async def test_backend_that_was_closed_opens_again_on_another_file(tmp_path: Path) -> None:
    backend = SQLiteStateBackend(tmp_path / "x.db")
    state = CheckpointState(job_id="job", total_sheets=3, sheets={1: SheetState(sheet_num=1)})
    await backend.save(state)
    await backend.close()
    (tmp_path / "x.db").unlink()
    async with SQLiteStateBackend(tmp_path / "x.db") as other:
        await other.save(CheckpointState(job_id="job", total_sheets=3))

    await backend.save(state)

    assert await backend.load("job") == state
    await backend.close()


async def test_package_gives_the_backend_and_nothing_unknown() -> None:
    assert jobkeepd.SQLiteStateBackend is SQLiteStateBackend
    with pytest.raises(AttributeError, match="no attribute 'Postgres'"):
        _ = jobkeepd.Postgres
