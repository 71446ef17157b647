"""Retention in a daemon: between other work, by itself, and with room given back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobkeep import CheckpointState, Client
from jobkeep_protocol.messages import (
    Event,
    GetExecutionHistory,
    GetExecutionHistoryCount,
    MarkSheetStatus,
    Prune,
    RecordExecution,
    Watch,
)
from jobkeep_protocol.states import JobStatus, SheetStatus, utc_now
from jobkeepd.store import pruning
from tests.daemon.old_files import make_old_file
from tests.daemon_process import DaemonProcess
from tests.support import scaled, wait_until
from tests.wire import Wire

ATTEMPTS = 1_000
JOBS = 20
TEXT = "a line of an output\n" * 200


@pytest.fixture
def wire(daemon: DaemonProcess) -> Iterator[Wire]:
    """A connection to a daemon that has a job with many attempts, and another job."""
    with Wire(daemon.socket) as wire:
        fill(wire)
        wire.save(CheckpointState(job_id="other", total_sheets=1))
        yield wire


def fill(wire: Wire, job_id: str = "job", attempts: int = ATTEMPTS, **fields: Any) -> None:
    """A job with many attempts at two sheets."""
    wire.save(CheckpointState(job_id=job_id, total_sheets=2, **fields))
    records = [
        wire.send(RecordExecution(job_id, 1 + number % 2, number, output=TEXT, exit_code=0))
        for number in range(attempts)
    ]
    for _ in records:
        assert wire.reply_to(RecordExecution) is not None


def count(wire: Wire, job_id: str = "job") -> int:
    """The attempts that are kept."""
    return wire.ask(GetExecutionHistoryCount(job_id))


# -- between other work -------------------------------------------------------------------------


def test_one_batch_is_small_whatever_may_go(wire: Wire) -> None:
    step = wire.ask(Prune(["job"], before=utc_now()))

    assert 0 < step.attempts <= 100
    assert step.bytes <= 200_000
    assert step.done == 0
    assert count(wire) == ATTEMPTS - step.attempts


def test_writes_of_others_are_committed_between_the_batches(
    wire: Wire, daemon: DaemonProcess
) -> None:
    for number in range(JOBS):
        fill(wire, f"done {number}", attempts=70, status=JobStatus.COMPLETED)
    began = events_after(wire, 0)[-1].sequence
    with ThreadPoolExecutor(1) as executor, Client(daemon.socket, timeout=scaled(20)) as client:
        pruning = executor.submit(client.prune, older_than=0, status="completed")
        while not pruning.done():
            wire.ask(MarkSheetStatus("other", 1, SheetStatus.PENDING))

    happened = [event.kind for event in events_after(wire, began)]
    assert pruning.result().jobs == JOBS == happened.count("deleted")
    first, last = happened.index("deleted"), len(happened) - happened[::-1].index("deleted")
    assert happened[first:last].count("sheet") > JOBS // 2


def events_after(wire: Wire, after: int) -> list[Event]:
    """All that happened since."""
    events: list[Event] = []
    while (page := wire.ask(Watch(after=after, wait_seconds=0))).events:
        events += page.events
        after = page.next
    return events


def test_reads_in_one_snapshot_see_all_of_a_batch_or_nothing(wire: Wire) -> None:
    request: Prune | None = Prune(["job"], before=utc_now())
    left = ATTEMPTS
    while request is not None:
        step = wire.ask(request)
        left -= step.attempts
        assert count(wire) == left
        request = request.following(step)
    assert left == 0


def test_attempt_that_is_larger_than_a_batch_goes_too(wire: Wire) -> None:
    wire.ask(RecordExecution("other", 1, 1, output="x" * (2 * pruning.BATCH_BYTES)))

    step = wire.ask(Prune(["other"], before=utc_now()))

    assert (step.attempts, step.done) == (1, 1)


# -- room ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("reads", [False, True], ids=["alone", "with a reader"])
def test_file_gets_shorter(daemon_process: DaemonProcess, *, reads: bool) -> None:
    daemon_process.start("--search", "off")
    with Wire(daemon_process.socket) as wire:
        fill(wire)
    wait_until(lambda: size_of(daemon_process) > ATTEMPTS * len(TEXT))
    with closing(sqlite3.connect(f"file:{daemon_process.database}?mode=ro", uri=True)) as reader:
        if reads:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM jobs").fetchone()

        with Client(daemon_process.socket, timeout=scaled(20)) as client:
            result = client.prune(older_than=timedelta(0))

        if reads:  # who needs the old pages has them
            (kept,) = reader.execute("SELECT sum(length(output)) FROM execution_history").fetchone()
            assert kept == ATTEMPTS * len(TEXT)
            reader.execute("ROLLBACK")
    assert result.freed_bytes > ATTEMPTS * len(TEXT)
    wait_until(lambda: size_of(daemon_process) < ATTEMPTS * len(TEXT) // 10)


def size_of(daemon: DaemonProcess) -> int:
    """The size of the file."""
    return daemon.database.stat().st_size


def test_file_without_what_it_takes_is_written_anew_at_the_start(
    daemon_process: DaemonProcess,
) -> None:
    daemon_process.start()
    with Wire(daemon_process.socket) as wire:
        fill(wire)
    daemon_process.stop()
    with closing(sqlite3.connect(daemon_process.database)) as connection:
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")

    daemon_process.start()
    with Client(daemon_process.socket, timeout=scaled(20)) as client:
        result = client.prune(older_than=0)
        assert client.get_overview().executions == ATTEMPTS

    assert result.freed_bytes > 0
    assert "was written anew" in daemon_process.log


def test_copy_can_be_made_shorter_too(daemon: DaemonProcess, tmp_path: Path) -> None:
    with Client(daemon.socket, timeout=scaled(20)) as client:
        client.backup(tmp_path / "copy.db")

    with closing(sqlite3.connect(tmp_path / "copy.db")) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)


# -- by itself ----------------------------------------------------------------------------------


@pytest.fixture
def filled(daemon_process: DaemonProcess) -> DaemonProcess:
    """A daemon that has stopped, whose database has a paused and a completed job."""
    daemon_process.start()
    with Wire(daemon_process.socket) as wire:
        fill(wire)
        wire.save(CheckpointState(job_id="done", total_sheets=1, status=JobStatus.COMPLETED))
    daemon_process.stop()
    return daemon_process


def pruned(daemon: DaemonProcess) -> bool:
    """Whether it has said that it has pruned something."""
    return " pruned " in daemon.log


@pytest.mark.parametrize(
    ("options", "attempts", "jobs"),
    [
        (["--prune-attempts-older-than", "0s"], 0, 2),
        (["--prune-keep-last", "3"], 6, 2),
        (["--prune-attempts-older-than", "0s", "--prune-keep-last", "2"], 4, 2),
        (["--prune-max-bytes", str(10 * len(TEXT))], 10, 2),
        (["--prune-jobs", "completed:0s"], ATTEMPTS, 1),
        (["--prune-jobs", "completed:0s,pending:0s"], 0, 0),
    ],
)
def test_daemon_prunes_what_its_settings_say(
    filled: DaemonProcess, options: list[str], attempts: int, jobs: int
) -> None:
    filled.start(*options)

    wait_until(lambda: pruned(filled))

    with Wire(filled.socket) as wire:
        assert count(wire) == attempts
    with Client(filled.socket) as client:
        assert len(client.query_jobs()) == jobs


@pytest.mark.parametrize(
    "option", ["--prune-attempts-older-than=0s", "--prune-keep-last=1", "--prune-max-bytes=1"]
)
def test_limit_on_the_time_of_reads_is_none_on_what_the_daemon_reads_for_itself(
    filled: DaemonProcess, option: str
) -> None:
    filled.start(option, "--read-seconds=0.000001")

    wait_until(lambda: pruned(filled))
    assert "tried again" not in filled.log


def test_daemon_prunes_nothing_by_default(filled: DaemonProcess) -> None:
    filled.start()
    with Wire(filled.socket) as wire:
        wire.save(CheckpointState(job_id="new", total_sheets=1))
        assert count(wire) == ATTEMPTS
    filled.stop()

    assert not pruned(filled)
    assert "was written anew" not in filled.log


def test_daemon_ends_at_once_while_it_prunes(filled: DaemonProcess) -> None:
    filled.start("--prune-keep-last", "1")
    filled.stop()

    filled.start("--prune-keep-last", "1")
    wait_until(lambda: pruned(filled))
    with Wire(filled.socket) as wire:
        assert count(wire) == 2


def test_policy_is_read_again(filled: DaemonProcess, tmp_path: Path) -> None:
    config = tmp_path / "jobkeepd.toml"
    config.write_text("")
    filled.start("--config", str(config))

    config.write_text('prune_keep_last = 1\nprune_jobs = ["completed:0s"]')
    filled.reload()

    wait_until(lambda: pruned(filled))
    with Wire(filled.socket) as wire:
        assert count(wire) == 2


# -- what earlier tools have left -----------------------------------------------------------------


def test_attempts_at_a_sheet_0_go_as_the_preview_says_and_stay_counted(
    daemon_process: DaemonProcess,
) -> None:
    attempt = {"job_id": "old", "attempt_num": 1, "exit_code": 1, "executed_at": "2024-01-01"}
    make_old_file(
        daemon_process.database,
        4,
        [{"id": "old", "name": "", "status": "completed", "total_sheets": 2}],
        attempts=[attempt | {"sheet_num": number} for number in (0, 0, 1)],
    )
    daemon_process.start()
    with Client(daemon_process.socket) as client:
        before = client.get_overview()

        told = client.prune(older_than=0, dry_run=True)
        done = client.prune(older_than=0)

        assert (told.attempts, told.failures) == (done.attempts, done.failures) == (3, 3)
        assert client.prune(older_than=0, dry_run=True).attempts == 0
        assert client.get_overview() == before
        client.prune(older_than=0, status="completed")
        assert client.get_overview() == before


# -- large outputs ------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["x" * 1_000, "é" * 1_000, "🦊" * 400, "a🦊é" * 300])
def test_head_and_tail_of_a_large_output_are_kept(
    daemon_process: DaemonProcess, output: str
) -> None:
    daemon_process.start("--max-kept-output-bytes", "101")
    with Wire(daemon_process.socket) as wire:
        wire.save(CheckpointState(job_id="job", total_sheets=1))
        wire.ask(RecordExecution("job", 1, 1, output * 2, output, 0))
        (record,) = wire.ask(GetExecutionHistory("job")).records

    assert record["prompt"] == output * 2
    assert record["output"] is not None
    head, mark, tail = record["output"].split("\n")
    left_out = int(mark.split()[1])
    assert output.startswith(head)
    assert output.endswith(tail)
    assert len(output.encode()) == len(head.encode()) + left_out + len(tail.encode())
    assert 90 < len(head.encode()) + len(tail.encode()) <= 101


@pytest.mark.parametrize("length", [0, 100, 101])
def test_output_that_is_not_too_large_is_kept_as_it_is(
    daemon_process: DaemonProcess, length: int
) -> None:
    daemon_process.start("--max-kept-output-bytes", "101")
    with Wire(daemon_process.socket) as wire:
        wire.save(CheckpointState(job_id="job", total_sheets=1))
        wire.ask(RecordExecution("job", 1, 1, output="x" * length))
        (record,) = wire.ask(GetExecutionHistory("job")).records

    assert record["output"] == "x" * length
