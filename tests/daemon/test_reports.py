"""Reports hold up no writer, and refuse what would be too much."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.states import CheckpointState, SheetState, SheetStatus
from jobkeepd.backend import SQLiteStateBackend
from tests.support import wait_until_async

STEPS_BEFORE_THE_GATE = 200
"""Steps of SQLite in which a report has begun to read, and is far from its end."""


class Gate:
    """Stops what reads on the connections of readers in the midst of a statement."""

    def __init__(self) -> None:
        self.is_armed = False
        self._has_stopped = threading.Event()
        self._opened = threading.Event()
        self._steps = 0

    def open(self) -> None:
        """Let it go on."""
        self._opened.set()

    async def stopped(self) -> bool:
        """Whether it holds something."""
        return self._has_stopped.is_set()

    def step(self) -> int:
        """One step of SQLite; go on, after the gate is open."""
        if self.is_armed:
            self._steps += 1
            if self._steps > STEPS_BEFORE_THE_GATE:
                self._has_stopped.set()
                self._opened.wait()
        return 0


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """On all connections of readers that are opened from now on."""
    gate = Gate()
    connect = sqlite3.connect

    def connect_with_gate(database: Any, *arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(database, *arguments, **options)
        if "mode=ro" in str(database):
            connection.set_progress_handler(gate.step, 1)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_with_gate)
    return gate


@pytest.fixture
async def backend(tmp_path: Path, gate: Gate) -> AsyncIterator[SQLiteStateBackend]:
    """A backend with a job of a few attempts; at its end nothing is held any more."""
    async with SQLiteStateBackend(tmp_path / "state.db") as backend:
        await backend.save(CheckpointState(job_id="job", total_sheets=50))
        for number in range(1, 40):
            await backend.record_execution("job", number, 1, exit_code=0, duration_seconds=1.0)
        yield backend
        gate.open()


async def test_writes_go_on_while_a_report_reads(gate: Gate, backend: SQLiteStateBackend) -> None:
    await backend.get_durations()
    gate.is_armed = True
    report = asyncio.create_task(backend.get_durations())
    await wait_until_async(gate.stopped)

    for number in range(1, 30):
        await backend.save_sheet("job", SheetState(sheet_num=number, status=SheetStatus.COMPLETED))
        await backend.record_execution("job", number, 2, exit_code=0, duration_seconds=9.0)
    is_still_reading = not report.done()
    gate.open()
    found = await report

    assert is_still_reading
    assert found.executions == 39
    assert (await backend.get_overview()).executions == 68


@pytest.mark.parametrize(("by", "days"), [("hour", 417), ("day", 10_001)])
async def test_timeline_of_too_many_hours_or_days_is_refused(
    backend: SQLiteStateBackend, by: Any, days: int
) -> None:
    since = datetime(1990, 1, 1, tzinfo=UTC)
    until = since + timedelta(days=days)

    with pytest.raises(InvalidRequest, match=rf"\d+ {by}s, and has at most 10000; give a later"):
        await backend.get_timeline(since=since, until=until, by=by)
    whole = await backend.get_timeline(since=since, until=since + timedelta(days=400), by=by)
    assert len(whole.buckets) == {"hour": 9_600, "day": 400}[by]


@pytest.mark.parametrize("until", [datetime.min, datetime(2026, 1, 1)])  # noqa: DTZ001, DTZ901 # the zone follows
async def test_time_that_ends_before_it_begins_has_nothing(
    backend: SQLiteStateBackend, until: datetime
) -> None:
    since = datetime(2026, 1, 2, tzinfo=UTC)
    until = until.replace(tzinfo=UTC)

    assert (await backend.get_timeline(since=since, until=until)).buckets == []
    assert (await backend.get_overview(since=since, until=until)).executions == 0
    assert (await backend.get_timeline(until=until)).buckets == []
