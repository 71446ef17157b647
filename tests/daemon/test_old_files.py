"""Files of earlier tools: everything in them is found, typed where it is understood, in `extra`
where not."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobkeep.adapters import Adapter
from jobkeep_protocol.errors import StorageError
from jobkeep_protocol.states import CheckpointState, JobStatus, SheetStatus
from jobkeepd.backend import SQLiteStateBackend
from jobkeepd.store.earlier.cells import as_json
from jobkeepd.store.examine import examine
from jobkeepd.store.schema import SCHEMA_VERSION
from tests.daemon.old_files import (
    ATTEMPT,
    ATTEMPT_AS_IT_IS_KEPT,
    JOB,
    JOB_AS_IT_IS_KEPT,
    SHEET,
    SHEET_AS_IT_IS_KEPT,
    VERSIONS,
    columns,
    make_old_file,
    sample,
)

JOB_ID: str = JOB["id"]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where the file is to be."""
    return tmp_path / "state.db"


async def _jobs(database: Path) -> dict[str, CheckpointState]:
    async with SQLiteStateBackend(database) as backend:
        return {job.job_id: job for job in await backend.list_jobs()}


def opened(database: Path) -> dict[str, CheckpointState]:
    """The jobs in a file once a backend has opened it; holds it to a file in which all is well."""
    jobs = asyncio.run(_jobs(database))
    problems: list[str] = []
    assert examine(database, problems.append), problems
    return jobs


def rows(database: Path, table: str) -> list[dict[str, Any]]:
    """The rows of a table, in the order of its key."""
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2")]  # noqa: S608 # a name of the test's own


def cells_as_they_were(state: Any) -> dict[str, Any]:
    """What was kept of the cells of a job or a sheet that were not understood."""
    values: dict[str, Any] = state.extra["old_file"]["values"]
    return values


# -- every version -------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_every_column_of_every_version_is_there_with_its_type(database: Path, version: int) -> None:
    sample(database, version)

    opened(database)

    for table, original, kept in (
        ("jobs", JOB, JOB_AS_IT_IS_KEPT),
        ("sheets", SHEET, SHEET_AS_IT_IS_KEPT),
        ("execution_history", ATTEMPT, ATTEMPT_AS_IT_IS_KEPT),
    ):
        [row] = rows(database, table)
        had = {column.split()[0] for column in columns(table, version)} & set(original)
        had |= {"success_without_retry"} & set(original)
        assert {name: row[name] for name in had} == {name: kept[name] for name in had}
        assert row.get("extra", "{}") == "{}"
    assert rows(database, "execution_extra") == []


@pytest.mark.parametrize("version", VERSIONS)
async def test_state_of_every_version_can_be_worked_on(database: Path, version: int) -> None:
    sample(database, version)
    async with SQLiteStateBackend(database) as backend:
        state = await backend.load(JOB_ID)
        assert state is not None
        assert state.config_snapshot == {"a": [1, None], "b": {}}
        assert state.sheets[1].success_without_retry is True
        assert await backend.claim_next_sheet(JOB_ID) == 2
        assert await backend.record_execution(JOB_ID, 2, 1, output="again") == 8
        assert await backend.get_execution_history_count(JOB_ID) == 2
        assert await backend.delete(JOB_ID)
    assert rows(database, "sheets") == rows(database, "execution_history") == []


@pytest.mark.parametrize("version", VERSIONS)
def test_copy_of_the_file_as_it_was_lies_beside_it(database: Path, version: int) -> None:
    sample(database, version)
    before = rows(database, "jobs"), rows(database, "sheets"), rows(database, "execution_history")

    opened(database)

    [copy] = database.parent.glob(f"state.db.v{version}-*Z")
    assert (rows(copy, "jobs"), rows(copy, "sheets"), rows(copy, "execution_history")) == before
    assert copy.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("version", VERSIONS)
def test_empty_file_of_every_version_becomes_an_empty_database(
    database: Path, version: int
) -> None:
    make_old_file(database, version)
    assert opened(database) == {}
    versions = [row["version"] for row in rows(database, "schema_version")]
    assert versions == [*range(1, version + 1), SCHEMA_VERSION]


