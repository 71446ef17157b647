"""`backup`: a copy of one moment, in a new file, that another backend opens."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from jobkeep_protocol.backend import StateBackend
from jobkeep_protocol.errors import StorageError
from jobkeep_protocol.states import CheckpointState
from jobkeepd import SQLiteStateBackend
from tests.contract.jobs import with_sheets

Backend = StateBackend[CheckpointState]
RECORDS = "SELECT * FROM execution_history ORDER BY id"
LARGE = "x" * 1_500_000


async def test_copy_holds_everything_and_opens_as_it_is(backend: Backend, tmp_path: Path) -> None:
    for number in range(30):
        await backend.save(with_sheets(f"job {number}", "completed", "failed"))
        await backend.record_execution(f"job {number}", 1, 1, output=f"output {number}")
    copy = tmp_path / "copy.db"

    size = await backend.backup(copy)

    assert size == copy.stat().st_size
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    kept = await backend.list_jobs()
    async with SQLiteStateBackend(copy) as restored:
        assert await restored.list_jobs() == kept
        for number in range(30):
            records = await restored.get_execution_history(f"job {number}")
            assert records == await backend.get_execution_history(f"job {number}")
            statistics = await restored.get_job_statistics(f"job {number}")
            assert statistics == await backend.get_job_statistics(f"job {number}")


async def test_copy_that_is_larger_than_a_piece_is_whole(backend: Backend, tmp_path: Path) -> None:
    await backend.save(with_sheets("job", "pending"))
    for number in range(3):
        await backend.record_execution("job", 1, number, output=LARGE)

    size = await backend.backup(tmp_path / "copy.db")

    assert size > 3 * len(LARGE)
    async with SQLiteStateBackend(tmp_path / "copy.db") as restored:
        records = await restored.get_execution_history("job")
        assert [record["output"] for record in records] == [LARGE] * 3


async def test_copy_is_one_moment_while_others_write(backend: Backend, tmp_path: Path) -> None:
    await backend.save(with_sheets("job", "pending"))
    acknowledged = 0
    is_over = False
    is_under_way = asyncio.Event()

    async def record() -> None:
        nonlocal acknowledged
        while not is_over:
            assert await backend.record_execution("job", 1, acknowledged) is not None
            acknowledged += 1
            if acknowledged == 20:
                is_under_way.set()

    writing = asyncio.create_task(record())
    await is_under_way.wait()
    before = acknowledged
    await backend.backup(tmp_path / "copy.db")
    after = acknowledged
    is_over = True
    await writing

    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        attempts = [row[3] for row in copy.execute(RECORDS)]
        (counted,) = copy.execute("SELECT executions FROM jobs").fetchone()
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert attempts == list(range(len(attempts)))
    assert before <= len(attempts) <= after + 1
    assert counted == len(attempts)


async def test_file_that_is_there_is_left_alone(backend: Backend, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("a backup of before")

    with pytest.raises(FileExistsError, match="there is a file of this name"):
        await backend.backup(precious)

    assert precious.read_text() == "a backup of before"


async def test_copy_that_cannot_be_written_leaves_nothing(backend: Backend, tmp_path: Path) -> None:
    with pytest.raises((OSError, StorageError)) as failed:
        await backend.backup(tmp_path / "not there" / "copy.db")

    assert "not there" in str(failed.value)
    assert not (tmp_path / "not there").exists()


async def test_what_a_backup_that_was_killed_has_left_is_no_hindrance(
    backend: Backend, tmp_path: Path
) -> None:
    await backend.save(with_sheets("job", "pending"))
    (tmp_path / "copy.db.partial").write_text("a part of a copy")

    await backend.backup(tmp_path / "copy.db")

    assert not (tmp_path / "copy.db.partial").exists()
    async with SQLiteStateBackend(tmp_path / "copy.db") as restored:
        assert await restored.load("job") is not None
