"""What can be learned from earlier work: the reads of `patterns` and of `failures`.

What lives here: the two operations, and what is looked for in the messages of failures. What may
not: how the tables are kept (that is `patterns`, `schema`).

Both stop after the rows that were asked for: patterns lie in the order in which they are given, and
failures of one code, category or exit code in that of their ids. What the sheet of a failure has
come to is looked up for those alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import aiosqlite
import msgspec

from jobkeep_protocol.codec import encode_part
from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.learning import (
    MAX_JOBS_NAMED,
    MAX_OUTCOME_CHARACTERS,
    LearnedPattern,
    SimilarOutcome,
)
from jobkeep_protocol.messages import FindSimilarOutcomes, GetLearnedPatterns, PatternsPage
from jobkeep_protocol.values import refused
from jobkeepd.store.readers import Readers, read_page
from jobkeepd.store.reads import glob, reads

MAX_WORDS = 32
"""Words of a text that are looked for."""

MAX_TEXT_CHARACTERS = 4_000
"""Where those words are taken from: the beginning of a text."""

MANY = 1_000
"""Failures that match one criterion, beyond which it is not counted how many there are."""

MAX_RANKED = 1_000
"""Failures with some of the words, the newest, that are put in order. To rank all took 0.2 s where
100,000 had most of the words."""

MAX_LOOKED_AT = 10_000
"""Failures of the rarest criterion, or with all of the words, the newest, that the other criteria
are held against: criteria that never meet would be looked for in all that is kept."""


# -- patterns -------------------------------------------------------------------------------------


@reads(GetLearnedPatterns)
async def get_learned_patterns(readers: Readers, request: GetLearnedPatterns) -> PatternsPage:
    """One page of patterns."""
    conditions = ["sheets >= ?"]
    values: list[Any] = [request.min_sheets]
    if request.pattern is not None:
        has_wildcards = re.search(r"[*?[]", request.pattern) is not None
        conditions.append("pattern GLOB ?" if has_wildcards else "pattern = ?")
        values.append(glob(request.pattern) if has_wildcards else request.pattern)
    if request.after_sheets is not None:
        conditions.append("sheets <= ? AND (sheets < ? OR pattern > ?)")
        values += (request.after_sheets, request.after_sheets, request.after_pattern or "")
    max_rows = readers.limits.max_page_rows
    async with readers.snapshot() as connection:
        counts = await connection.execute_fetchall(_SELECT_TOTALS)
        totals = {str(status): int(sheets) for status, sheets in counts}
        page = await read_page(
            connection,
            _SELECT_PATTERNS.format(conditions=" AND ".join(conditions)),
            (*values, min(request.limit, max_rows)),
            lambda row: _pattern_part(row, totals),
            max_rows,
        )
    return PatternsPage(page.parts, page.more and len(page.parts) < request.limit)


def _pattern_part(row: Any, totals: dict[str, int]) -> msgspec.Raw:
    pattern, sheets, jobs, job_ids, completed, failed, confidences, total, first, last = row
    without = (totals["completed"] - completed, totals["failed"] - failed)
    return encode_part(
        LearnedPattern(
            pattern=pattern,
            sheets=sheets,
            jobs=jobs,
            job_ids=msgspec.json.decode(job_ids),
            completed=completed,
            failed=failed,
            success_rate=_percentage(completed, failed),
            success_rate_without=_percentage(*without),
            mean_confidence=min(max(total / confidences, 0.0), 1.0) if confidences else None,
            first_seen_at=datetime.fromisoformat(first),
            last_seen_at=datetime.fromisoformat(last),
        )
    )


def _percentage(completed: int, failed: int) -> float | None:
    ended = completed + failed
    return completed / ended * 100 if ended else None


_SELECT_TOTALS = "SELECT status, sheets + pruned FROM sheet_counts"
_SELECT_PATTERNS = f"""
SELECT pattern, sheets, jobs, (
        SELECT json_group_array(job_id) FROM (
            SELECT job_id FROM pattern_jobs
            WHERE pattern = found.pattern AND job_id <> ''
            ORDER BY first_seen_at DESC LIMIT {MAX_JOBS_NAMED})),
    completed, failed, confidences, confidence_total, first_seen_at, last_seen_at