# -- mixtures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("versions", [[], [None], [0], [1, 1, 2], ["2"], [2.0]])
def test_file_whose_version_is_not_written_down_as_it_should_be_is_opened_by_its_tables(
    database: Path, versions: list[Any]
) -> None:
    make_old_file(database, 2, [JOB], [SHEET], versions=versions)

    jobs = opened(database)

    assert jobs[JOB_ID].config_path == JOB["config_path"]
    assert jobs[JOB_ID].sheets[1].exit_reason == "killed"


@pytest.mark.parametrize(
    "missing", ["schema_version", "execution_history", "sheets", "jobs", "jobs; DROP TABLE sheets"]
)
def test_file_in_which_a_table_is_missing_is_opened_with_what_it_has(
    database: Path, missing: str
) -> None:
    make_old_file(database, 3, [JOB], [SHEET], [ATTEMPT], and_then=f"DROP TABLE {missing};")

    jobs = opened(database)

    assert list(jobs) == [JOB_ID]
    assert bool(jobs[JOB_ID].sheets) is ("sheets" not in missing)
    assert len(rows(database, "execution_history")) == ("execution_history" not in missing)


def test_versions_that_say_more_than_they_should_are_kept_beside(database: Path) -> None:
    make_old_file(
        database,
        2,
        and_then="ALTER TABLE schema_version ADD COLUMN note; UPDATE schema_version SET note = 'n';"
        "INSERT INTO schema_version VALUES ('two and a half', 'then', NULL);",
    )
    opened(database)
    kept = rows(database, "old_schema_version_as_it_was")
    assert [(row["version"], row["note"]) for row in kept] == [
        (1, "n"),
        (2, "n"),
        ("two and a half", None),
    ]


@pytest.mark.parametrize(
    ("version", "older", "newer", "kept"),
    [
        (3, 1, 0, True),  # the new column was added, and its values were not copied yet
        (3, 0, 1, False),
        (3, None, 1, True),
        (4, 0, 1, True),
        (4, 1, None, True),
        (4, None, None, False),
    ],
)
def test_rename_of_first_attempt_success_that_was_interrupted_is_understood(
    database: Path, version: int, older: Any, newer: Any, kept: bool
) -> None:
    both = {"first_attempt_success": older, "success_without_retry": newer}
    make_old_file(database, version, [JOB], [{**SHEET, **both}])

    sheet = (opened(database))[JOB_ID].sheets[1]

    assert sheet.success_without_retry is kept
    if older is not None and newer is not None:
        assert cells_as_they_were(sheet) == both
    else:
        assert sheet.extra == {}


def test_columns_of_later_versions_are_understood_in_any_file(database: Path) -> None:
    later = {"model": "m", "input_tokens": 5, "estimated_cost": "0.5", "error_code": 17}
    make_old_file(database, 1, [{**JOB, "revision": 8}], [{**SHEET, **later}])

    job = (opened(database))[JOB_ID]

    sheet = job.sheets[1]
    found = sheet.model, sheet.input_tokens, sheet.estimated_cost, sheet.error_code
    assert found == ("m", 5, 0.5, "17")
    assert job.revision == 8
    assert sheet.extra == job.extra == {}


def test_file_in_the_habits_of_another_program_is_opened(database: Path) -> None:
    make_old_file(
        database,
        4,
        and_then="DROP TABLE jobs; DROP TABLE sheets;"
        'CREATE TABLE "Jobs" (Total_Sheets, STATUS, "ID" TEXT PRIMARY KEY, name) WITHOUT ROWID;'
        "CREATE TABLE sheets (status, sheet_num, job_id, PRIMARY KEY (job_id, sheet_num),"
        " CHECK (sheet_num > 0), FOREIGN KEY (job_id) REFERENCES jobs(id) ON DELETE SET NULL);"
        "INSERT INTO Jobs VALUES (3, 'JobStatus.PAUSED', 'x', 'n');"
        "INSERT INTO sheets VALUES ('Skipped', 2, 'x');",
    )
    job = (opened(database))["x"]
    assert (job.total_sheets, job.status, job.job_name) == (3, JobStatus.PAUSED, "n")
    assert job.sheets[2].status is SheetStatus.SKIPPED
    assert job.extra == {}


