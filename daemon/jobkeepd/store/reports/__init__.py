"""What each report answers.

What lives here: a module for each subject, and the table that finds the function for a request.
What may not: any other read, and writing.

Reports run on a reader's connection, in one snapshot, so they hold up no writer. They read kept
counters and covering indexes: never a row of `execution_history`, whose prompts and outputs come
before all that a report asks for. A row of `jobs` is read for each job, and of `sheets` for the
jobs that were updated since, where a report is asked about a time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from jobkeep_protocol.messages import (
    GetDurations,
    GetErrors,
    GetOutcomes,
    GetOverview,
    GetTimeline,
    GetValidations,
)
from jobkeepd.store.readers import Readers
from jobkeepd.store.reports.durations import get_durations
from jobkeepd.store.reports.errors import get_errors
from jobkeepd.store.reports.overview import get_overview
from jobkeepd.store.reports.sheets import get_outcomes, get_validations
from jobkeepd.store.reports.timeline import get_timeline

REPORTS: dict[type[Any], Callable[[Readers, Any], Awaitable[Any]]] = {
    GetOverview: get_overview,
    GetDurations: get_durations,
    GetErrors: get_errors,
    GetValidations: get_validations,
    GetOutcomes: get_outcomes,
    GetTimeline: get_timeline,
}
"""The function for each type of request."""
