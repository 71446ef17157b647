"""From the tables of an earlier tool to those of version 5.

What lives here: moving the old tables aside, copying them row by row, and dropping them. What may
not: what a row means (that is `rows`), and transactions (the caller has one open, with foreign keys
off and `legacy_alter_table` on, so that nothing else in the file is changed by a renamed table).

Rows are read and written one at a time, so a large file takes no more memory than a small one. What
has no place in its table waits in a temporary one until its job is there:

- rows of `jobs` with an id that another has, of `sheets` with no number or that of another: in the
  `extra` of their job, or in the table `old_rows`;
- sheets and attempts of a job that has no row: it gets one, which says so.
"""

from __future__ import annotations

import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from itertools import count
from typing import Any

import msgspec

from jobkeepd.store.earlier.cells import NotUnderstoodError, as_json, integer, moment
from jobkeepd.store.earlier.recognition import columns_of
from jobkeepd.store.earlier.rows import MAX_ID, OLD_FILE, Row, Understanding, job_id_of
from jobkeepd.store.earlier.tables import TABLES_5, WAITING_TABLES
from jobkeepd.store.rows import to_text

log = logging.getLogger(__name__)

MOVED = ("jobs", "sheets", "execution_history", "schema_version")
"""The tables that an earlier tool's file may have, and whose rows are copied."""

MAX_ROWS_CHARACTERS = 1_000_000
"""More than that is not kept in the `extra` of a job, which is read and sent with it each time."""

_WITHOUT_A_ROW = (
    "The file of an earlier tool had sheets or attempts of this job, and no row of its own"
)


