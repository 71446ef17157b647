"""What must hold in a database beyond what SQLite itself can check.

What lives here: the rules of jobkeep's tables, each a search for rows that break it. What may not:
opening and closing, and what SQLite checks (that is `examine`).

Each search is a generator that reads in pages and keeps nothing, so that a large file needs no more
memory than a small one. Where a table has to be sorted, SQLite does that in a temporary file.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from typing import Any, NamedTuple

from jobkeep_protocol.codec import open_envelope
from jobkeep_protocol.errors import JobkeepError
from jobkeep_protocol.messages import SLOTS
from jobkeepd.store.rows import JOBS, SHEETS, sequence_at
from jobkeepd.store.schema import INDEXES_AND_TRIGGERS, TABLES

CORRECT = "stop the daemon and correct it with sqlite3, or restore a backup"


class Problem(NamedTuple):
    """One thing that is wrong: in which table, and which row of it by its key."""

    where: str
    what: str
    advice: str = CORRECT

    def __str__(self) -> str:
        return " ".join(f"{self.where}: {self.what}; {self.advice}".split())


Search = Callable[[sqlite3.Connection], Iterator[Problem]]

_KEYS = {
    "schema_version": ("version",),
    "jobs": ("id",),
    "sheets": ("job_id", "sheet_num"),
    "job_counts": ("status",),
    "execution_history": ("id",),
    "claims": ("job_id", "sheet_num"),
    "workers": ("job_id", "pid"),
    "applied_requests": ("client_id", "slot"),
    "counters": ("name",),
}


def tables_as_declared(connection: sqlite3.Connection) -> Iterator[Problem]:
    """Every table has the columns, and every index and trigger the text, that `schema` has; there
    is no other trigger."""
    with closing(sqlite3.connect(":memory:")) as declaring:
        declaring.executescript(TABLES + INDEXES_AND_TRIGGERS)
        declared, found = _objects(declaring), _objects(connection)
    for (kind, name), text in declared.items():
        if (kind, name) not in found:
            yield Problem(f"{kind} {name}", "is missing", f"{_MAKE_AGAIN}: {text}")
        elif found[kind, name] != text:
            yield Problem(
                f"{kind} {name}", "is not as declared", f"{_MAKE_AGAIN} in its place: {text}"
            )
    for kind, name in found.keys() - declared.keys():
        if kind == "trigger":
            yield Problem(
                f"{kind} {name}", "is not jobkeep's", "stop the daemon and drop it with sqlite3"
            )


def values_have_their_types(connection: sqlite3.Connection) -> Iterator[Problem]:
    """No column holds a value of another type than it is declared with."""
    for table, keys in _KEYS.items():
        types = connection.execute("SELECT name, lower(type) FROM pragma_table_info(?)", (table,))
        tests = " ".join(
            f"WHEN typeof({name}) NOT IN ('{kind}', 'null') THEN '{name}'" for name, kind in types
        )
        for *key, column in connection.execute(
            f"SELECT {', '.join(keys)}, CASE {tests} END AS wrong FROM {table} WHERE wrong NOTNULL"
        ):
            yield Problem(_place(table, key), f"{column} holds a value of another type")


def jobs_can_be_read(connection: sqlite3.Connection) -> Iterator[Problem]:
    """Every row of `jobs` is a state, updated no later than its sequence says."""
    for sequence, *row in connection.execute(
        f"SELECT sequence, {_columns(JOBS.columns)} FROM jobs"
    ):
        place = _place("jobs", row[:1])
        try:
            state = JOBS.state(_checked(row))
        except (JobkeepError, ValueError, TypeError) as error:
            yield Problem(place, _reason(error))
            continue
        if not isinstance(sequence, int) or sequence < sequence_at(state.updated_at):
            yield Problem(place, f"sequence {sequence!r} is before updated_at")


def sheets_can_be_read(connection: sqlite3.Connection) -> Iterator[Problem]:
    """Every row of `sheets` is a sheet."""
    for job_id, *row in connection.execute(
        f"SELECT job_id, {_columns(SHEETS.columns)} FROM sheets"
    ):
        try:
            SHEETS.state(_checked(row))
        except (JobkeepError, ValueError, TypeError) as error:
            yield Problem(_place("sheets", [job_id, row[0]]), _reason(error))


def attempts_can_be_read(connection: sqlite3.Connection) -> Iterator[Problem]:
    """Every row of `execution_history` has text that is text, and a time that is a time."""
    for number, moment, *texts in connection.execute(
        "SELECT id, executed_at, job_id, prompt, output FROM execution_history"
    ):
        try:
            _checked(texts)
            datetime.fromisoformat(moment)
        except (ValueError, TypeError) as error:
            yield Problem(_place("execution_history", [number]), _reason(error))


def sheets_are_counted(connection: sqlite3.Connection) -> Iterator[Problem]:
    """A job's counts of its sheets are what is there."""
    for job_id, completed, counted, through, reached in connection.execute(_SELECT_SHEET_COUNTS):
        if completed != counted:
            yield _wrong_count("jobs", [job_id], "sheets_completed", completed, counted)
        if through != reached:
            yield _wrong_count("jobs", [job_id], "sheets_through", through, reached)


