"""What the embedded backend has beyond the contract: its lock, and being opened again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import jobkeepd
from jobkeep_protocol.states import CheckpointState, SheetState
from jobkeepd.backend import SQLiteStateBackend
from jobkeepd.store.lock import DatabaseInUse
from tests.support import PATIENCE, scaled


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


def test_backend_that_nobody_closes_lets_its_process_end(tmp_path: Path) -> None:
    program = f"""
import asyncio
from jobkeepd import SQLiteStateBackend

async def main():
    backend = SQLiteStateBackend({str(tmp_path / "x.db")!r})
    print(await backend.load("job"), await backend.list_jobs())

asyncio.run(main())
"""

    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=scaled(PATIENCE),
    )

    assert ended.stdout == "None []\n"


async def test_package_gives_the_backend_and_nothing_unknown() -> None:
    assert jobkeepd.SQLiteStateBackend is SQLiteStateBackend
    with pytest.raises(AttributeError, match="no attribute 'Postgres'"):
        _ = jobkeepd.Postgres
