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
from jobkeepd.store.search_tables import is_entry_of, is_of_search

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
    "failures": ("id",),
    "rule_counts": ("job_id", "rule"),
    "outcome_counts": ("job_id", "outcome_category"),
    "patterns": ("pattern",),
    "pattern_jobs": ("job_id", "pattern"),
    "sheet_counts": ("status",),
    "execution_extra": ("execution_id",),
    "pruned_executions": ("job_id", "hour"),
    "pruned_failures": ("id",),
    "pruned_jobs": ("status", "hour"),
    "pruned_hours": ("hour",),
    "pruned_rules": ("rule",),
    "pruned_outcomes": ("outcome_category",),
    "claims": ("job_id", "sheet_num"),
    "workers": ("job_id", "pid"),
    "applied_requests": ("client_id", "slot"),
    "counters": ("name",),
}


def tables_as_declared(connection: sqlite3.Connection) -> Iterator[Problem]:
    """Every table has the columns, and every index and trigger the text, that `schema` has; there
    is no other trigger. What is of the search is left out: it may be missing, and is made anew."""
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
        elif is_of_search(name):
            yield Problem(f"{kind} {name}", "its text is that of another", "restore a backup")


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


def figures_of_sheets_are_kept(connection: sqlite3.Connection) -> Iterator[Problem]:
    """A job's counts, tokens and cost for reports are those of its sheets."""
    for job_id, largest, *figures in connection.execute(_SELECT_SHEET_FIGURES):
        kept, counted = figures[:5], figures[5:]
        for name, one, other in zip(_SHEET_FIGURES, kept, counted, strict=True):
            tolerance = 1e-6 if name == "estimated_cost" or abs(other) > _EXACT else 0.0
            if not _is_close(one, other, tolerance, tolerance * largest):
                other = other if name == "estimated_cost" else int(other)
                yield _wrong_count("jobs", [job_id], name, one, other)


def rules_and_outcomes_are_counted(connection: sqlite3.Connection) -> Iterator[Problem]:
    """`rule_counts` and `outcome_counts` are those of the sheets."""
    for table, statement in (
        ("rule_counts", _SELECT_WRONG_RULES),
        ("outcome_counts", _SELECT_WRONG_OUTCOMES),
    ):
        for job_id, name, kept, counted in connection.execute(statement):
            yield Problem(
                _place(table, [job_id, name]),
                f"is {kept or 'missing'}; {counted or 'nothing'} was counted",
            )


def attempts_are_counted(connection: sqlite3.Connection) -> Iterator[Problem]:
    """A job's figures of its attempts are what is there, what was pruned, and what else was there
    before the oldest."""
    for job_id, before_oldest, *figures in connection.execute(_SELECT_EXECUTION_COUNTS):
        kept, counted, pruned = figures[:5], figures[5:10], figures[10:]
        counted = [one + other for one, other in zip(counted, pruned, strict=True)]
        removed = max(0, before_oldest - pruned[0])
        counted[0] += removed
        for name, one, other in zip(_FIGURES, kept, counted, strict=True):
            may_be_more = removed and name != "executions" and isinstance(one, int | float)
            if not _is_close(one, other) and not (may_be_more and one > other):
                yield _wrong_count("jobs", [job_id], name, one, other)


def attempts_are_numbered(connection: sqlite3.Connection) -> Iterator[Problem]:
    """The ordinals of a sheet's attempts follow each other."""
    for number, ordinal, following in connection.execute(_SELECT_ORDINALS):
        expected = "1 or more" if following is None else following
        yield Problem(
            _place("execution_history", [number]), f"ordinal is {ordinal}; expected {expected}"
        )


