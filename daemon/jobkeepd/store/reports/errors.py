"""The report of errors: failures by what is alike in them.

What lives here: grouping the rows of `failures`, which are found and grouped in an index, and an
example of each group that is listed. What may not: how a failure comes to be kept (triggers of
`schema`).
"""

from __future__ import annotations

import json
from typing import Any

from jobkeep_protocol.messages import GetErrors
from jobkeep_protocol.reports import ErrorGroup, Errors, FailureExample
from jobkeepd.store.readers import Readers
from jobkeepd.store.reads import reads
from jobkeepd.store.reports import scope
from jobkeepd.store.reports.scope import rows, utc

MESSAGE_CHARACTERS = 500
"""The longest message of an example."""


@reads(GetErrors)
async def get_errors(readers: Readers, request: GetErrors) -> Errors:
    """The most frequent groups, each with the failure that was kept last."""
    source, values = scope.failures(request)
    pruned, pruned_values = scope.pruned_failures(request)
    limit = min(request.limit, readers.limits.max_page_rows)
    async with readers.snapshot() as connection:
        ((total,),) = await rows(
            connection,
            f"SELECT (SELECT count(*) FROM {source}) "
            f"+ (SELECT coalesce(sum(failures), 0) FROM {pruned})",
            (*values, *pruned_values),
        )
        statement = _grouped(source)
        if await rows(connection, f"SELECT 1 FROM {pruned} LIMIT 1", pruned_values):
            statement, values = _grouped_with_pruned(source, pruned), (*values, *pruned_values)
        found = await rows(
            connection, f"{statement} ORDER BY failures DESC, newest DESC LIMIT ?", (*values, limit)
        )
        examples = {
            row[0]: _example(row)
            for row in await rows(
                connection, _SELECT_EXAMPLES, (json.dumps([row[-1] for row in found]),)
            )
        }
    groups = [
        ErrorGroup(
            *(category, code, exit_code, signal, failures, jobs, utc(first), utc(last)),
            examples.get(newest),
        )
        for category, code, exit_code, signal, failures, jobs, first, last, newest in found
    ]
    return Errors(int(total), groups)


def _grouped(source: str) -> str:
    """A statement for the groups of failures that are kept."""
    return (
        f"SELECT {_ALIKE}, count(*) AS failures, count(DISTINCT job_id), min(failed_at), "
        f"max(failed_at), max(id) AS newest FROM {source} GROUP BY {_ALIKE}"
    )


def _grouped_with_pruned(source: str, pruned: str) -> str:
    """The same with those that were pruned. Jobs that were pruned are counted beside the others, in
    the first hour in which they had such a failure; a job of which some failures are kept and some
    were pruned counts once."""
    return (
        f"SELECT {_ALIKE}, sum(failures) AS failures, "
        "max(1, count(DISTINCT nullif(job_id, '')) + sum(iif(job_id = '', jobs, 0))), "
        "min(first), max(last), max(newest) AS newest FROM ("
        f"SELECT job_id, {_ALIKE}, count(*) AS failures, 0 AS jobs, min(failed_at) AS first, "
        f"max(failed_at) AS last, max(id) AS newest FROM {source} GROUP BY job_id, {_ALIKE} "
        f"UNION ALL SELECT job_id, {_ALIKE}, failures, jobs, first_failed_at, last_failed_at, NULL "
        f"FROM {pruned}) GROUP BY {_ALIKE}"
    )


def _example(row: Any) -> FailureExample:
    _, job_id, sheet_num, attempt_num, failed_at, message = row
    if message is not None and len(message) > MESSAGE_CHARACTERS:
        message = f"{message[: MESSAGE_CHARACTERS - 1]}…"
    return FailureExample(job_id, sheet_num, attempt_num, utc(failed_at), message)


_ALIKE = "error_category, error_code, exit_code, exit_signal"
_SELECT_EXAMPLES = f"""
SELECT id, job_id, sheet_num, attempt_num, failed_at,
    substr(error_message, 1, {MESSAGE_CHARACTERS + 1})
FROM failures WHERE id IN (SELECT value FROM json_each(?))
"""