FROM (
    SELECT * FROM patterns WHERE {{conditions}} ORDER BY sheets DESC, pattern LIMIT ?
) AS found ORDER BY sheets DESC, pattern
"""
"""The jobs are looked up for those that are given only, also where they had to be sorted."""


# -- failures -------------------------------------------------------------------------------------


@reads(FindSimilarOutcomes)
async def find_similar_outcomes(
    readers: Readers, request: FindSimilarOutcomes
) -> list[SimilarOutcome]:
    """The failures that match, the best first, with what became of their sheets."""
    criteria = _criteria(request)
    if not criteria and request.text is None:
        raise InvalidRequest(
            f"no criterion is given; expected one or more of {', '.join(_COLUMNS)} and text"
        )
    words = None if request.text is None else words_of(request.text)
    async with readers.snapshot() as connection:
        if words is None:
            found = await _newest(connection, criteria, request.limit)
        else:
            await _check_search_is_on(connection)
            found = await _with_words(connection, words, criteria, request.limit)
        rows = await connection.execute_fetchall(_SELECT_OUTCOMES, (msgspec.json.encode(found),))
    outcomes = {number: _outcome(row) for number, *row in rows}
    return [outcomes[number] for number in found]


def words_of(text: str) -> list[str]:
    """The words of a message by which another is like it, each once, in the order they come.

    Those with digits are taken only when there are no others. Raises InvalidRequest for none at
    all.
    """
    beginning = unicodedata.normalize("NFC", text[:MAX_TEXT_CHARACTERS]).lower()
    found = list(dict.fromkeys(re.findall(r"[^\W_]+", beginning)))
    telling = [word for word in found if word.isalpha()] or found
    if not telling:
        raise refused("text", text, "a text with at least one word, such as an error message")
    return telling[:MAX_WORDS]


def _criteria(request: FindSimilarOutcomes) -> dict[str, Any]:
    """The criteria that are given, but for the text."""
    given = {name: getattr(request, name) for name in _COLUMNS}
    return {name: value for name, value in given.items() if value is not None}


async def _newest(
    connection: aiosqlite.Connection, criteria: dict[str, Any], limit: int
) -> list[int]:
    """The newest failures that match: SQLite goes through the index of the rarest criterion, and
    looks at the others in the rows."""
    rarest, *others = await _rarest_first(connection, criteria)
    statement = (
        f"SELECT id FROM (SELECT id, {', '.join(criteria)} FROM failures WHERE {rarest} = ? "
        f"ORDER BY id DESC LIMIT {MAX_LOOKED_AT}) AS found WHERE {_all_of(others)} LIMIT ?"
    )
    values = [criteria[name] for name in (rarest, *others)]
    return await _ids(connection, statement, (*values, limit))


async def _rarest_first(connection: aiosqlite.Connection, criteria: dict[str, Any]) -> list[str]:
    """The names of the criteria; those of many failures are all as frequent."""
    if len(criteria) == 1:
        return list(criteria)
    counts = ", ".join(
        f"(SELECT count(*) FROM (SELECT 1 FROM failures WHERE {name} = ? LIMIT {MANY}) AS some)"
        for name in criteria
    )
    (row,) = await connection.execute_fetchall(f"SELECT {counts}", tuple(criteria.values()))
    frequency = dict(zip(criteria, row, strict=True))
    return sorted(criteria, key=frequency.__getitem__)


async def _with_words(
    connection: aiosqlite.Connection,
    words: list[str],
    criteria: dict[str, Any],
    limit: int,
) -> list[int]:
    """The newest failures that have all the words, then the best of those that have some."""
    quoted = [f'"{word}"' for word in words]
    conditions = _all_of(criteria)
    values = criteria.values()
    newest = _SELECT_NEWEST_WITH_WORDS.format(conditions=conditions)
    best = _SELECT_BEST_WITH_WORDS.format(conditions=conditions)
    found = await _ids(connection, newest, (" ".join(quoted), *values, limit))
    if len(found) < limit and len(words) > 1:
        some = await _ids(connection, best, (" OR ".join(quoted), *values, limit))
        found += [number for number in some if number not in set(found)][: limit - len(found)]
    return found


def _all_of(criteria: Iterable[str]) -> str:
    """That a failure matches each of these."""
    return " AND ".join(f"{name} = ?" for name in criteria) or "1"


async def _ids(
    connection: aiosqlite.Connection, statement: str, values: Iterable[Any]
) -> list[int]:
    return [number for (number,) in await connection.execute_fetchall(statement, tuple(values))]


async def _check_search_is_on(connection: aiosqlite.Connection) -> None:
    found = await connection.execute_fetchall(
        "SELECT 1 FROM sqlite_master WHERE name = 'search_failures'"
    )
    if not found:
        raise InvalidRequest(
            "text is given, and search is off in this daemon, so error messages have no index; "
            "ask by error_category, error_code or exit_code, or start the daemon with --search on",
            {"field": "text"},
        )


def _outcome(row: Any) -> SimilarOutcome:
    *known, failed_again, status, completed_at, highest = row
    names = SimilarOutcome.__struct_fields__[: len(known)]
    failure = dict(zip(names, known, strict=True))
    failure["failed_at"] = datetime.fromisoformat(failure["failed_at"])
    for name in ("error_category", "error_code", "error_message"):
        failure[name] = _cut(failure[name])
    return SimilarOutcome(
        **failure,
        next_outcome="failed" if failed_again else status or "gone",
        attempts_after=max(0, highest - failure["attempt_num"]),
        completed_at=datetime.fromisoformat(completed_at) if completed_at else None,
    )


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= MAX_OUTCOME_CHARACTERS:
        return text
    return f"{text[: MAX_OUTCOME_CHARACTERS - 1]}…"


_COLUMNS = ("error_code", "error_category", "exit_code")
_WITH_WORDS = "FROM search_failures WHERE search_failures MATCH ? ORDER BY rowid DESC"
_SELECT_NEWEST_WITH_WORDS = f"""
SELECT failures.id FROM (SELECT rowid AS number {_WITH_WORDS} LIMIT {MAX_LOOKED_AT}) AS found
CROSS JOIN failures ON failures.id = number WHERE {{conditions}} LIMIT ?
"""
_SELECT_BEST_WITH_WORDS = f"""
SELECT failures.id FROM (
    SELECT rowid AS number, bm25(search_failures) AS distance {_WITH_WORDS} LIMIT {MAX_RANKED}
) AS found CROSS JOIN failures ON failures.id = number WHERE {{conditions}}
ORDER BY distance, failures.id DESC LIMIT ?
"""
_BEGINNING = f"1, {MAX_OUTCOME_CHARACTERS + 1}"
_SHEET = "job_id = failure.job_id AND sheet_num = failure.sheet_num"
_SELECT_OUTCOMES = f"""
SELECT failure.id, failure.job_id, failure.sheet_num, attempt_num, execution_id, failed_at,
    substr(failure.error_category, {_BEGINNING}), substr(failure.error_code, {_BEGINNING}),
    failure.exit_code, failure.exit_signal, substr(failure.error_message, {_BEGINNING}),
    EXISTS (SELECT 1 FROM failures WHERE {_SHEET} AND id > failure.id),
    sheets.status,
    iif(sheets.status = 'completed', sheets.completed_at, NULL),
    max(coalesce(sheets.attempt_count, 0),
        (SELECT attempt_num FROM failures WHERE {_SHEET} ORDER BY id DESC LIMIT 1),
        coalesce((SELECT attempt_num FROM execution_history WHERE {_SHEET}
            ORDER BY id DESC LIMIT 1), 0))
FROM json_each(?) AS found CROSS JOIN failures AS failure ON failure.id = found.value
LEFT JOIN sheets USING (job_id, sheet_num)
"""
