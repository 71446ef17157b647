"""Files as earlier tools have made them, in each version and mixture.

What lives here: the tables of versions 1 to 4 and a way to fill them with anything, as another
program would: without a log, without foreign keys, in its own types.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

VERSIONS = (1, 2, 3, 4)
Rows = Iterable[Mapping[str, Any]]

_JOBS = """
id TEXT PRIMARY KEY, name TEXT NOT NULL, description TEXT, status TEXT NOT NULL,
total_sheets INTEGER NOT NULL, last_completed_sheet INTEGER DEFAULT 0, current_sheet INTEGER,
config_hash TEXT, config_snapshot TEXT, pid INTEGER, error_message TEXT,
total_retry_count INTEGER DEFAULT 0, rate_limit_waits INTEGER DEFAULT 0, created_at TEXT,
updated_at TEXT, started_at TEXT, completed_at TEXT
"""
_SHEETS = """
job_id TEXT NOT NULL REFERENCES jobs(id), sheet_num INTEGER NOT NULL, status TEXT NOT NULL,
attempt_count INTEGER DEFAULT 0, exit_code INTEGER, error_message TEXT, error_category TEXT,
validation_passed INTEGER, validation_details TEXT, completion_attempts INTEGER DEFAULT 0,
passed_validations TEXT, failed_validations TEXT, last_pass_percentage REAL, execution_mode TEXT,
outcome_data TEXT, confidence_score REAL, learned_patterns TEXT,
similar_outcomes_count INTEGER DEFAULT 0, success_without_retry INTEGER DEFAULT 0,
outcome_category TEXT, started_at TEXT, completed_at TEXT
"""
_ATTEMPTS = """
id INTEGER PRIMARY KEY AUTOINCREMENT, job_id TEXT NOT NULL REFERENCES jobs(id),
sheet_num INTEGER NOT NULL, attempt_num INTEGER NOT NULL, prompt TEXT, output TEXT,
exit_code INTEGER, duration_seconds REAL, executed_at TEXT
"""
_ADDED = {
    2: {"jobs": "config_path TEXT"},
    3: {"sheets": "execution_duration_seconds REAL, exit_signal INTEGER, exit_reason TEXT"},
}
_RENAMED = ("success_without_retry", "first_attempt_success")

JOB: dict[str, Any] = {
    "id": "a job/😀",
    "name": "nightly",
    "description": "größer",
    "status": "failed",
    "total_sheets": 4,
    "last_completed_sheet": 1,
    "current_sheet": 2,
    "config_hash": "abc",
    "config_snapshot": '{"a": [1, null], "b": {}}',
    "pid": 4711,
    "error_message": "no room",
    "total_retry_count": 3,
    "rate_limit_waits": 2,
    "created_at": "2024-05-01T10:00:00.123456",
    "updated_at": "2024-05-02 11:30:00",
    "started_at": "2024-05-01T12:00:01+02:00",
    "completed_at": "2024-05-02T11:30:00Z",
    "config_path": "/etc/job.yaml",
}
JOB_AS_IT_IS_KEPT = {
    **JOB,
    "created_at": "2024-05-01T10:00:00.123456+00:00",
    "updated_at": "2024-05-02T11:30:00.000000+00:00",
    "started_at": "2024-05-01T10:00:01.000000+00:00",
    "completed_at": "2024-05-02T11:30:00.000000+00:00",
}
SHEET: dict[str, Any] = {
    "job_id": JOB["id"],
    "sheet_num": 1,
    "status": "completed",
    "attempt_count": 2,
    "exit_code": 0,
    "error_message": "at first",
    "error_category": "transient",
    "validation_passed": 1,
    "validation_details": '[{"rule": "x", "ok": true}]',
    "completion_attempts": 1,
    "passed_validations": '["x"]',
    "failed_validations": "[]",
    "last_pass_percentage": 87.5,
    "execution_mode": "retry",
    "outcome_data": '{"score": 0.5}',
    "confidence_score": 0.75,
    "learned_patterns": '["one", "two"]',
    "similar_outcomes_count": 4,
    "success_without_retry": 1,
    "outcome_category": "good",
    "started_at": "2024-05-01T10:00:02",
    "completed_at": "2024-05-01T10:00:05.5",
    "execution_duration_seconds": 3.5,
    "exit_signal": 9,
    "exit_reason": "killed",
}
SHEET_AS_IT_IS_KEPT = {
    **SHEET,
    "started_at": "2024-05-01T10:00:02.000000+00:00",
    "completed_at": "2024-05-01T10:00:05.500000+00:00",
}
ATTEMPT: dict[str, Any] = {
    "id": 7,
    "job_id": JOB["id"],
    "sheet_num": 1,
    "attempt_num": 1,
    "prompt": "do it",
    "output": "done: größer",
    "exit_code": 1,
    "duration_seconds": 2.5,
    "executed_at": "2024-05-01 10:00:04",
}
ATTEMPT_AS_IT_IS_KEPT = {**ATTEMPT, "executed_at": "2024-05-01T10:00:04.000000+00:00"}


def columns(table: str, version: int) -> list[str]:
    """The columns that a table has in a version, declared as such a tool would."""
    declared = {"jobs": _JOBS, "sheets": _SHEETS, "execution_history": _ATTEMPTS}[table]
    added = [parts.get(table, "") for since, parts in _ADDED.items() if since <= version]
    text = ",".join([declared, *filter(None, added)])
    if version < 4:
        text = text.replace(*_RENAMED)
    return [" ".join(one.split()) for one in text.split(",")]


def known(table: str, version: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a row that a table of this version has columns for."""
    names = {column.split()[0] for column in columns(table, version)} | {_RENAMED[0]}
    return {name: value for name, value in row.items() if name in names}


