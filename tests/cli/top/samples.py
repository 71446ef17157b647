"""Samples as the sampler makes them, from what a test wants to say.

What lives here: helpers without fixtures and without a daemon.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from jobkeep import CheckpointState
from jobkeep.cli.top.sample import OpenedJob, Sample
from jobkeep_protocol.backend import ExecutionRecord, JobSummary
from jobkeep_protocol.messages import ConnectedClient, DaemonStatus, Worry

NOW = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
STUCK_AFTER = 300.0


def job(
    job_id: str,
    done: int = 0,
    total: int = 10,
    status: str = "running",
    changed: float = 0.0,
    name: str = "",
    error: str | None = None,
) -> JobSummary:
    """A job that changed so many seconds ago."""
    updated_at = (NOW - timedelta(seconds=changed)).isoformat()
    return JobSummary(
        id=job_id,
        name=name or job_id,
        status=status,
        total_sheets=total,
        last_completed_sheet=done,
        created_at=updated_at,
        updated_at=updated_at,
        completed_at=None,
        error_message=error,
    )


def sample(*jobs: JobSummary, at: float = 0.0, **fields: Any) -> Sample:
    """These jobs, so many seconds after the first sample."""
    now = NOW + timedelta(seconds=at)
    given = {"status": daemon_status(jobs), "details": {}, **fields}
    return Sample(at=at, now=now, jobs=jobs, **given)


def daemon_status(jobs: Sequence[JobSummary], worries: Sequence[Worry] = ()) -> DaemonStatus:
    """A daemon that keeps these jobs."""
    counts: dict[str, int] = {}
    for one in jobs:
        counts[one["status"]] = counts.get(one["status"], 0) + 1
    return DaemonStatus(
        pid=1,
        version="1.2.3",
        uptime_seconds=3600.0,
        socket="/run/jobkeep/jobkeep.sock",
        database="/var/lib/jobkeep/state.db",
        database_bytes=4096,
        wal_bytes=0,
        durability="full",
        schema_version=6,
        clients=2,
        jobs=counts,
        writes=10,
        commits=5,
        writes_per_second=1234.0,
        commits_per_second=0.5,
        worries=list(worries),
    )


def client(connection_id: int, requests: int, command: str = "python") -> ConnectedClient:
    """A connection that has asked for so much."""
    return ConnectedClient(
        connection_id=connection_id,
        pid=1000 + connection_id,
        uid=0,
        gid=0,
        command=command,
        role="admin",
        dialect="binary",
        name="jobkeep-python",
        version="1.2.3",
        connected_seconds=60.0,
        idle_seconds=2.0,
        requests=requests,
        in_flight=1,
        bytes_in=100,
        bytes_out=100,
        last_operation="load",
        claims=3,
        unsent_bytes=0,
    )


def opened(state: CheckpointState | None, *outputs: str, job_id: str = "job") -> OpenedJob:
    """A job with attempts that had these outputs, the newest first."""
    attempts = [
        ExecutionRecord(
            id=len(outputs) - place,
            job_id=job_id,
            sheet_num=1,
            attempt_num=len(outputs) - place,
            prompt=None,
            output=output,
            exit_code=0,
            duration_seconds=1.5,
            executed_at=NOW.isoformat(),
        )
        for place, output in enumerate(outputs)
    ]
    return OpenedJob(job_id, state, attempts, len(attempts))
