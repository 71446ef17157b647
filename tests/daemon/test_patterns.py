"""What was learned: in files of an earlier version, and after a job is pruned."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobkeep_protocol.states import CheckpointState, SheetState, SheetStatus
from jobkeepd.backend import SQLiteStateBackend
from jobkeepd.store.patterns import keep_what_was_learned
from tests.daemon.counters import assert_counters_are_right

OLDER = Path(__file__).with_name("schema_5.sql")
SEEN = datetime(2026, 1, 1, tzinfo=UTC)


def learned(sheet_num: int, status: SheetStatus, *patterns: str) -> SheetState:
    """A sheet that carries these patterns."""
    return SheetState(
        sheet_num=sheet_num,
        status=status,
        learned_patterns=list(patterns),
        confidence_score=0.5,
        started_at=SEEN,
        completed_at=SEEN,
    )


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where the backend of a test has its file."""
    return tmp_path / "state.db"


@pytest.fixture
def behind(database: Path) -> Iterator[sqlite3.Connection]:
    """A connection past the backend, for when that is closed."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        yield connection


async def test_what_an_older_file_has_learned_is_counted_when_it_is_opened(database: Path) -> None:
    with closing(sqlite3.connect(database)) as older:
        older.executescript(OLDER.read_text())
        sheets = older.execute("SELECT job_id, sheet_num FROM sheets").fetchall()
        older.execute("UPDATE sheets SET learned_patterns = ?", (json.dumps(["p", "p", "ü"]),))
        older.execute("UPDATE sheets SET learned_patterns = NULL WHERE sheet_num = 1")
        older.execute("UPDATE sheets SET learned_patterns = '[null, 1, \"p\"]' WHERE sheet_num = 2")
        older.commit()

    async with SQLiteStateBackend(database) as backend:
        found = {one.pattern: one for one in await backend.get_learned_patterns()}

    carrying = [place for place in sheets if place[1] > 1]
    assert found.keys() == {"p", "ü"}
    assert found["p"].sheets == len(carrying)
    assert found["p"].jobs == len({job_id for job_id, _ in carrying})
    assert found["ü"].sheets == len([place for place in carrying if place[1] > 2])


async def test_list_that_is_broken_in_an_older_file_carries_nothing_and_can_be_replaced(
    database: Path, behind: sqlite3.Connection
) -> None:
    with closing(sqlite3.connect(database)) as older:
        older.executescript(OLDER.read_text())
        job_id, sheet_num = older.execute("SELECT job_id, sheet_num FROM sheets").fetchone()
        older.execute("UPDATE sheets SET learned_patterns = '[\"p\"]'")
        older.execute(
            "UPDATE sheets SET learned_patterns = '[\"p' WHERE job_id = ? AND sheet_num = ?",
            (job_id, sheet_num),
        )
        (sheets,) = older.execute("SELECT count(*) FROM sheets").fetchone()
        older.commit()

    async with SQLiteStateBackend(database) as backend:
        (before,) = await backend.get_learned_patterns()
        await backend.save_sheet(job_id, learned(sheet_num, SheetStatus.COMPLETED, "p"))
        (after,) = await backend.get_learned_patterns()

    assert (before.sheets, after.sheets) == (sheets - 1, sheets)
    assert_counters_are_right(behind)


async def test_pruned_job_stays_learned_and_a_deleted_one_does_not(
    database: Path, behind: sqlite3.Connection
) -> None:
    async with SQLiteStateBackend(database) as backend:
        for job_id, status in (("kept", "completed"), ("old", "failed"), ("older", "failed")):
            sheets = {1: learned(1, SheetStatus(status), "p"), 2: learned(2, SheetStatus.FAILED)}
            sheets[3] = learned(3, SheetStatus.COMPLETED)
            await backend.save(CheckpointState(job_id=job_id, total_sheets=3, sheets=sheets))
        before = await backend.get_learned_patterns()

    for job_id in ("old", "older"):
        keep_what_was_learned(behind, job_id)
        behind.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
    behind.commit()
    assert_counters_are_right(behind)

    async with SQLiteStateBackend(database) as backend:
        (pruned,) = await backend.get_learned_patterns()
        await backend.delete("kept")
        (deleted,) = await backend.get_learned_patterns()

    names = {name: getattr(before[0], name) for name in before[0].__struct_fields__}
    assert {name: getattr(pruned, name) for name in names} == names | {"job_ids": ["kept"]}
    assert (deleted.sheets, deleted.jobs, deleted.job_ids) == (2, 2, [])
    assert (deleted.success_rate, deleted.success_rate_without) == (0.0, 50.0)


async def test_job_that_is_made_anew_under_the_id_of_a_pruned_one_adds_to_it(
    database: Path, behind: sqlite3.Connection
) -> None:
    job = CheckpointState(job_id="job", total_sheets=1)
    job.sheets[1] = learned(1, SheetStatus.COMPLETED, "p")
    async with SQLiteStateBackend(database) as backend:
        await backend.save(job)
    keep_what_was_learned(behind, "job")
    behind.execute("DELETE FROM jobs")
    behind.commit()

    async with SQLiteStateBackend(database) as backend:
        await backend.save(job)
        (found,) = await backend.get_learned_patterns()

    assert (found.sheets, found.jobs, found.job_ids) == (2, 2, ["job"])
    assert_counters_are_right(behind)


@pytest.fixture
async def watched(database: Path, behind: sqlite3.Connection) -> sqlite3.Connection:
    """A job of two sheets with one pattern; each update of `pattern_jobs` leaves a row in
    `updated`."""
    sheets = {number: learned(number, SheetStatus.COMPLETED, "p") for number in (1, 2)}
    async with SQLiteStateBackend(database) as backend:
        await backend.save(CheckpointState(job_id="job", total_sheets=2, sheets=sheets))
    behind.execute("CREATE TEMP TABLE updated (pattern)")
    behind.execute(
        "CREATE TEMP TRIGGER spy AFTER UPDATE ON pattern_jobs BEGIN "
        "INSERT INTO updated VALUES (new.pattern); END"
    )
    return behind


@pytest.mark.parametrize(
    ("change", "updates"),
    [
        ("UPDATE sheets SET status = status, error_message = 'x', attempt_count = 9", 0),
        ("UPDATE sheets SET status = 'failed' WHERE sheet_num = 1", 1),
        ("UPDATE sheets SET confidence_score = NULL WHERE sheet_num = 1", 1),
        ("UPDATE sheets SET confidence_score = 0.25", 2),
        ("UPDATE sheets SET started_at = NULL WHERE sheet_num = 1", 1),
        ("UPDATE sheets SET completed_at = NULL WHERE sheet_num = 1", 1),
        ("UPDATE sheets SET learned_patterns = NULL WHERE sheet_num = 1", 1),
        ("DELETE FROM sheets WHERE sheet_num = 1", 1),
        ("DELETE FROM jobs", 0),
    ],
)
async def test_counts_are_moved_by_what_changes_them_and_a_deleted_job_is_taken_out_at_once(
    watched: sqlite3.Connection, change: str, updates: int
) -> None:
    watched.execute(change)

    assert watched.execute("SELECT count(*) FROM updated").fetchone() == (updates,)
    assert_counters_are_right(watched)