def test_check_finds_nothing_to_delete_in_what_will_be_taken_over(database: Path) -> None:
    orphan = {**SHEET, "job_id": "gone"}
    make_old_file(database, 3, [JOB], [orphan], [{**ATTEMPT, "job_id": "gone"}])
    said: list[str] = []
    assert examine(database, said.append), said
    assert "the file has schema version 3, and jobkeepd brings it to" in said[-1]


def test_what_is_in_a_log_that_the_tool_left_is_there(database: Path) -> None:
    written = database.with_name("written.db")
    sample(written, 3)
    with closing(sqlite3.connect(written)) as tool:
        tool.execute("PRAGMA journal_mode = WAL")
        tool.execute("UPDATE jobs SET name = 'in the log'")
        tool.commit()
        for suffix in ("", "-wal"):  # as a kill would leave them
            shutil.copyfile(f"{written}{suffix}", f"{database}{suffix}")

    assert opened(database)[JOB_ID].job_name == "in the log"


# -- cells ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("2024-05-01T10:00:00", "2024-05-01T10:00:00.000000+00:00"),
        ("2024-05-01 10:00:00", "2024-05-01T10:00:00.000000+00:00"),
        (" 2024-05-01 10:00:00.5 UTC", "2024-05-01T10:00:00.500000+00:00"),
        ("2024-05-01T10:00:00Z", "2024-05-01T10:00:00.000000+00:00"),
        ("2024-05-01T10:00:00.123456+05:30", "2024-05-01T04:30:00.123456+00:00"),
        ("2024-05-01", "2024-05-01T00:00:00.000000+00:00"),
        ("20240501", "2024-05-01T00:00:00.000000+00:00"),
        (1714557600, "2024-05-01T10:00:00.000000+00:00"),
        (1714557600.25, "2024-05-01T10:00:00.250000+00:00"),
        ("1714557600", "2024-05-01T10:00:00.000000+00:00"),
        (1714557600123, "2024-05-01T10:00:00.123000+00:00"),
        (1714557600123456, "2024-05-01T10:00:00.123456+00:00"),
        (1714557600123456000, "2024-05-01T10:00:00.123456+00:00"),
    ],
)
def test_time_is_understood_however_it_is_written(database: Path, written: Any, kept: str) -> None:
    make_old_file(database, 1, [{**JOB, "started_at": written}], is_loose=True)
    jobs = opened(database)
    [row] = rows(database, "jobs")
    assert row["started_at"] == kept
    assert jobs[JOB_ID].extra == {}


BAD_CELLS_OF_JOBS = [
    ("name", b"\xff\x00", "\ufffd\x00"),
    ("total_sheets", 0, 3),  # as many as there are sheets
    ("total_sheets", -1, 3),
    ("total_sheets", "many", 3),
    ("last_completed_sheet", -1, 0),
    ("last_completed_sheet", 9, 4),  # its total
    ("current_sheet", "two", None),
    ("config_snapshot", "{broken", None),
    ("config_snapshot", "[1]", None),
    ("config_snapshot", "{'a': 1}", None),
    ("config_snapshot", '{"a": NaN}', None),
    ("config_snapshot", '{"a": 123456789012345678901234567890}', None),
    ("config_snapshot", '{"a":' * 70 + "1" + "}" * 70, None),
    ("pid", b"4711", None),
    ("total_retry_count", -3, 0),
    ("created_at", "yesterday", "2024-05-01T10:00:01.000000+00:00"),  # its first time
    ("updated_at", 12, "2024-05-02T11:30:00.000000+00:00"),  # its last
    ("started_at", "0001-01-01T00:00:00+05:00", None),
    ("started_at", "2024-05-01T10:00:00.1234567", "2024-05-01T10:00:00.123456+00:00"),
    ("extra", "no JSON", '{"old_file":{"values":{"extra":"no JSON"}}}'),
]


@pytest.mark.parametrize(("column", "written", "kept"), BAD_CELLS_OF_JOBS)
def test_cell_of_a_job_that_is_not_understood_is_kept_as_it_was(
    database: Path, column: str, written: Any, kept: Any
) -> None:
    sheet = {"job_id": JOB_ID, "sheet_num": 3}
    make_old_file(database, 2, [{**JOB, column: written}], [sheet], is_loose=True)

    jobs = opened(database)

    assert rows(database, "jobs")[0][column] == kept
    assert cells_as_they_were(jobs[JOB_ID]) == {column: as_json(written)}


