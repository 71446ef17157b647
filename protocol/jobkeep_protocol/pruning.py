"""What pruning gives: what went, or would go.

What lives here: the results of `StateBackend.prune`. What may not: the requests (those are in
`messages`), and what goes (that is the daemon's).
"""

from __future__ import annotations

from msgspec import Struct

MAX_JOBS_LISTED = 1_000
"""How many jobs a result lists."""


class PrunedJob(Struct, frozen=True):
    """What goes of one job."""

    job_id: str
    whole: bool
    """Whether the job itself goes, with its sheets."""
    attempts: int
    failures: int
    bytes: int
    """How long the prompts and outputs of these attempts are, in UTF-8."""


class PruneResult(Struct, frozen=True):
    """What went, or would go."""

    jobs: int
    """Whole jobs, with their sheets."""
    attempts: int
    failures: int
    bytes: int
    """How long the prompts and outputs of these attempts are, in UTF-8."""
    freed_bytes: int
    """By how much the database file gets shorter: at its next checkpoint that no reader holds up.
    0 where nothing was removed."""
    listed: list[PrunedJob]
    """The jobs that something of would go, the first 1,000 by their ids, before anything was
    removed."""