def attempts_are_counted(connection: sqlite3.Connection) -> Iterator[Problem]:
    """A job's figures of its attempts are what is there, and was there before the oldest."""
    for job_id, removed, *figures in connection.execute(_SELECT_EXECUTION_COUNTS):
        kept, counted = figures[:4], figures[4:]
        counted[0] += removed
        for name, one, other in zip(_FIGURES, kept, counted, strict=True):
            is_right = math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-6)
            if not is_right and not (removed and name != "executions" and one > other):
                yield _wrong_count("jobs", [job_id], name, one, other)


def attempts_are_numbered(connection: sqlite3.Connection) -> Iterator[Problem]:
    """The ordinals of a sheet's attempts follow each other."""
    for number, ordinal, before in connection.execute(_SELECT_ORDINALS):
        expected = "1 or more" if before is None else before + 1
        yield Problem(
            _place("execution_history", [number]), f"ordinal is {ordinal}; expected {expected}"
        )


def jobs_are_counted(connection: sqlite3.Connection) -> Iterator[Problem]:
    """`job_counts` has the number of jobs of each status."""
    for status, kept, counted in connection.execute(_SELECT_JOB_COUNTS):
        yield _wrong_count("job_counts", [status], "jobs", kept, counted)


def sequences_differ(connection: sqlite3.Connection) -> Iterator[Problem]:
    """No two jobs have the same sequence, and the one of deleted jobs is kept."""
    for sequence, job_id, count in connection.execute(
        "SELECT sequence, min(id), count(*) FROM jobs GROUP BY +sequence HAVING count(*) > 1"
    ):
        yield Problem(_place("jobs", [job_id]), f"{count} jobs have the sequence {sequence}")
    if connection.execute("SELECT 1 FROM counters WHERE name = 'sequence'").fetchone() is None:
        yield Problem(_place("counters", ["sequence"]), "is missing")


def claims_are_worked_on(connection: sqlite3.Connection) -> Iterator[Problem]:
    """Every claim is on a sheet in progress."""
    for *key, status in connection.execute(
        "SELECT claims.job_id, claims.sheet_num, status FROM claims "
        "LEFT JOIN sheets USING (job_id, sheet_num) WHERE status IS NOT 'in_progress'"
    ):
        state = "missing" if status is None else status
        yield Problem(
            _place("claims", key), f"the sheet is {state}, and claims are on sheets in progress"
        )


def replies_can_be_sent(connection: sqlite3.Connection) -> Iterator[Problem]:
    """Every reply kept is one, to the request it is kept for."""
    for client_id, slot, request_id, reply in connection.execute(
        "SELECT client_id, slot, request_id, reply FROM applied_requests"
    ):
        place = _place("applied_requests", [client_id, slot])
        try:
            answered, _ = open_envelope(reply)
        except (JobkeepError, TypeError) as error:
            yield Problem(place, f"the reply cannot be read: {_reason(error)}")
            continue
        if not isinstance(request_id, int) or answered != request_id or answered % SLOTS != slot:
            yield Problem(place, f"request {request_id} has a reply to {answered}")