@pytest.mark.parametrize(
    ("column", "written", "kept"),
    [
        ("attempt_count", -1, 0),
        ("attempt_count", 1.5, 0),
        ("exit_code", "SIGKILL", None),
        ("validation_passed", "perhaps", None),
        ("validation_passed", 2, None),
        ("validation_details", '{"rule": "x"}', None),
        ("passed_validations", "[1, 2]", None),
        ("learned_patterns", "one, two", None),
        ("outcome_data", "5", None),
        ("confidence_score", 1.5, None),
        ("confidence_score", float("inf"), None),
        ("last_pass_percentage", "nan", None),
        ("execution_duration_seconds", -1.0, None),
        ("success_without_retry", b"\x01", 0),
        ("error_message", b"caf\xe9", "caf\ufffd"),
    ],
)
def test_cell_of_a_sheet_that_is_not_understood_is_kept_as_it_was(
    database: Path, column: str, written: Any, kept: Any
) -> None:
    make_old_file(database, 4, [JOB], [{**SHEET, column: written}], is_loose=True)

    jobs = opened(database)

    assert rows(database, "sheets")[0][column] == kept
    assert cells_as_they_were(jobs[JOB_ID].sheets[1]) == {column: as_json(written)}


@pytest.mark.parametrize(
    ("column", "written", "kept"),
    [
        ("attempt_num", "first", 0),
        ("sheet_num", None, 0),
        ("exit_code", 0.5, None),
        ("duration_seconds", -2, None),
        ("executed_at", "then", JOB_AS_IT_IS_KEPT["updated_at"]),
        ("output", b"\x80", "\ufffd"),
        ("id", "seven", 1),
        ("id", 2**63 - 1, 1),  # nothing could follow it
    ],
)
def test_cell_of_an_attempt_that_is_not_understood_is_kept_beside_it(
    database: Path, column: str, written: Any, kept: Any
) -> None:
    make_old_file(database, 4, [JOB], [SHEET], [{**ATTEMPT, column: written}], is_loose=True)

    opened(database)

    [attempt] = rows(database, "execution_history")
    assert attempt[column] == kept
    extras = {row["execution_id"]: row["extra"] for row in rows(database, "execution_extra")}
    if written is None:
        assert extras == {}
    else:
        found = msgspec.json.decode(extras[attempt["id"]])
        assert found == {"old_file": {"values": {column: as_json(written)}}}


def test_missing_values_become_what_they_have_to_be(database: Path) -> None:
    nothing = dict.fromkeys(name.split()[0] for name in columns("jobs", 4))
    done = {"job_id": "x", "sheet_num": 1, "status": "completed"}
    begun = {"job_id": "x", "sheet_num": 2, "status": "in_progress"}
    failed = {"job_id": "x", "sheet_num": 3, "status": "failed"}
    make_old_file(
        database,
        4,
        [{**nothing, "id": "x", "updated_at": "2024-05-01"}],
        [done, begun, failed],
        is_loose=True,
    )
    job = (opened(database))["x"]
    again = (opened(database))["x"]
    assert job == again, "the times are on disk, not made at each load"
    assert (job.job_name, job.status, job.total_sheets) == ("", JobStatus.PENDING, 3)
    assert job.sheets[1].completed_at == job.sheets[2].started_at == job.updated_at
    assert job.sheets[3].error_message == "Unknown failure (no message was recorded)"
    assert job.extra == {}


async def test_text_too_large_for_a_reply_is_cut_and_kept_whole_beside(database: Path) -> None:
    output = "größer " * 4_000_000
    make_old_file(database, 1, [JOB], [SHEET], [{**ATTEMPT, "output": output}])
    async with SQLiteStateBackend(database) as backend:
        [record] = await backend.get_execution_history(JOB_ID)
    assert record["output"]
    assert output.startswith(record["output"])
    [beside] = rows(database, "execution_extra")
    kept = msgspec.json.decode(beside["extra"])["old_file"]["values"]
    assert kept == {"output": output}
    assert record["prompt"] == ATTEMPT["prompt"]


