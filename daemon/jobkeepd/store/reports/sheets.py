"""The reports on what sheets say of themselves: validations by rule, and outcomes.

What lives here: adding up the counts that are kept for each job, or counting the sheets of some
time. What may not: how the counts are kept (triggers of `schema`).
"""

from __future__ import annotations

from jobkeep_protocol.messages import GetOutcomes, GetValidations
from jobkeep_protocol.reports import OutcomeFigures, Outcomes, RuleFigures, Validations
from jobkeepd.store.readers import Readers
from jobkeepd.store.reads import reads
from jobkeepd.store.reports import scope
from jobkeepd.store.reports.scope import has_times, is_about_all, rows


@reads(GetValidations)
async def get_validations(readers: Readers, request: GetValidations) -> Validations:
    """Rules, those that failed most often first."""
    if has_times(request):
        source, values = scope.sheets_ended(request)
        counts, values = f"({_rules_of(source)})", values * 2
    else:
        counts, values = scope.counts("rule_counts", request)
        if is_about_all(request):
            counts = f"(SELECT {_RULES} FROM pruned_rules UNION ALL SELECT {_RULES} FROM {counts})"
    async with readers.snapshot() as connection:
        found = await rows(
            connection,
            f"SELECT rule, sum(passed) AS passes, sum(failed) AS fails FROM {counts} "
            "GROUP BY rule HAVING passes > 0 OR fails > 0 ORDER BY fails DESC, passes DESC, rule",
            values,
        )
    limit = min(request.limit, readers.limits.max_page_rows)
    rules = [
        RuleFigures(rule, passed, failed, 100.0 * passed / (passed + failed))
        for rule, passed, failed in found[:limit]
    ]
    return Validations(sum(row[1] for row in found), sum(row[2] for row in found), rules)


@reads(GetOutcomes)
async def get_outcomes(readers: Readers, request: GetOutcomes) -> Outcomes:
    """Categories, those of the most sheets first."""
    if has_times(request):
        source, values = scope.sheets_ended(request)
        counts = f"(SELECT {_OUTCOME} FROM {source} AND {_HAS_OUTCOME})"
    else:
        counts, values = scope.counts("outcome_counts", request)
        if is_about_all(request):
            counts = (
                f"(SELECT * FROM pruned_outcomes UNION ALL SELECT {_OUTCOMES} FROM outcome_counts)"
            )
    async with readers.snapshot() as connection:
        found = await rows(
            connection,
            "SELECT nullif(outcome_category, '') AS category, sum(sheets) AS number, "
            f"sum(completed), sum(failed), sum(without_retry) FROM {counts} "
            "GROUP BY category HAVING number > 0 ORDER BY number DESC, category",
            values,
        )
    limit = min(request.limit, readers.limits.max_page_rows)
    return Outcomes(
        sum(row[1] for row in found),
        sum(row[4] for row in found),
        [OutcomeFigures(*row) for row in found[:limit]],
    )


def _rules_of(source: str) -> str:
    """The rules of the sheets of a scope, with a column for each list that they may be in."""
    tables, _, conditions = source.partition(" WHERE ")
    return " UNION ALL ".join(
        f"SELECT each.value AS rule, {passed} AS passed, {1 - passed} AS failed "
        f"FROM {tables} CROSS JOIN json_each(CASE WHEN json_valid(sheets.{column}) "
        f"THEN sheets.{column} END) AS each WHERE {conditions} AND each.value NOTNULL"
        for column, passed in (("passed_validations", 1), ("failed_validations", 0))
    )


_OUTCOME = (
    "coalesce(outcome_category, '') AS outcome_category, 1 AS sheets, "
    "sheets.status = 'completed' AS completed, sheets.status = 'failed' AS failed, "
    "success_without_retry AS without_retry"
)
_RULES = "rule, passed, failed"
_OUTCOMES = "outcome_category, sheets, completed, failed, without_retry"
_HAS_OUTCOME = "(sheets.outcome_category <> '' OR sheets.success_without_retry)"