def what_was_pruned_is_counted(connection: sqlite3.Connection) -> Iterator[Problem]:
    """Counts of what was pruned belong to a job that is there, or to none by its name, and none of
    them is larger than that which it is a part of."""
    for table in ("pruned_executions", "pruned_failures"):
        for (job_id,) in connection.execute(
            f"SELECT DISTINCT job_id FROM {table} "
            "WHERE job_id <> '' AND job_id NOT IN (SELECT id FROM jobs)"
        ):
            yield Problem(_place(table, [job_id]), "there is no such job")
    for *key, executions, exited, successful in connection.execute(
        "SELECT job_id, hour, executions, exited, successful FROM pruned_executions "
        "WHERE NOT (0 <= successful AND successful <= exited AND exited <= executions)"
    ):
        yield Problem(
            _place("pruned_executions", key),
            f"{successful} successful of {exited} with an exit code of {executions} executions",
        )


def jobs_are_counted(connection: sqlite3.Connection) -> Iterator[Problem]:
    """`job_counts` has the number of jobs of each status."""
    for status, kept, counted in connection.execute(_SELECT_JOB_COUNTS):
        yield _wrong_count("job_counts", [status], "jobs", kept, counted)


def patterns_of_jobs_are_counted(connection: sqlite3.Connection) -> Iterator[Problem]:
    """`pattern_jobs` has, for each job, what its sheets carry."""
    for job_id, pattern, *figures in connection.execute(_SELECT_PATTERNS_OF_JOBS):
        yield from _wrong_figures("pattern_jobs", [job_id, pattern], figures)


def patterns_are_counted(connection: sqlite3.Connection) -> Iterator[Problem]:
    """`patterns` has the sums of `pattern_jobs`."""
    for pattern, *figures in connection.execute(_SELECT_PATTERNS):
        yield from _wrong_figures("patterns", [pattern], figures)


def completed_and_failed_sheets_are_counted(connection: sqlite3.Connection) -> Iterator[Problem]:
    """`sheet_counts` has the number of completed and of failed sheets."""
    for status, kept, counted in connection.execute(_SELECT_COUNTS_OF_ALL_SHEETS):
        if kept != counted:
            yield _wrong_count("sheet_counts", [status], "sheets", kept, counted)


def sequences_differ(connection: sqlite3.Connection) -> Iterator[Problem]:
    """No two jobs have the same sequence."""
    for sequence, job_id, count in connection.execute(
        "SELECT sequence, min(id), count(*) FROM jobs GROUP BY +sequence HAVING count(*) > 1"
    ):
        yield Problem(_place("jobs", [job_id]), f"{count} jobs have the sequence {sequence}")


def sequence_is_kept(connection: sqlite3.Connection) -> Iterator[Problem]:
    """The highest sequence of deleted jobs is there, without which no change can be made."""
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
    figures_of_sheets_are_kept,
    rules_and_outcomes_are_counted,
    attempts_are_counted,
    attempts_are_numbered,
    what_was_pruned_is_counted,
    jobs_are_counted,
    patterns_of_jobs_are_counted,
    patterns_are_counted,
    completed_and_failed_sheets_are_counted,
    sequences_differ,
    sequence_is_kept,
    claims_are_worked_on,
    replies_can_be_sent,
)
"""What holds in tables that are as declared."""


def _objects(connection: sqlite3.Connection) -> dict[tuple[str, str], str]:
    """Tables with their columns, in any order, for a migration adds them at the end; indexes and
    triggers with their text."""
    found = {}
    for kind, name, text in connection.execute(_SELECT_OBJECTS).fetchall():
        if is_of_search(name) and is_entry_of(kind, name, str(text)):
            continue
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


def _is_close(one: Any, other: Any, relative: float = 1e-6, absolute: float = 1e-6) -> bool:
    """Whether two figures are about the same; in a damaged row one may be no number."""
    if not isinstance(one, int | float) or not isinstance(other, int | float):
        return False
    return math.isclose(one, other, rel_tol=relative, abs_tol=absolute)


def _wrong_count(table: str, key: list[Any], name: str, kept: Any, counted: Any) -> Problem:
    return Problem(
        _place(table, key),
        f"{name} is {kept}, and {counted} were counted",
        f"stop the daemon and set it to {counted} with sqlite3",
    )