# -- statuses and processes ----------------------------------------------------------------------


def test_unknown_status_of_a_job_is_kept_and_the_job_paused(database: Path) -> None:
    make_old_file(database, 1, [{**JOB, "status": "zombified", "error_message": None}])
    job = (opened(database))[JOB_ID]
    assert job.status is JobStatus.PAUSED
    assert "'zombified'" in str(job.error_message)
    assert cells_as_they_were(job) == {"status": "zombified"}


async def test_sheet_of_unknown_status_is_held_and_not_run_again(database: Path) -> None:
    make_old_file(database, 1, [JOB], [{**SHEET, "status": "odd", "sheet_num": 2}])
    async with SQLiteStateBackend(database) as backend:
        state = await backend.load(JOB_ID)
        assert await backend.claim_next_sheet(JOB_ID) == 1
        assert await backend.claim_next_sheet(JOB_ID) == 3
    assert state is not None
    assert state.sheets[2].status is SheetStatus.FERMATA
    assert state.sheets[2].error_message == SHEET["error_message"]
    assert cells_as_they_were(state.sheets[2]) == {"status": "odd"}


@pytest.mark.parametrize("status", ["running", "RUNNING", "JobStatus.RUNNING"])
@pytest.mark.parametrize("pid", [2**22 + 1, os.getpid(), None], ids=["gone", "alive", "none"])
def test_running_job_is_paused_whatever_has_its_pid_now(
    database: Path, status: str, pid: int | None
) -> None:
    running = {**JOB, "status": status, "pid": pid, "error_message": ""}
    make_old_file(database, 3, [running], [{**SHEET, "sheet_num": 2, "status": "in_progress"}])

    job = (opened(database))[JOB_ID]

    assert (job.status, job.pid) == (JobStatus.PAUSED, None)
    assert "was running" in str(job.error_message)
    assert cells_as_they_were(job)["status"] == status
    assert cells_as_they_were(job).get("pid") == pid
    assert job.get_next_sheet() == 2


def test_error_of_a_running_job_stays(database: Path) -> None:
    make_old_file(database, 3, [{**JOB, "status": "running"}])
    assert (opened(database))[JOB_ID].error_message == JOB["error_message"]


# -- rows that have no place ---------------------------------------------------------------------


def test_sheets_and_attempts_without_a_job_get_one_that_says_so(database: Path) -> None:
    make_old_file(
        database,
        2,
        [JOB],
        [{**SHEET, "job_id": "gone"}, {"job_id": "gone", "sheet_num": 5, "status": "pending"}],
        [{**ATTEMPT, "job_id": "gone"}, {**ATTEMPT, "id": 8, "job_id": "also gone"}],
    )
    jobs = opened(database)

    gone = jobs["gone"]
    assert (gone.status, gone.total_sheets, gone.last_completed_sheet) == (JobStatus.PAUSED, 5, 1)
    assert gone.sheets[1].error_category == SHEET["error_category"]
    assert "no row of its own" in gone.extra["old_file"]["note"]
    assert "no row of its own" in jobs["also gone"].extra["old_file"]["note"]
    assert gone.created_at.isoformat() == "2024-05-01T10:00:02+00:00"
    assert [row["job_id"] for row in rows(database, "execution_history")] == ["gone", "also gone"]


@pytest.mark.parametrize("number", [None, 0, -1, "first", b"1", 1.5])
def test_sheet_without_a_number_is_kept_whole_in_its_job(database: Path, number: Any) -> None:
    sheet = {**SHEET, "sheet_num": number}
    make_old_file(database, 4, [JOB], [sheet], is_loose=True)

    job = (opened(database))[JOB_ID]

    whole = {name: as_json(value) for name, value in sheet.items() if value is not None}
    assert job.sheets == {}
    assert job.extra["old_file"]["rows"] == {"sheets": [whole]}