SEARCHES: tuple[Search, ...] = (
    values_have_their_types,
    jobs_can_be_read,
    sheets_can_be_read,
    attempts_can_be_read,
    sheets_are_counted,
    attempts_are_counted,
    attempts_are_numbered,
    jobs_are_counted,
    sequences_differ,
    claims_are_worked_on,
    replies_can_be_sent,
)
"""What holds in tables that are as declared."""


def _objects(connection: sqlite3.Connection) -> dict[tuple[str, str], str]:
    """Tables with their columns, in any order, for a migration adds them at the end; indexes and
    triggers with their text."""
    found = {}
    for kind, name, text in connection.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    ).fetchall():
        if kind == "table":
            columns = connection.execute(f"PRAGMA table_info({name!r})")
            text = ", ".join(sorted(f"{column} {kind}" for _, column, kind, *_ in columns))
        found[kind, name] = " ".join(str(text).split())
    return found


def _place(table: str, key: list[Any]) -> str:
    parts = (one.hex() if isinstance(one, bytes) else repr(one) for one in key)
    return f"{table} {', '.join(parts)}"


def _columns(names: list[str]) -> str:
    return ", ".join(names)


def _checked(row: list[Any]) -> list[Any]:
    """The row. Raises ValueError for text that is not UTF-8."""
    for value in row:
        if isinstance(value, str) and not value.isascii():
            value.encode()
    return row


def _reason(error: Exception) -> str:
    """Why a row cannot be read, without what the daemon says around it."""
    if isinstance(error, UnicodeEncodeError):
        return "a text is not UTF-8"
    return str(error.__cause__ or error)


def _wrong_count(table: str, key: list[Any], name: str, kept: Any, counted: Any) -> Problem:
    return Problem(
        _place(table, key),
        f"{name} is {kept}, and {counted} were counted",
        f"stop the daemon and set it to {counted} with sqlite3",
    )


_MAKE_AGAIN = "stop the daemon and make it with sqlite3"
_FIGURES = ("executions", "executions_successful", "executions_timed", "executions_seconds")
_SELECT_SHEET_COUNTS = """
SELECT id, sheets_completed, (
    SELECT count(*) FROM sheets
    WHERE job_id = jobs.id AND status = 'completed' AND sheet_num <= total_sheets
), sheets_through, (
    SELECT coalesce(max(sheet_num), 0) FROM (
        SELECT sheet_num, row_number() OVER (ORDER BY sheet_num) AS place
        FROM sheets WHERE job_id = jobs.id)
    WHERE sheet_num = place
) FROM jobs
"""
_SELECT_EXECUTION_COUNTS = """
SELECT id, coalesce(removed, 0),
    executions, executions_successful, executions_timed, executions_seconds,
    coalesce(kept, 0), coalesce(successful, 0), coalesce(timed, 0), coalesce(seconds, 0)
FROM jobs LEFT JOIN (
    SELECT job_id, count(*) AS kept, sum(exit_code = 0) AS successful,
        count(duration_seconds) AS timed, total(duration_seconds) AS seconds
    FROM execution_history GROUP BY +job_id
) AS figures ON figures.job_id = jobs.id LEFT JOIN (
    SELECT job_id, sum(first - 1) AS removed FROM (
        SELECT job_id, min(ordinal) AS first FROM execution_history GROUP BY job_id, sheet_num)
    GROUP BY job_id
) AS older ON older.job_id = jobs.id
"""
"""The plus keeps SQLite from reading the large rows in the order of an index."""

_SELECT_ORDINALS = """
SELECT id, ordinal, before FROM (
    SELECT id, ordinal, lag(ordinal) OVER (PARTITION BY job_id, sheet_num ORDER BY id) AS before
    FROM execution_history)
WHERE ordinal <> coalesce(before + 1, max(ordinal, 1))
"""
_SELECT_JOB_COUNTS = """
SELECT status, kept, counted FROM (
    SELECT status, coalesce((SELECT jobs FROM job_counts WHERE status = known.status), 0) AS kept,
        (SELECT count(*) FROM jobs WHERE status = known.status) AS counted
    FROM (SELECT status FROM job_counts UNION SELECT status FROM jobs) AS known)
WHERE kept <> counted
"""
