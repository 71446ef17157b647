"""An import that is broken off, and done again: everything is there, once."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from jobkeep import CheckpointState, Client
from jobkeepd import SQLiteStateBackend
from tests.cli.commands import Finished, JobkeepCommand
from tests.daemon.counters import assert_counters_are_right
from tests.daemon_process import DaemonProcess
from tests.faults.injection import killed_at
from tests.small_disk import make_room, put_on_small_disk
from tests.support import wait_until

ATTEMPTS = 600
"""More than one transaction takes."""

COMMITS = 3
"""One of the job, two of its attempts."""


def write_lines(path: Path, attempts: int = ATTEMPTS, output: str = "o" * 100) -> Path:
    """A file of one job with so many attempts, oldest first."""
    job = {"job_id": "job", "total_sheets": 1, "created_at": "2020-01-02T03:04:05.678901Z"}
    lines = [{"job": {**job, "updated_at": job["created_at"]}}]
    lines += [
        {
            "execution": {
                "sheet_num": 1,
                "attempt_num": number,
                "output": output,
                "exit_code": number % 2,
                "executed_at": "2020-01-02T03:04:06Z",
            }
        }
        for number in range(attempts)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def attempts_of(daemon: DaemonProcess) -> list[int]:
    """The attempts that a daemon has, oldest first."""
    with Client(daemon.socket) as client:
        records = client.get_execution_history("job", limit=100_000)
    return [record["attempt_num"] for record in reversed(records)]


def imported_again(jobkeep: JobkeepCommand, file: Path) -> Finished:
    """The same line again, which is to end well."""
    finished = jobkeep("import", str(file), "--json")
    assert finished.status == 0, finished.err
    return finished


@pytest.mark.parametrize("commit", range(1, COMMITS + 1))
@pytest.mark.parametrize("point", ["before commit", "after commit"])
def test_lines_go_on_after_the_daemon_was_killed_and_nothing_comes_twice(
    daemon_process: DaemonProcess, tmp_path: Path, point: str, commit: int
) -> None:
    file = write_lines(tmp_path / "jobs.jsonl")
    daemon_process.start(environment=killed_at(point, commit))
    jobkeep = JobkeepCommand(daemon_process.socket, tmp_path)

    process = jobkeep.start("import", str(file))
    assert daemon_process.wait() == -signal.SIGKILL
    daemon_process.start()
    finished = jobkeep.end_of(process)

    assert finished.status == 0, finished.err
    assert attempts_of(daemon_process) == list(range(ATTEMPTS))
    with closing(sqlite3.connect(daemon_process.database)) as connection:
        assert_counters_are_right(connection)


@pytest.mark.parametrize("commit", [1, 2, 3])
def test_database_that_the_daemon_was_killed_over_is_completed_by_another_import(
    daemon_process: DaemonProcess, tmp_path: Path, commit: int
) -> None:
    file = asyncio.run(_database(tmp_path))
    daemon_process.start(environment=killed_at("after commit", commit))
    jobkeep = JobkeepCommand(daemon_process.socket, tmp_path)

    process = jobkeep.start("import", str(file))
    assert daemon_process.wait() == -signal.SIGKILL
    daemon_process.start()
    broken_off = jobkeep.end_of(process)
    found = attempts_of(daemon_process)
    imported_again(jobkeep, file)

    assert broken_off.status == 1
    assert "begin again, and it goes on where it was" in broken_off.err
    assert found == list(range(len(found)))
    assert attempts_of(daemon_process) == list(range(100))
    assert list(tmp_path.glob("*.copy-*")) == []


def test_client_killed_while_the_daemon_works_leaves_nothing_in_the_way(
    daemon: DaemonProcess, tmp_path: Path
) -> None:
    file = asyncio.run(_database(tmp_path, attempts=5_000))
    jobkeep = JobkeepCommand(daemon.socket, tmp_path)
    process = jobkeep.start("import", str(file))
    wait_until(lambda: attempts_of(daemon))

    process.kill()
    jobkeep.end_of(process)
    imported_again(jobkeep, file)

    assert attempts_of(daemon) == list(range(5_000))


def test_full_disk_ends_an_import_and_with_room_it_is_completed(
    daemon_process: DaemonProcess, tmp_path: Path
) -> None:
    file = asyncio.run(_database(tmp_path))
    put_on_small_disk(daemon_process)
    daemon_process.start("--search", "off")
    jobkeep = JobkeepCommand(daemon_process.socket, tmp_path)

    full = jobkeep("import", str(file))
    found = attempts_of(daemon_process)
    make_room(daemon_process)
    imported_again(jobkeep, file)

    assert (full.status, full.err.count("\n")) == (1, 1)
    assert "disk" in full.err
    assert found == list(range(len(found)))
    assert len(found) < 100
    assert attempts_of(daemon_process) == list(range(100))


async def _database(tmp_path: Path, attempts: int = 100) -> Path:
    """A database of some 650 kB, or of many small attempts."""
    path = tmp_path / "from" / "state.db"
    async with SQLiteStateBackend(path, search=False) as backend:
        await backend.save(CheckpointState(job_id="job", total_sheets=1))
        for number in range(attempts):
            output = str(number) * 3_200 if attempts == 100 else None
            await backend.record_execution("job", 1, number, output=output)
    return path