class Transfer:
    """One file on its way from an earlier tool to version 5.

    `reached` is called after each statement; `is_ours` says whether a table or an index of
    jobkeep's own has a name.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        version: int,
        is_ours: Callable[[str], bool],
        reached: Callable[[], None],
        now: datetime,
    ) -> None:
        self._connection = connection
        self._is_ours = is_ours
        self._reached = reached
        self._now = now
        self._rows = Understanding(version, now)
        self._told: list[str] = []
        self._counted: Counter[str] = Counter()

    def run(self) -> None:
        """Make the tables of version 5. Raises sqlite3.Error."""
        self._forget_triggers()
        last_id = self._last_id_of_attempts()
        old = self._move_aside()
        self._run_all(TABLES_5 + WAITING_TABLES)
        self._copy_versions(old.get("schema_version"))
        self._copy_jobs(old.get("jobs"))
        self._copy_sheets(old.get("sheets"))
        self._copy_attempts(old.get("execution_history"), last_id)
        self._make_missing_jobs()
        self._place_waiting_rows()
        self._run_all(_COUNTS)
        for table in old.values():
            self._run(f"DROP TABLE {_quoted(table)}")

    # -- tables ---------------------------------------------------------------------------------

    def _forget_triggers(self) -> None:
        """Drop all triggers, which would answer to what is done here and after."""
        names = self._all("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in names:
            self._run(f"DROP TRIGGER {_quoted(name)}")
        if names:
            dropped = ", ".join(name for (name,) in names)
            self._told.append(f"triggers that are gone now: {dropped}")

    def _move_aside(self) -> dict[str, str]:
        """Give other names to the tables to be copied, and to what has a name of jobkeep's own;
        gives the former."""
        names = {name.lower() for (name,) in self._all("SELECT name FROM sqlite_master")}
        old = {}
        for kind, name, table in self._all(_SELECT_IN_THE_WAY):
            key = name.lower()
            is_in_the_way = key in MOVED or self._is_ours(key)
            if kind == "index" and (is_in_the_way or table.lower() in MOVED):
                self._run(f"DROP INDEX {_quoted(name)}")
            elif kind == "view" and is_in_the_way:
                self._run(f"DROP VIEW {_quoted(name)}")
                self._told.append(f"a view {name} that has the name of a table, and is gone now")
            elif kind == "table" and is_in_the_way and self._is_there(name):
                other = next(one for one in _other_names(key) if one not in names)
                names.add(other)
                self._run(f"ALTER TABLE {_quoted(name)} RENAME TO {_quoted(other)}")
                if key in MOVED:
                    old[key] = other
                else:
                    self._told.append(f"a table {name}, which is not jobkeep's: it is {other} now")
        return old

    def _is_there(self, name: str) -> bool:
        """Still: the tables beneath a virtual one were renamed with it."""
        return bool(self._all("SELECT 1 FROM sqlite_master WHERE name = ?", name))

    def _last_id_of_attempts(self) -> int:
        """The highest id that an attempt ever had, as far as SQLite has kept it."""
        if not self._all("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'"):
            return 0
        found = self._all(
            "SELECT max(seq) FROM sqlite_sequence WHERE lower(name) = 'execution_history'"
        )
        (last,) = found[0]
        return last if isinstance(last, int) and 0 < last <= MAX_ID else 0

    # -- rows -----------------------------------------------------------------------------------

    def _copy_versions(self, table: str | None) -> None:
        """Copy what can be; a table that says more stays, under another name."""
        is_all = True
        for raw in self._each(table):
            try:
                version = integer(1)(raw.get("version"))
                at = moment(raw["applied_at"]) if raw.get("applied_at") else to_text(self._now)
            except NotUnderstoodError:
                is_all = False
                continue
            is_all = is_all and set(raw) <= {"version", "applied_at"}
            self._run(
                "INSERT INTO schema_version VALUES (?, ?) ON CONFLICT DO NOTHING", version, at
            )
        if table is not None and not is_all:
            kept = f"{table}_as_it_was"
            self._run(f"CREATE TABLE {_quoted(kept)} AS SELECT * FROM {_quoted(table)}")
            self._told.append(f"more in schema_version than versions: it is kept as {kept}")

    def _copy_jobs(self, table: str | None) -> None:
        for raw in self._each(table, newest_first=True):
            row = self._rows.job(raw)
            if not self._insert("jobs", row.values, extra=row.extra):
                self._wait("jobs", row.values["id"], raw)

    def _copy_sheets(self, table: str | None) -> None:
        for raw in self._each(table, newest_first=True):
            row = self._rows.sheet(raw, self._updated_at)
            if row is None or not self._insert("sheets", row.values, extra=row.extra):
                self._wait("sheets", job_id_of(raw.get("job_id")), raw)

    def _copy_attempts(self, table: str | None, last_id: int) -> None:
        """Copy those with an id of their own, then give the others one."""
        for raw in self._each(table):
            row = self._rows.attempt(raw, self._updated_at)
            if row.values["id"] is None or not self._insert_attempt(row):
                self._counted["attempts that have another id now"] += 1
                self._run(
                    "INSERT INTO temp.waiting_attempts VALUES (?)",
                    msgspec.json.encode([row.values, row.extra, as_json(raw.get("id"))]),
                )
        self._run("DELETE FROM sqlite_sequence WHERE name = 'execution_history'")
        self._run(_INSERT_LAST_ID, last_id)
        for (waiting,) in self._connection.execute("SELECT * FROM temp.waiting_attempts"):
            values, extra, number = msgspec.json.decode(waiting)
            if number is not None:
                extra.setdefault(OLD_FILE, {}).setdefault("values", {})["id"] = number
            self._insert_attempt(Row({**values, "id": None}, extra))

    def _insert_attempt(self, row: Row) -> bool:
        is_new = self._insert("execution_history", row.values)
        if is_new and row.extra:
            extra = msgspec.json.encode(row.extra).decode()
            number = row.values["id"] or self._all("SELECT last_insert_rowid()")[0][0]
            self._run("INSERT INTO execution_extra VALUES (?, ?)", number, extra)
        return is_new

    # -- what has no place ----------------------------------------------------------------------

    def _wait(self, table: str, job_id: str, raw: Mapping[str, Any]) -> None:
        """Keep a whole row for the `extra` of its job."""
        row = {name: as_json(value) for name, value in raw.items() if value is not None}
        self._counted[f"rows of {table} that are kept in the `extra` of a job"] += 1
        self._run(
            "INSERT INTO temp.waiting_rows VALUES (?, ?, ?)",
            *(job_id, table, msgspec.json.encode(row).decode()),
        )

    def _make_missing_jobs(self) -> None:
        """Make the jobs that sheets, attempts or rows without a place belong to."""
        self._run(_FIND_MISSING_JOBS)
        for job_id, sheets, completed, first, last in self._connection.execute(
            "SELECT * FROM temp.missing_jobs"
        ):
            self._counted["jobs that were made for sheets and attempts without one"] += 1
            values = {
                "id": job_id,
                "name": "",
                "status": "paused",
                "total_sheets": max(sheets or 0, 1),
                "last_completed_sheet": completed or 0,
                "created_at": first or to_text(self._now),
                "updated_at": last or to_text(self._now),
                "error_message": f"{_WITHOUT_A_ROW}; it is held until somebody decides",
            }
            self._insert("jobs", values, extra={OLD_FILE: {"note": _WITHOUT_A_ROW}})

    def _place_waiting_rows(self) -> None:
        """Put the rows without a place into the `extra` of their jobs."""
        self._move_many_rows()
        for (job_id,) in self._connection.execute("SELECT DISTINCT job_id FROM temp.waiting_rows"):
            rows: dict[str, list[Any]] = {}
            for table, row in self._connection.execute(
                "SELECT from_table, row FROM temp.waiting_rows WHERE job_id = ?", (job_id,)
            ):
                rows.setdefault(table, []).append(msgspec.json.decode(row))
            self._add_to_extra(job_id, {"rows": rows})

    def _move_many_rows(self) -> None:
        """Move the rows of jobs that have too many for their `extra` into a table."""
        if not self._all(f"{_SELECT_JOBS_WITH_MANY} LIMIT 1"):
            return
        table = next(one for one in _other_names("rows") if not columns_of(self._connection, one))
        chosen = f"FROM temp.waiting_rows WHERE job_id IN ({_SELECT_JOBS_WITH_MANY})"
        self._run(f"CREATE TABLE {table} (job_id TEXT, from_table TEXT, row TEXT)")
        self._run(f"INSERT INTO {table} SELECT * {chosen}")
        for (job_id,) in self._connection.execute(_SELECT_JOBS_WITH_MANY):
            self._add_to_extra(job_id, {"more_rows": table})
        self._run(f"DELETE {chosen}")

    def _add_to_extra(self, job_id: str, found: Mapping[str, Any]) -> None:
        [(text,)] = self._all("SELECT extra FROM jobs WHERE id = ?", job_id)
        extra = msgspec.json.decode(text)
        extra[OLD_FILE] = {**extra.get(OLD_FILE, {}), **found}
        changed = msgspec.json.encode(extra).decode()
        self._run("UPDATE jobs SET extra = ? WHERE id = ?", changed, job_id)

    def _updated_at(self, job_id: str) -> str | None:
        found = self._all("SELECT updated_at FROM jobs WHERE id = ?", job_id)
        return found[0][0] if found else None

    # -- what is told ---------------------------------------------------------------------------

    def tell(self) -> None:
        """Log what `run` has found, in a line for each kind of thing."""
        rows = self._rows
        if rows.not_understood:
            log.warning(
                "cells that were not understood are kept as they were in `extra`, under %r: %s",
                OLD_FILE,
                _counts(rows.not_understood),
            )
        if rows.unknown:
            log.warning(
                "values of columns that jobkeep does not have are in `extra` now: %s",
                _counts(rows.unknown),
            )
        if rows.was_running:
            log.warning("jobs that were running, and are paused now: %d", rows.was_running)
        for what, number in self._counted.items():
            log.warning("%s: %d", what, number)
        for what in self._told:
            log.warning("the file had %s", what)

    # -- SQLite ---------------------------------------------------------------------------------

    def _each(
        self, table: str | None, *, newest_first: bool = False
    ) -> Iterator[Mapping[str, Any]]:
        """The rows of a table by the lower-case names of its columns, in the order in which they
        were made, or in the opposite one."""
        if table is None:
            return
        cursor = self._connection.cursor()
        cursor.execute(f"SELECT * FROM {_quoted(table)} LIMIT 0")
        names = [name.lower() for name, *_ in cursor.description]
        order = "DESC" if newest_first else "ASC"
        by = f"ORDER BY rowid {order}" if self._has_rowid(table) else ""
        text_before = self._connection.text_factory
        self._connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
        try:
            for row in cursor.execute(f"SELECT * FROM {_quoted(table)} {by}"):
                yield dict(zip(names, row, strict=True))
        finally:
            self._connection.text_factory = text_before

    def _has_rowid(self, table: str) -> bool:
        try:
            self._all(f"SELECT rowid FROM {_quoted(table)} LIMIT 0")
        except sqlite3.OperationalError:
            return False  # WITHOUT ROWID, so it has a key that is unique
        return True

    def _insert(self, table: str, values: Mapping[str, Any], extra: Any = None) -> bool:
        """Whether the row is there now, and no other was in its place."""
        row = dict(values)
        if extra:
            row["extra"] = msgspec.json.encode(extra).decode()
        places = ", ".join("?" * len(row))
        cursor = self._connection.execute(
            f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places}) ON CONFLICT DO NOTHING",
            tuple(row.values()),
        )
        self._reached()
        return cursor.rowcount == 1

    def _all(self, statement: str, *values: Any) -> list[Any]:
        return self._connection.execute(statement, values).fetchall()

    def _run(self, statement: str, *values: Any) -> None:
        self._connection.execute(statement, values)
        self._reached()

    def _run_all(self, script: str) -> None:
        """Run statements that have no semicolon within."""
        for statement in script.split(";")[:-1]:
            self._run(statement)


def _other_names(name: str) -> Iterator[str]:
    yield f"old_{name}"
    yield from (f"old_{name}_{number}" for number in count(2))


def _quoted(name: str) -> str:
    """A name as SQL has it (https://www.sqlite.org/lang_keywords.html)."""
    return '"' + name.replace('"', '""') + '"'


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counter.items()))


