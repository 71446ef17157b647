"""Files of an earlier version of the schema: brought to this one, with nothing lost."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobkeep_protocol.errors import StorageError
from jobkeepd.backend import SQLiteStateBackend
from jobkeepd.store import migrations
from jobkeepd.store.copies import copy_before_migration, remove_leftovers
from jobkeepd.store.schema import INDEXES_AND_TRIGGERS, SCHEMA_VERSION, TABLES
from tests.daemon.counters import assert_counters_are_right

OLDER = Path(__file__).with_name("schema_5.sql")
"""A file that version 5 made: jobs with a gap, with no sheets, with a claim, done and deleted."""


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A file of version 5."""
    database = tmp_path / "state.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(OLDER.read_text())
    return database


def contents(database: Path, table: str, columns: str) -> list[tuple[object, ...]]:
    """The rows of a table, in the order of its key."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(
            f"SELECT {columns} FROM {table} ORDER BY 1, 2"  # noqa: S608 # names of ours
        ).fetchall()


def columns(database: Path, table: str) -> str:
    """The names of the columns of a table."""
    with closing(sqlite3.connect(database)) as connection:
        found = connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
        return ", ".join(name for (name,) in found)


def copies(database: Path) -> list[Path]:
    """The copies beside a file that were made before it was changed."""
    return sorted(database.parent.glob("state.db.v*"))


async def open_and_close(database: Path) -> None:
    """What makes the file one of this version."""
    async with SQLiteStateBackend(database) as backend:
        await backend.list_jobs()


@pytest.mark.parametrize(
    "table", ["sheets", "execution_history", "claims", "workers", "applied_requests"]
)
async def test_rows_of_an_older_file_stay_as_they_were(older: Path, table: str) -> None:
    names = columns(older, table)
    before = contents(older, table, names)

    await open_and_close(older)

    assert before
    assert contents(older, table, names) == before


async def test_jobs_of_an_older_file_stay_as_they_were_but_for_their_sequence(older: Path) -> None:
    names = columns(older, "jobs").replace(" sequence,", "")
    before = contents(older, "jobs", names)
    order = contents(older, "jobs", "sequence, id")

    await open_and_close(older)

    assert contents(older, "jobs", names) == before
    assert [job for _, job in contents(older, "jobs", "sequence, id")] == [job for _, job in order]


async def test_counters_of_a_migrated_file_are_right(older: Path) -> None:
    await open_and_close(older)

    with closing(sqlite3.connect(older)) as connection:
        assert_counters_are_right(connection)


async def test_figures_for_reports_are_counted_in_a_migrated_file(older: Path) -> None:
    with closing(sqlite3.connect(older)) as connection, connection:
        connection.execute(
            'UPDATE sheets SET passed_validations = \'["a", "b"]\', '
            "failed_validations = '[\"a\"]', "
            "outcome_category = 'good', input_tokens = 7, estimated_cost = 0.5 "
            "WHERE job_id = 'a/😀'"
        )
        connection.execute("UPDATE execution_history SET exit_code = NULL WHERE exit_code <> 0")
        (sheets,) = connection.execute(
            "SELECT count(*) FROM sheets WHERE job_id = 'a/😀'"
        ).fetchone()

    async with SQLiteStateBackend(older) as backend:
        overview = await backend.get_overview()
        validations = await backend.get_validations()
        outcomes = await backend.get_outcomes()

    assert sheets > 0
    assert (overview.input_tokens, overview.estimated_cost) == (7 * sheets, 0.5 * sheets)
    assert (validations.passed, validations.failed) == (2 * sheets, sheets)
    assert outcomes.sheets == sheets
    with closing(sqlite3.connect(older)) as connection:
        assert_counters_are_right(connection)


async def test_migrated_file_can_be_worked_on(older: Path) -> None:
    async with SQLiteStateBackend(older) as backend:
        assert await backend.get_execution_history_count("a/😀", 1) == 3
        assert await backend.record_execution("a/😀", 1, 4) == 7
        assert await backend.get_execution_history_count("a/😀", 1) == 4
        assert await backend.claim_next_sheet("a/😀") == 4
        assert await backend.claim_next_sheet("a/😀", max_attempts=3) == 2
        newest = [job["id"] for job in await backend.query_jobs()]

    assert newest == ["a/😀", "done", "empty", "claimed"]


async def test_migrated_file_has_the_tables_and_indexes_of_a_new_one(
    older: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new.db"
    await open_and_close(older)
    await open_and_close(new)
    objects = "type, name, iif(type = 'table', NULL, sql)"
    tables = [str(row[1]) for row in contents(new, "sqlite_master", "type, name")]

    assert contents(older, "sqlite_master", objects) == contents(new, "sqlite_master", objects)
    for table in tables:
        with closing(sqlite3.connect(older)) as one, closing(sqlite3.connect(new)) as other:
            pragma = f"PRAGMA table_info({table})"
            found, wanted = one.execute(pragma).fetchall(), other.execute(pragma).fetchall()
        assert {row[1:] for row in found} == {row[1:] for row in wanted}, table


async def test_older_file_is_copied_before_it_is_changed(older: Path) -> None:
    names = columns(older, "jobs")
    before = contents(older, "jobs", names)

    await open_and_close(older)

    [copy] = copies(older)
    assert re.fullmatch(r"state\.db\.v5-\d{8}T\d{6}Z", copy.name)
    assert contents(copy, "jobs", names) == before
    assert contents(copy, "schema_version", "max(version), 0") == [(5, 0)]
    assert copy.stat().st_mode & 0o777 == 0o600


def copy_now(database: Path) -> Path:
    """What a migration does first."""
    with closing(sqlite3.connect(database)) as connection:
        return copy_before_migration(connection, database, 5)


def change(database: Path) -> None:
    """Something else in the file than before."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE jobs SET description = description || 'x', name = name || 'x'")
        connection.commit()