def _wrong_figures(table: str, key: list[Any], figures: list[Any]) -> Iterator[Problem]:
    """Those of a pattern that are not as counted."""
    half = len(figures) // 2
    for name, kept, counted in zip(_PATTERN_FIGURES, figures[:half], figures[half:], strict=True):
        if not _is_close(kept, counted):
            yield _wrong_count(table, key, name, kept, counted)


_SELECT_OBJECTS = """
SELECT CAST(type AS TEXT), CAST(name AS TEXT), sql FROM sqlite_master
WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
"""
"""SQLite takes what is there for text, in a damaged file too."""

_MAKE_AGAIN = "stop the daemon and make it with sqlite3"
_FIGURES = (
    "executions",
    "executions_successful",
    "executions_exited",
    "executions_timed",
    "executions_seconds",
)
_SHEET_FIGURES = (
    "sheets_failed",
    "sheets_skipped",
    "input_tokens",
    "output_tokens",
    "estimated_cost",
)
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
_EXACT = 2**53
"""The largest sum of tokens that is counted exactly here."""

_SELECT_SHEET_FIGURES = """
SELECT jobs.id, 1 + total(abs(sheets.estimated_cost)),
    sheets_failed, sheets_skipped, jobs.input_tokens, jobs.output_tokens, jobs.estimated_cost,
    total(sheets.status = 'failed' AND sheet_num <= total_sheets),
    total(sheets.status = 'skipped' AND sheet_num <= total_sheets),
    max(-9223372036854775807, min(9223372036854775807, total(sheets.input_tokens))),
    max(-9223372036854775807, min(9223372036854775807, total(sheets.output_tokens))),
    max(-1.7976931348623157e308,
        min(1.7976931348623157e308, coalesce(total(sheets.estimated_cost), 0)))
FROM jobs LEFT JOIN sheets ON job_id = id GROUP BY id
"""
_SELECT_WRONG_RULES = """
SELECT job_id, rule, sum(kept_passed) || ' passed, ' || sum(kept_failed) || ' failed',
    sum(passed) || ' passed, ' || sum(failed) || ' failed'
FROM (
    SELECT job_id, rule, passed AS kept_passed, failed AS kept_failed, 0 AS passed, 0 AS failed
    FROM rule_counts
    UNION ALL SELECT job_id, value, 0, 0, 1, 0 FROM sheets, json_each(
        CASE WHEN json_valid(passed_validations) THEN passed_validations END)
    UNION ALL SELECT job_id, value, 0, 0, 0, 1 FROM sheets, json_each(
        CASE WHEN json_valid(failed_validations) THEN failed_validations END))
WHERE rule NOTNULL GROUP BY job_id, rule
HAVING sum(kept_passed) <> sum(passed) OR sum(kept_failed) <> sum(failed)
"""
_SELECT_WRONG_OUTCOMES = """
SELECT job_id, category, kept, counted FROM (
    SELECT job_id, category, max(kept) AS kept, max(counted) AS counted FROM (
        SELECT job_id, outcome_category AS category, sheets || ' sheets, ' || completed ||
            ' completed, ' || failed || ' failed, ' || without_retry || ' without retry' AS kept,
            NULL AS counted
        FROM outcome_counts WHERE sheets <> 0 OR completed <> 0 OR failed <> 0
            OR without_retry <> 0
        UNION ALL SELECT job_id, coalesce(outcome_category, ''), NULL, count(*) || ' sheets, ' ||
            sum(status = 'completed') || ' completed, ' || sum(status = 'failed') ||
            ' failed, ' || sum(success_without_retry) || ' without retry'
        FROM sheets WHERE outcome_category <> '' OR success_without_retry
        GROUP BY job_id, coalesce(outcome_category, ''))
    GROUP BY job_id, category)
WHERE kept IS NOT counted
"""
_SELECT_EXECUTION_COUNTS = """
SELECT id, coalesce(removed, 0),
    executions, executions_successful, executions_exited, executions_timed, executions_seconds,
    coalesce(kept, 0), coalesce(successful, 0), coalesce(exited, 0), coalesce(timed, 0),
    coalesce(seconds, 0),
    coalesce(pruned, 0), coalesce(pruned_successful, 0), coalesce(pruned_exited, 0),
    coalesce(pruned_timed, 0), coalesce(pruned_seconds, 0)
FROM jobs LEFT JOIN (
    SELECT job_id, sum(executions) AS pruned, sum(successful) AS pruned_successful,
        sum(exited) AS pruned_exited, sum(timed) AS pruned_timed, total(seconds) AS pruned_seconds
    FROM pruned_executions GROUP BY job_id
) AS gone ON gone.job_id = jobs.id LEFT JOIN (
    SELECT job_id, count(*) AS kept, sum(exit_code = 0) AS successful,
        count(exit_code) AS exited, count(duration_seconds) AS timed,
        total(duration_seconds) AS seconds
    FROM execution_history GROUP BY +job_id
) AS figures ON figures.job_id = jobs.id LEFT JOIN (
    SELECT job_id, sum(first - 1) AS removed FROM (
        SELECT job_id, min(ordinal) AS first FROM execution_history GROUP BY job_id, sheet_num)
    GROUP BY job_id
) AS older ON older.job_id = jobs.id
"""
"""The plus keeps SQLite from reading the large rows in the order of an index."""