def test_rows_that_mean_the_same_are_all_kept_and_the_last_written_goes(
    database: Path,
) -> None:
    make_old_file(
        database,
        4,
        [{"id": "5", "name": "first"}, {"id": 5, "name": "second"}],
        [{"job_id": 5, "sheet_num": 1, "model": "a"}, {"job_id": "5", "sheet_num": "1"}],
        [{**ATTEMPT, "job_id": "5"}, {**ATTEMPT, "job_id": 5}, {**ATTEMPT, "job_id": 5, "id": 9}],
        is_loose=True,
    )
    job = (opened(database))["5"]

    assert (job.job_name, job.sheets[1].model) == ("second", None)
    assert job.extra["old_file"]["rows"] == {
        "jobs": [{"id": "5", "name": "first"}],
        "sheets": [{"job_id": 5, "sheet_num": 1, "model": "a"}],
    }
    assert [row["id"] for row in rows(database, "execution_history")] == [7, 9, 10]
    [beside] = rows(database, "execution_extra")
    assert beside == {"execution_id": 10, "extra": '{"old_file":{"values":{"id":7}}}'}


def test_rows_that_are_too_many_for_the_extra_of_their_job_are_in_a_table(database: Path) -> None:
    saves = [{**JOB, "name": f"save {number}", "description": "x" * 9_000} for number in range(200)]
    make_old_file(database, 4, [*saves, {"id": "b"}, {"id": "b", "name": "last"}], is_loose=True)

    jobs = opened(database)

    assert jobs[JOB_ID].job_name == "save 199"
    assert jobs[JOB_ID].extra == {"old_file": {"more_rows": "old_rows"}}
    assert jobs["b"].extra == {"old_file": {"rows": {"jobs": [{"id": "b"}]}}}
    names = {json.loads(row["row"])["name"] for row in rows(database, "old_rows")}
    assert names == {f"save {number}" for number in range(199)}


@pytest.mark.parametrize(
    ("written", "job_id"),
    [
        (None, "(no id)"),
        ("", "(no id)"),
        (17, "17"),
        (b"bytes", "bytes"),
        (b"\xff", "\ufffd"),
        ("x" * 600, "x" * 495 + "-5130b33e6b87fbf5"),
    ],
)
def test_job_with_an_id_that_cannot_be_one_is_there_with_all_that_is_its_own(
    database: Path, written: Any, job_id: str
) -> None:
    make_old_file(
        database,
        4,
        [{**JOB, "id": written}],
        [{**SHEET, "job_id": written}],
        [{**ATTEMPT, "job_id": written}],
        is_loose=True,
    )
    jobs = opened(database)

    assert list(jobs) == [job_id]
    assert list(jobs[job_id].sheets) == [1]
    assert [row["job_id"] for row in rows(database, "execution_history")] == [job_id]


async def test_ids_of_attempts_go_on_after_the_highest_there_ever_was(database: Path) -> None:
    make_old_file(
        database,
        4,
        [JOB],
        [SHEET],
        [ATTEMPT, {**ATTEMPT, "id": 40}],
        and_then="DELETE FROM execution_history WHERE id = 40",
    )
    async with SQLiteStateBackend(database) as backend:
        assert await backend.record_execution(JOB_ID, 1, 2) == 41


# -- what jobkeep does not know ------------------------------------------------------------------


class OwnState(msgspec.Struct):
    """An application's own type, with a field that jobkeep does not have."""

    job_id: str
    total_sheets: int
    status: str
    priority: str = "none"


def test_unknown_columns_are_in_extra_and_in_the_callers_own_fields(database: Path) -> None:
    make_old_file(
        database,
        3,
        [{**JOB, "priority": "high", "job_id": "clash", "status": "odd", "blob": b"\x00"}],
        [{**SHEET, "reviewer": 'it"s me', "id": 12}],
        [{**ATTEMPT, "host": "a machine"}],
    )
    job = (opened(database))[JOB_ID]
    own = Adapter(OwnState).from_state(job)

    assert (job.extra["priority"], job.extra["blob"]) == ("high", {"base64": "AA=="})
    assert cells_as_they_were(job) == {"status": "odd", "job_id": "clash"}
    assert job.sheets[1].extra == {"reviewer": 'it"s me', "id": 12}
    assert rows(database, "execution_extra") == [
        {"execution_id": 7, "extra": '{"host":"a machine"}'}
    ]
    assert own == OwnState(JOB_ID, 4, "paused", "high")