def make_old_file(
    database: Path,
    version: int,
    jobs: Rows = (),
    sheets: Rows = (),
    attempts: Rows = (),
    *,
    is_loose: bool = False,
    versions: Iterable[Any] | None = None,
    and_then: str = "",
) -> None:
    """Make a file of this version with these rows, whose columns may be any: those that the version
    does not have are added, and the one that was renamed goes by its older name.

    With `is_loose`, columns have no types, and tables no keys. `versions` are those written down,
    all up to `version` by default; `and_then` is SQL.
    """
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("CREATE TABLE schema_version (version INTEGER, applied_at TEXT)")
        for number in range(1, version + 1) if versions is None else versions:
            connection.execute("INSERT INTO schema_version VALUES (?, '2024-01-01')", (number,))
        for table, rows in (("jobs", jobs), ("sheets", sheets), ("execution_history", attempts)):
            as_named = [_renamed(row) if version < 4 else row for row in rows]
            _make_table(connection, table, version, as_named, is_loose)
        connection.executescript(and_then)
        connection.commit()


def sample(database: Path, version: int) -> None:
    """A file of this version with something in every column."""
    make_old_file(
        database,
        version,
        [known("jobs", version, JOB)],
        [known("sheets", version, SHEET)],
        [ATTEMPT],
        and_then="CREATE INDEX idx_jobs_status ON jobs(status);"
        "CREATE INDEX idx_history ON execution_history(job_id, sheet_num);",
    )


def _make_table(
    connection: sqlite3.Connection,
    table: str,
    version: int,
    rows: list[Mapping[str, Any]],
    is_loose: bool,
) -> None:
    declared = columns(table, version)
    names = [column.split()[0] for column in declared]
    others = dict.fromkeys(name for row in rows for name in row if name not in names)
    if is_loose:
        declared = [_quoted(name) for name in names]
    parts = [*declared, *map(_quoted, others)]
    if table == "sheets" and not is_loose:
        parts.append("PRIMARY KEY (job_id, sheet_num)")
    connection.execute(f"CREATE TABLE {table} ({', '.join(parts)})")
    for row in rows:
        places = ", ".join("?" * len(row))
        connection.execute(
            f"INSERT INTO {table} ({', '.join(map(_quoted, row))}) VALUES ({places})",  # noqa: S608 # names of the test's own
            tuple(row.values()),
        )


def _renamed(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row under the name that the column had, unless it says both."""
    newer, older = _RENAMED
    if newer not in row or older in row:
        return row
    return {older if name == newer else name: value for name, value in row.items()}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