_SELECT_IN_THE_WAY = (
    "SELECT type, name, tbl_name FROM sqlite_master "
    "WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY type, name"
)
_SELECT_JOBS_WITH_MANY = (
    "SELECT job_id FROM temp.waiting_rows GROUP BY job_id "
    f"HAVING sum(length(row)) > {MAX_ROWS_CHARACTERS}"
)
_INSERT_LAST_ID = (
    "INSERT INTO sqlite_sequence SELECT 'execution_history', "
    "max(?, (SELECT coalesce(max(id), 0) FROM execution_history))"
)
_FIND_MISSING_JOBS = """
INSERT INTO temp.missing_jobs
SELECT job_id, max(sheet_num), max(completed), min(first), max(last) FROM (
    SELECT job_id, sheet_num, iif(status = 'completed', sheet_num, NULL) AS completed,
        coalesce(started_at, completed_at) AS first, coalesce(completed_at, started_at) AS last
    FROM sheets
    UNION ALL
    SELECT job_id, sheet_num, NULL, executed_at, executed_at FROM execution_history
    UNION ALL
    SELECT job_id, NULL, NULL, NULL, NULL FROM temp.waiting_rows)
WHERE job_id NOT IN (SELECT id FROM jobs) GROUP BY job_id
"""
_COUNTS = """
UPDATE jobs SET total_sheets = max(1, last_completed_sheet, (
    SELECT coalesce(max(sheet_num), 0) FROM sheets WHERE job_id = jobs.id))
WHERE total_sheets = 0;
UPDATE jobs SET sequence = found.place FROM (
    SELECT id, row_number() OVER (ORDER BY updated_at, id) AS place FROM jobs
) AS found WHERE found.id = jobs.id;
UPDATE jobs SET sheets_completed = found.completed FROM (
    SELECT job_id, sum(sheet_num <= total_sheets) AS completed
    FROM sheets JOIN jobs ON jobs.id = job_id WHERE sheets.status = 'completed' GROUP BY job_id
) AS found WHERE found.job_id = jobs.id;
UPDATE jobs SET executions = found.executions, executions_successful = found.successful,
    executions_timed = found.timed, executions_seconds = found.seconds
FROM (
    SELECT job_id, count(*) AS executions, coalesce(sum(exit_code = 0), 0) AS successful,
        count(duration_seconds) AS timed, total(duration_seconds) AS seconds
    FROM execution_history GROUP BY job_id
) AS found WHERE found.job_id = jobs.id;
DROP TABLE temp.waiting_rows;
DROP TABLE temp.waiting_attempts;
DROP TABLE temp.missing_jobs;
"""