def test_copy_of_other_contents_gets_a_name_of_its_own_within_the_same_second(
    older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = datetime(2026, 11, 25, 8, 12, 0, 5, UTC)
    monkeypatch.setattr("jobkeepd.store.copies.utc_now", lambda: moment)
    first = copy_now(older)
    before = first.read_bytes()
    change(older)

    second = copy_now(older)

    assert first.name == "state.db.v5-20261125T081200Z"
    assert second.name == "state.db.v5-20261125T081200Z-2"
    assert first.read_bytes() == before


def test_copy_of_the_same_contents_is_not_made_twice(older: Path) -> None:
    first = copy_now(older)
    before = first.stat()
    assert copy_now(older) == first
    assert copies(older) == [first]
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_half_a_copy_that_was_left_is_removed_at_the_next_start(older: Path) -> None:
    half = older.with_name("state.db.copy-before-migration")
    half.write_bytes(b"half of it")
    remove_leftovers(older)
    assert not half.exists()


async def test_versions_are_written_down(older: Path) -> None:
    await open_and_close(older)
    await open_and_close(older)
    versions = [version for version, _ in contents(older, "schema_version", "version, applied_at")]
    assert versions == [5, SCHEMA_VERSION]


async def test_migration_that_fails_half_way_leaves_the_file_and_can_be_tried_again(
    older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = columns(older, "jobs")
    before = contents(older, "jobs", names)
    with monkeypatch.context() as patch:
        patch.setitem(migrations._STEPS, 6, (*migrations._STEPS[6], "SELECT missing();"))
        with pytest.raises(StorageError, match="bringing it to 7 failed: no such function"):
            await open_and_close(older)

    assert columns(older, "jobs") == names
    assert contents(older, "jobs", names) == before
    await open_and_close(older)
    assert contents(older, "schema_version", "max(version), 0") == [(SCHEMA_VERSION, 0)]


def _gap(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE jobs SET sheets_through = sheets_through + 1")


def _status(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE job_counts SET jobs = jobs + 1")


def _ordinal(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE execution_history SET ordinal = ordinal + id")


def _figure(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE jobs SET input_tokens = input_tokens + 1")


def _exited(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE jobs SET executions_exited = executions_exited + 1")


def _rule(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO rule_counts SELECT id, 'a', 1, 0 FROM jobs")


def _outcome(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO outcome_counts SELECT id, 'a', 1, 0, 0, 0 FROM jobs")


@pytest.mark.parametrize("spoil", [_gap, _status, _ordinal, _figure, _exited, _rule, _outcome])
async def test_wrong_counters_are_seen(
    older: Path, spoil: Callable[[sqlite3.Connection], None]
) -> None:
    await open_and_close(older)
    with closing(sqlite3.connect(older)) as connection:
        spoil(connection)
        with pytest.raises(AssertionError):
            assert_counters_are_right(connection)


def test_schema_is_whole_without_the_past() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(TABLES + INDEXES_AND_TRIGGERS)
        assert_counters_are_right(connection)
