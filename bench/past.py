"""A database as it is after a month of work.

What lives here: filling a file with jobs, attempts and failures spread over thirty days, through
the store's own writes in large transactions, at a clock of its own: a daemon would give all of them
the time of the filling. What may not: measuring.

Prompts and outputs are short, and one output in twenty has 10 kB: with every one of that size a
million attempts would be a file of 10 GB.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

from msgspec.structs import replace

from jobkeep_protocol.messages import RecordExecution, Save, SaveSheet
from jobkeep_protocol.states import CheckpointState, JobStatus, SheetState, SheetStatus
from jobkeepd.store import transaction, writes
from jobkeepd.store.connection import create_private, open_for_writing
from jobkeepd.store.migrations import migrate
from jobkeepd.store.transaction import Transaction

DAYS = 30
SHEETS = 100
WRITES_AT_ONCE = 10_000
WAL_KEEP_BYTES = 16 * 1024 * 1024

RULES = ("compiles", "tests pass", "no warnings", "small diff")
FAILURES = (("timeout", "E_TIME", 124, None), ("crash", None, -11, 11), ("test", "E_TEST", 1, None))


def fill(database: Path, executions: int) -> datetime:
    """Make a database with about so many executions; gives the moment at which it ends."""
    database.parent.mkdir(parents=True, exist_ok=True)
    create_private(database)
    clock = _Clock(datetime.now(UTC) - timedelta(days=DAYS))
    with (
        closing(open_for_writing(database, "normal", WAL_KEEP_BYTES)) as connection,
        mock.patch.object(writes, "utc_now", clock),
        mock.patch.object(transaction, "utc_now", clock),
    ):
        migrate(connection)
        tx = Transaction(connection)
        step = timedelta(days=DAYS) / (executions + 2 * SHEETS)  # the last job is a whole one
        requests = _requests(executions, clock, step)
        while batch := list(islice(requests, WRITES_AT_ONCE)):
            _apply(connection, tx, clock, batch)
    return clock.now


class _Clock:
    """The time of what is written."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def _apply(
    connection: sqlite3.Connection, tx: Transaction, clock: _Clock, requests: list[Any]
) -> None:
    connection.execute("BEGIN")
    for request, at in requests:
        clock.now = at
        if isinstance(request, Save) and request.base is not None:
            request = replace(request, base=tx.sequence)  # nothing was written since but this job
        writes.WRITES[type(request)](tx, request)
    tx.noted.clear()
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _requests(executions: int, clock: _Clock, step: timedelta) -> Iterator[tuple[Any, datetime]]:
    """What is written, and when."""
    dice = random.Random(1)  # noqa: S311 # no secret
    now, done, number = clock.now, 0, 0
    while done < executions:
        number += 1
        job = CheckpointState(
            job_id=f"job-{number}",
            job_name=f"{dice.choice(('nightly', 'hourly', 'adhoc'))} {number}",
            total_sheets=SHEETS,
            status=JobStatus.RUNNING,
            created_at=now,
            config_snapshot={"command": "x" * 1_000},
        )
        yield Save(job, []), now
        for sheet_num in range(1, SHEETS + 1):
            attempts = dice.choice((1, 1, 1, 1, 2))
            for attempt in range(1, attempts + 1):
                now += step
                done += 1
                has_failed = attempt < attempts or dice.random() < 0.02
                failure = dice.choice(FAILURES) if has_failed else None
                seconds = dice.lognormvariate(1.0, 1.0)
                yield _record(dice, job.job_id, sheet_num, attempt, failure, seconds), now
                yield SaveSheet(job.job_id, _sheet(dice, sheet_num, attempt, failure, now)), now
        job.status = dice.choice((JobStatus.COMPLETED, JobStatus.COMPLETED, JobStatus.FAILED))
        job.completed_at = now
        yield Save(job, [], base=0), now


def _record(
    dice: random.Random, job_id: str, sheet_num: int, attempt: int, failure: Any, seconds: float
) -> RecordExecution:
    output = "o" * (10_000 if dice.random() < 0.05 else 200)
    exit_code = failure[2] if failure else 0
    return RecordExecution(job_id, sheet_num, attempt, "p" * 50, output, exit_code, seconds)


def _sheet(
    dice: random.Random, sheet_num: int, attempt: int, failure: Any, now: datetime
) -> SheetState:
    category, code, exit_code, signal = failure or (None, None, 0, None)
    failed = [rule for rule in RULES if dice.random() < 0.1]
    return SheetState(
        sheet_num=sheet_num,
        status=SheetStatus.FAILED if failure else SheetStatus.COMPLETED,
        attempt_count=attempt,
        started_at=now,
        completed_at=now,
        exit_code=exit_code,
        exit_signal=signal,
        error_category=category,
        error_code=code,
        error_message="it did not work" if failure else None,
        passed_validations=[rule for rule in RULES if rule not in failed],
        failed_validations=failed,
        outcome_category="retried" if attempt > 1 else "clean",
        success_without_retry=attempt == 1 and not failure,
        input_tokens=1_000,
        output_tokens=200,
        estimated_cost=0.01,
    )
