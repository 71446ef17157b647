"""Asking the index of the texts.

What lives here: which attempts and failures match, the best first, and what is shown of each. What
may not: the tables of the index (those are `search_tables`), and the language of queries
(`query_words`).

The order is found first, from the index alone; texts are read only for the hits of one page. That
stays quick however common a word is: of the attempts that match, so many of the newest are ranked
as take about a tenth of a second, and a text that is larger than `SNIPPET_OF` is shown around the
first of the words, without FTS5, which would take it apart into words again, twice.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal, NamedTuple

import aiosqlite

from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.messages import SearchExecutions
from jobkeep_protocol.search import Mark, SearchHit, SearchPage
from jobkeepd.store.query_words import Query, parse
from jobkeepd.store.readers import Readers
from jobkeepd.store.reads import reads
from jobkeepd.store.search_tables import INDEXES

HITS_A_PAGE = 50
MOST_RANKED = 100_000
SNIPPET_OF = 128 * 1024
SNIPPET_WORDS = 24
SNIPPET_CHARACTERS = 300

Field = Literal["prompt", "output", "error_message"]

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
"""Around a word that was found: characters that Unicode leaves to programs, and no text has."""

_LEFT_OUT = "…"
_BEFORE = 60
"""Characters shown before the first word."""


class _Source(NamedTuple):
    """What is searched: an index, the table of its texts, and those of its columns that are shown,
    with the one first in which words are looked for first."""

    name: str
    table: str
    columns: tuple[Field, ...]
    details: str


_EXECUTIONS = _Source(
    "search_executions",
    "execution_history",
    ("output", "prompt"),
    "found.id, NULL, found.executed_at",
)
_FAILURES = _Source(
    "search_failures",
    "failures",
    ("error_message",),
    "found.execution_id, found.id, found.failed_at",
)
_SOURCES = (_EXECUTIONS, _FAILURES)

_ORDINALS = {"prompt": 0, "output": 1, "error_message": 0}
"""The place of a column in its index."""


@reads(SearchExecutions)
async def search_executions(readers: Readers, request: SearchExecutions) -> SearchPage:
    """One page of hits."""
    query = parse(request.query)
    limit = min(request.limit, HITS_A_PAGE, readers.limits.max_page_rows)
    async with readers.snapshot() as connection:
        complete = await _is_complete(connection)
        ranked = await _ranked(connection, query, request, limit + 1)
        hits: dict[tuple[int, int], SearchHit] = {}
        for place, source in enumerate(_SOURCES):
            ranks = {key: rank for kind, key, rank in ranked[:limit] if kind == place}
            for key, hit in await _hits(connection, source, query, ranks):
                hits[place, key] = hit
    best_first = [hits[kind, key] for kind, key, _ in ranked[:limit]]
    return SearchPage(best_first, complete, more=len(ranked) > limit)


async def _is_complete(connection: aiosqlite.Connection) -> bool:
    """Whether all texts are in the index. Raises InvalidRequest where there is none."""
    names = ", ".join(f"'{index.name}'" for index in INDEXES)
    rows = list(
        await connection.execute_fetchall(f"SELECT value FROM counters WHERE name IN ({names})")
    )
    if len(rows) < len(INDEXES):
        raise InvalidRequest(
            "the texts of this database are not indexed, for search is off; start jobkeepd with "
            "--search on",
            {"reason": "search_off"},
        )
    return not any(value for (value,) in rows)


async def _ranked(
    connection: aiosqlite.Connection, query: Query, request: SearchExecutions, limit: int
) -> list[tuple[int, int, float]]:
    """The best that match: which source, which row of it, and how well."""
    kind, key = 0, request.after_execution_id
    if request.after_failure_id is not None:
        kind, key = 1, request.after_failure_id
    if (request.after_rank is None) != (key is None):
        raise InvalidRequest(
            "after_rank goes with after_execution_id or after_failure_id, all of one hit",
            {"field": "after_rank"},
        )
    matching = " UNION ALL ".join(
        f"SELECT * FROM ({_matching(place, source, of_one_job=request.job_id is not None)})"
        for place, source in enumerate(_SOURCES)
    )
    after = "" if key is None else "WHERE (rank, kind, -id) > (:rank, :kind, -:id)"
    rows = await connection.execute_fetchall(
        f"SELECT kind, id, rank FROM ({matching}) {after} "
        "ORDER BY rank, kind, id DESC LIMIT :limit",
        {
            "query": query.match,
            "job_id": request.job_id,
            "rank": request.after_rank,
            "kind": kind,
            "id": key,
            "limit": limit,
        },
    )
    return [(kind, key, rank) for kind, key, rank in rows]


def _matching(place: int, source: _Source, *, of_one_job: bool) -> str:
    """The newest rows that match. Those of a job are between its first and its last."""
    index, table = source.name, source.table
    of_job = f"SELECT {{}}(id) FROM {table} WHERE job_id = :job_id"
    condition = (
        f"AND rowid BETWEEN ({of_job.format('min')}) AND ({of_job.format('max')}) "
        f"AND EXISTS (SELECT 1 FROM {table} WHERE job_id = :job_id AND id = {index}.rowid)"
    )
    return (
        f"SELECT {place} AS kind, rowid AS id, bm25({index}) AS rank FROM {index} "
        f"WHERE {index} MATCH :query {condition if of_one_job else ''} "
        f"ORDER BY rowid DESC LIMIT {MOST_RANKED}"
    )


async def _hits(
    connection: aiosqlite.Connection, source: _Source, query: Query, ranks: dict[int, float]
) -> list[tuple[int, SearchHit]]:
    """What is shown of these rows. One pass over what matches finds all of them: for each by itself
    FTS5 would put together anew what a `word*` stands for."""
    if not ranks:
        return []
    snippets = ", ".join(
        f"CASE WHEN length(found.{column}) <= {SNIPPET_OF} THEN snippet({source.name}, "
        f"{_ORDINALS[column]}, '{_OPEN}', '{_CLOSE}', '{_LEFT_OUT}', {SNIPPET_WORDS}) END"
        for column in source.columns
    )
    rows = await connection.execute_fetchall(
        f"SELECT found.id, found.job_id, found.sheet_num, found.attempt_num, found.exit_code, "
        f"{source.details}, {snippets} "
        f"FROM {source.name} CROSS JOIN {source.table} AS found "
        f"ON found.id = {source.name}.rowid WHERE {source.name} MATCH ? "
        f"AND {source.name}.rowid BETWEEN ? AND ? "
        f"AND +{source.name}.rowid IN ({', '.join(map(str, ranks))})",
        (query.match, min(ranks), max(ranks)),
    )
    hits = []
    for key, job_id, sheet_num, attempt_num, exit_code, execution, failure, at, *texts in rows:
        field, text = await _shown(connection, source, query, key, texts)
        snippet, marks = _marked(text)
        hit = SearchHit(
            job_id=job_id,
            sheet_num=sheet_num,
            attempt_num=attempt_num,
            execution_id=execution,
            failure_id=failure,
            field=field,
            snippet=snippet,
            marks=marks,
            rank=ranks[key],
            at=datetime.fromisoformat(at),
            exit_code=exit_code,
        )
        hits.append((key, hit))
    return hits


async def _shown(
    connection: aiosqlite.Connection,
    source: _Source,
    query: Query,
    key: int,
    snippets: list[str | None],
) -> tuple[Field, str]:
    """The column to show, and what of it."""
    for column, snippet in zip(source.columns, snippets, strict=True):
        if snippet is not None and _OPEN in snippet:
            return column, snippet
    for word in query.words:
        for column in source.columns:
            text = await _around(connection, source, key, column, word)
            if text is not None:
                return column, text
    return source.columns[0], snippets[0] or ""


async def _around(
    connection: aiosqlite.Connection, source: _Source, key: int, column: str, word: str
) -> str | None:
    """A text from a little before a word on; None when the word is not in it as it is written."""
    rows = await connection.execute_fetchall(
        f"WITH found AS MATERIALIZED (SELECT instr(lower({column}), lower(?2)) AS place "
        f"FROM {source.table} WHERE id = ?1) "
        f"SELECT place, substr({column}, max(place - {_BEFORE}, 1), {SNIPPET_CHARACTERS} + 1) "
        f"FROM found, {source.table} WHERE id = ?1 AND place > 0",
        (key, word),
    )
    for place, text in rows:
        shown = re.sub(
            re.escape(word),
            rf"{_OPEN}\g<0>{_CLOSE}",
            text[:SNIPPET_CHARACTERS],
            flags=re.IGNORECASE,
        )
        is_cut = place > _BEFORE + 1, len(text) > SNIPPET_CHARACTERS
        return f"{_LEFT_OUT * is_cut[0]}{shown}{_LEFT_OUT * is_cut[1]}"
    return None


def _marked(text: str) -> tuple[str, list[Mark]]:
    """A text without the marks in it, and where they were; of one with very long words as much as
    is fit to be shown."""
    plain, marks = "", []
    for place, part in enumerate(text.split(_OPEN)):
        word, closed, rest = part.partition(_CLOSE)
        if place and closed:
            marks.append(Mark(len(plain), len(plain) + len(word)))
        plain += word + rest.replace(_CLOSE, "")
    if len(plain) <= 2 * SNIPPET_CHARACTERS:
        return plain, marks
    first = max(0, (marks[0].start if marks else 0) - _BEFORE)
    cut = plain[first : first + SNIPPET_CHARACTERS]
    return cut, [
        Mark(mark.start - first, min(mark.end - first, len(cut)))
        for mark in marks
        if mark.start - first < len(cut)
    ]
