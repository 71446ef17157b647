"""What people see of a daemon and of its requests, whatever these are."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from jobkeep import DaemonStatus
from jobkeep.cli.served import COLUMNS, cells, line
from jobkeep.cli.status import show
from jobkeep.cli.tally import KEPT_DURATIONS, Tally
from jobkeep_protocol.codec import OPERATIONS
from jobkeep_protocol.messages import MonitorPage, OperationFigures, ServedRequest, Worry

IDLE = DaemonStatus(
    pid=4711,
    version="1.2.3",
    uptime_seconds=4000,
    socket="/run/jobkeep/jobkeep.sock",
    database="/var/lib/jobkeep/state.db",
    database_bytes=3 * 1024 * 1024,
    wal_bytes=2048,
    durability="full",
    schema_version=6,
    clients=2,
    jobs={},
    writes=0,
    commits=0,
)


def served(**fields: Any) -> ServedRequest:
    """A request that was answered."""
    given: dict[str, Any] = {
        "sequence": 1,
        "at": datetime(2026, 3, 1, 12, 0, 5, 123_900, UTC),
        "connection_id": 1,
        "pid": 10,
        "uid": 1000,
        "command": "worker",
        "dialect": "binary",
        "operation": "save_sheet",
        "bytes_in": 300,
        "bytes_out": 2048,
        "duration_seconds": 0.0024,
        "queue_seconds": 0.0002,
        "commit_seconds": 0.002,
        "reply_seconds": 0.0002,
        **fields,
    }
    return ServedRequest(**given)


def shown(status: DaemonStatus, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What `jobkeep status` prints, by the first words of its lines."""
    show(status)
    return dict(
        re.split(r"  +", line.strip(), maxsplit=1)
        for line in capsys.readouterr().out.splitlines()
        if "  " in line.strip()
    )


# -- status -----------------------------------------------------------------------------------


def test_status_of_an_idle_daemon_says_that_there_is_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = shown(IDLE, capsys)

    assert out["daemon"] == "jobkeepd 1.2.3, pid 4711"
    assert out["up for"] == "1 h 6 min"
    assert out["database"] == "/var/lib/jobkeep/state.db (3.0 MiB, durability full, schema 6)"
    assert out["write-ahead log"] == "2.0 KiB"
    assert out["last checkpoint"] == "-"
    assert (out["jobs"], out["queue"], out["errors"], out["worries"]) == (
        *("none", "empty", "none", "none"),
    )


def test_status_of_a_busy_daemon_has_rates_figures_and_errors(
    capsys: pytest.CaptureFixture[str],
) -> None:
    figures = OperationFigures(
        requests=7,
        errors=2,
        p50_seconds=0.00008,
        p95_seconds=0.0021,
        p99_seconds=0.05,
        max_seconds=1.25,
    )
    busy = msgspec.structs.replace(
        IDLE,
        jobs={"running": 3, "failed": 1},
        writes=120,
        commits=30,
        queued_writes=2,
        queued_bytes=2048,
        writes_per_second=12.0,
        commits_per_second=3.0,
        requests=1000,
        last_checkpoint_at=datetime.now(UTC) - timedelta(minutes=3, seconds=0.5),
        operations={"load": figures},
        errors={"job_not_found": 2},
        limits_reached={"max_clients": 1},
    )

    out = shown(busy, capsys)

    assert out["jobs"] == "3 running, 1 failed"
    assert out["queue"] == "2 writes, 2.0 KiB"
    assert out["now"] == "12.0 writes/s in 3.0 commits/s, 4.0 a commit"
    assert out["since its start"] == "1000 requests; 120 writes in 30 commits, 4.0 a commit"
    assert out["last checkpoint"] == "3 min ago"
    assert out["errors"] == "job_not_found 2"
    assert out["limits reached"] == "max_clients 1"
    assert re.split(r"  +", out["load"]) == ["7", "2", "80 µs", "2.1 ms", "50 ms", "1.2 s"]


def test_worries_come_last_each_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    worries = [Worry("the disk is full\x1b[2J", "make room"), Worry("it is slow", "look at it")]

    show(msgspec.structs.replace(IDLE, worries=worries))

    out = capsys.readouterr().out
    assert "worries          2, below\n" in out
    assert out.endswith(
        "\n\n! the disk is full\\x1b[2J\n  make room\n\n! it is slow\n  look at it\n"
    )


# -- requests ---------------------------------------------------------------------------------


def test_a_request_is_a_line_with_the_parts_of_its_time() -> None:
    shown_at, *rest = cells(served(job_id="a\nb", sheet_num=3))

    assert re.fullmatch(r"\d\d:\d\d:05\.123", shown_at)
    assert rest == [
        *("worker[10]", "1000", "save_sheet", "300 B", "2.0 KiB"),
        *("2.4 ms", "200 µs", "2.0 ms", "200 µs", "ok", "a\\nb sheet 3"),
    ]


def test_a_read_has_no_commit_and_an_error_has_its_code() -> None:
    row = cells(served(commit_seconds=0.0, error="job_not_found"))

    assert row[8:] == ("-", "200 µs", "job_not_found", "-")
    assert line(row).split()[-2:] == ["job_not_found", "-"]


def test_no_operation_pushes_the_columns_beside_it_out_of_line() -> None:
    assert max(map(len, OPERATIONS)) <= COLUMNS["OPERATION"]


def test_figures_are_of_the_requests_that_were_seen() -> None:
    tally = Tally()
    slow = [served(duration_seconds=number / 1000) for number in range(1, 101)]

    tally.add(MonitorPage(slow, next=100, missed=2))
    tally.add(MonitorPage([served(operation="load", error="job_not_found")], next=101, missed=1))

    assert (tally.requests, tally.errors, tally.missed) == (101, 1, 3)
    assert (tally.bytes_in, tally.bytes_out) == (101 * 300, 101 * 2048)
    figures = tally.operations["save_sheet"]
    assert figures.percentiles((0.5, 0.99)) == [0.05, 0.099]
    assert figures.max_seconds == 0.1
    assert tally.operations["load"].percentiles((0.5, 0.99)) == [0.0024, 0.0024]


def test_a_long_watch_keeps_the_last_durations_and_counts_all() -> None:
    tally = Tally()
    page = MonitorPage([served(duration_seconds=9.0), *[served()] * KEPT_DURATIONS], next=1)

    tally.add(page)

    figures = tally.operations["save_sheet"]
    assert figures.requests == KEPT_DURATIONS + 1
    assert figures.percentiles((1.0,)) == [0.0024]
    assert figures.max_seconds == 9.0