def test_extra_that_a_file_has_already_is_kept_with_what_is_added(database: Path) -> None:
    extra = '{"priority": 1, "old_file": "mine"}'
    make_old_file(database, 4, [{**JOB, "extra": extra, "priority": 2, "pid": "?"}], is_loose=True)
    job = (opened(database))[JOB_ID]
    assert job.extra == {
        "priority": 1,
        "old_file": {"values": {"priority": 2, "pid": "?", "old_file": "mine"}},
    }


def test_unknown_tables_stay_and_one_with_a_name_of_ours_gets_another(
    database: Path,
) -> None:
    make_old_file(
        database,
        2,
        [JOB],
        and_then="CREATE TABLE notes (job_id REFERENCES jobs(id), note);"
        "INSERT INTO notes SELECT id, 'n' FROM jobs;"
        "CREATE TABLE failures (x); INSERT INTO failures VALUES (1);"
        "CREATE TABLE old_failures (y); CREATE INDEX idx_claims_pid ON notes(note);"
        "CREATE VIEW seen AS SELECT first_attempt_success FROM sheets;"
        "CREATE VIRTUAL TABLE search_executions USING fts5(text);"
        "INSERT INTO search_executions VALUES ('found');"
        "CREATE TABLE search_failures_of_mine (z); INSERT INTO search_failures_of_mine VALUES (2);"
        "CREATE VIEW claims AS SELECT 1;"
        "CREATE TRIGGER noted AFTER UPDATE ON jobs BEGIN DELETE FROM notes; END;",
    )
    opened(database)

    with closing(sqlite3.connect(database)) as connection:
        notes = connection.execute("SELECT * FROM notes").fetchall()
        [(text,)] = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'notes'")
        failures = connection.execute("SELECT * FROM old_failures_2").fetchall()
        found = connection.execute(
            "SELECT * FROM old_search_executions WHERE text MATCH 'found'"
        ).fetchall()
        mine = connection.execute("SELECT * FROM old_search_failures_of_mine").fetchall()
    assert notes == [(JOB_ID, "n")]
    assert "REFERENCES jobs(id)" in text
    assert (failures, found, mine) == ([(1,)], [("found",)], [(2,)])


async def test_job_that_an_unknown_table_refers_to_stays_until_that_lets_it_go(
    database: Path,
) -> None:
    make_old_file(
        database,
        2,
        [JOB],
        [SHEET],
        and_then="CREATE TABLE notes (job_id REFERENCES jobs(id));"
        "INSERT INTO notes SELECT id FROM jobs;",
    )
    async with SQLiteStateBackend(database) as backend:
        with pytest.raises(StorageError, match="nothing was written: FOREIGN KEY constraint"):
            await backend.delete(JOB_ID)
        state = await backend.load(JOB_ID)
    assert state is not None
    assert list(state.sheets) == [1]


def test_log_says_what_was_found_in_a_line_for_each_kind(
    database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = {**SHEET, "confidence_score": 1.5, "reviewer": "me"}
    make_old_file(
        database,
        2,
        [{**JOB, "status": "running"}],
        [bad, {**bad, "sheet_num": 2}, {**bad, "sheet_num": 0}, {**SHEET, "job_id": "gone"}],
    )
    with caplog.at_level(logging.INFO, "jobkeepd.store"):
        opened(database)

    said = [record.getMessage() for record in caplog.records if "migr" in record.name]
    told = [record.getMessage() for record in caplog.records if "earlier" in record.name]
    assert any("from version 2 to 7; a copy of the file as it was is" in line for line in said)
    assert told == [
        "cells that were not understood are kept as they were in `extra`, under 'old_file': "
        "sheets.confidence_score 2",
        "values of columns that jobkeep does not have are in `extra` now: sheets.reviewer 2",
        "jobs that were running, and are paused now: 1",
        "rows of sheets that are kept in the `extra` of a job: 1",
        "jobs that were made for sheets and attempts without one: 1",
    ]


def test_file_of_another_program_with_a_table_of_the_same_name_is_refused(
    database: Path,
) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript("CREATE TABLE jobs (id, title); CREATE TABLE sheets (paper);")
    before = database.read_bytes()
    with pytest.raises(StorageError, match="so it is not jobkeep's"):
        opened(database)
    assert database.read_bytes() == before