_SELECT_ORDINALS = """
SELECT id, ordinal, following FROM (
    SELECT id, ordinal,
        1 + lag(ordinal) OVER (PARTITION BY job_id, sheet_num ORDER BY id) AS following
    FROM execution_history)
WHERE ordinal IS NOT coalesce(following, max(ordinal, 1))
"""
_SELECT_JOB_COUNTS = """
SELECT status, kept, counted FROM (
    SELECT status, coalesce((SELECT jobs FROM job_counts WHERE status = known.status), 0) AS kept,
        (SELECT count(*) FROM jobs WHERE status = known.status) AS counted
    FROM (SELECT status FROM job_counts UNION SELECT status FROM jobs) AS known)
WHERE kept <> counted
"""

_PATTERN_FIGURES = ("sheets", "completed", "failed", "confidences", "confidence_total", "jobs")
_SUMS = """
sum(sheets), sum(completed), sum(failed), sum(confidences), total(confidence_total), sum(jobs),
sum(c_sheets), sum(c_completed), sum(c_failed), sum(c_confidences), total(c_total), sum(c_jobs)
"""
_NOT_COUNTED = "0, 0, 0, 0, 0, 0"
_KEPT_FIGURES = ", ".join(_PATTERN_FIGURES)
_SELECT_PATTERNS_OF_JOBS = f"""
SELECT job_id, pattern, {_SUMS} FROM (
    SELECT job_id, pattern, {_KEPT_FIGURES}, 0 AS c_sheets, 0 AS c_completed, 0 AS c_failed,
        0 AS c_confidences, 0 AS c_total, 0 AS c_jobs
    FROM pattern_jobs WHERE job_id <> ''
    UNION ALL
    SELECT job_id, value, {_NOT_COUNTED}, count(*), sum(status = 'completed'),
        sum(status = 'failed'), count(confidence_score), total(confidence_score), 1
    FROM (
        SELECT DISTINCT job_id, sheet_num, value, status, confidence_score
        FROM sheets, json_each(iif(json_valid(learned_patterns), learned_patterns, '[]'))
        WHERE json_each.type = 'text')
    GROUP BY job_id, value)
GROUP BY job_id, pattern
"""
_SELECT_PATTERNS = f"""
SELECT pattern, {_SUMS} FROM (
    SELECT pattern, {_KEPT_FIGURES}, 0 AS c_sheets, 0 AS c_completed, 0 AS c_failed,
        0 AS c_confidences, 0 AS c_total, 0 AS c_jobs
    FROM patterns
    UNION ALL
    SELECT pattern, {_NOT_COUNTED}, {_KEPT_FIGURES} FROM pattern_jobs)
GROUP BY pattern
"""
_SELECT_COUNTS_OF_ALL_SHEETS = """
SELECT status, sheets, (SELECT count(*) FROM sheets WHERE status = sheet_counts.status)
FROM sheet_counts
"""
