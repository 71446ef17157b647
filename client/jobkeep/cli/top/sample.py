"""What was read from the daemon at one time, and what is to be read the next time.

What lives here: the types that `sampler` makes and the model shows. What may not: reading, showing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from jobkeep_protocol.backend import ExecutionRecord, JobSummary
from jobkeep_protocol.messages import ConnectedClient, DaemonStatus
from jobkeep_protocol.states import CheckpointState


class Wanted(Struct, frozen=True):
    """What to read: jobs with these statuses (all when there are none), the details of those that
    are in the window, the clients, and all of one job."""

    statuses: tuple[str, ...] = ()
    visible: tuple[str, ...] = ()
    clients: bool = False
    opened: str | None = None


class JobDetail(Struct, frozen=True):
    """What the summary of a job does not have. `is_alive` is None where that cannot be seen."""

    pid: int | None
    is_alive: bool | None
    retries: int
    in_progress: tuple[int, ...]
    """Its sheets that are worked on."""


class OpenedJob(Struct, frozen=True):
    """One job with its sheets (None when it is not kept any more) and its newest attempts, newest
    first, each with the end of its output. `trouble` is why the sheets may be older than the rest.
    """

    job_id: str
    state: CheckpointState | None
    attempts: Sequence[ExecutionRecord] = ()
    attempts_kept: int = 0
    trouble: str | None = None


class Sample(Struct, frozen=True):
    """How everything was. `at` is in seconds of the monotonic clock, `now` is the same moment."""

    at: float
    now: datetime
    status: DaemonStatus
    jobs: Sequence[JobSummary]
    details: dict[str, JobDetail]
    clients: Sequence[ConnectedClient] | None = None
    """None when they were not wanted."""
    users: dict[int, str] = {}
    """The names of the users of the clients."""
    opened: OpenedJob | None = None


class Silence(Struct, frozen=True):
    """The daemon could not be asked, and why; `at` is when that was noticed."""

    at: float
    reason: str
