"""What a worker learns from the work of others: patterns, and what came of attempts like its.

What lives here: the results of `StateBackend.get_learned_patterns` and `find_similar_outcomes`.
What may not: their requests (those are in `messages`), and how they are found.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

MAX_JOBS_NAMED = 10
"""How many jobs of a pattern are named."""

MAX_OUTCOMES = 1_000
"""The most outcomes that may be asked for at once."""

MAX_OUTCOME_CHARACTERS = 500
"""Where a text of an outcome is cut; one that was cut ends with `…`."""


class LearnedPattern(Struct, frozen=True):
    """A pattern in `learned_patterns`, over all sheets that carry it, which each count once.

    Rates are percentages of the sheets that are completed or failed, null when there are none. What
    was deleted does not count; what was pruned does.
    """

    pattern: str
    sheets: int
    """How many sheets carry it."""
    jobs: int
    """In how many jobs they are."""
    job_ids: list[str]
    """The jobs to which it came last, the newest first, ten at most."""
    completed: int
    """Of the sheets that carry it."""
    failed: int
    success_rate: float | None
    """Of the sheets that carry it."""
    success_rate_without: float | None
    """Of all sheets that do not carry it."""
    mean_confidence: float | None
    """Of the sheets that carry it and have a `confidence_score`."""
    first_seen_at: datetime
    """A sheet is seen when it is stored with the pattern and is new, or has another status, time or
    confidence: at its `completed_at`, else its `started_at`, else the last update of its job."""
    last_seen_at: datetime


class SimilarOutcome(Struct, frozen=True):
    """An attempt that failed, and what happened next on its sheet.

    Texts are cut after 500 characters, and then end with `…`.
    """

    job_id: str
    sheet_num: int
    attempt_num: int
    execution_id: int | None
    """The record of the attempt, when there is one with an exit code other than 0."""
    failed_at: datetime
    error_category: str | None
    error_code: str | None
    exit_code: int | None
    exit_signal: int | None
    error_message: str | None
    next_outcome: str
    """`failed` when the sheet failed again later, or is as this attempt left it; else what the
    sheet is now: `completed`, `in_progress` or another status; `gone` when it is there no more."""
    attempts_after: int
    """How many tries came after it, by their numbers; 0: none, or nobody counted."""
    completed_at: datetime | None
    """When the sheet was completed in the end, however many tries later; null when it is not."""
