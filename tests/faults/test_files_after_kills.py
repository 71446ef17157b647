"""What a kill leaves is opened again, whenever it came, with all that was acknowledged."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from jobkeep_protocol.messages import GetExecutionHistoryCount, RecordExecution
from jobkeep_protocol.states import CheckpointState
from jobkeepd.store.connection import index_path, journal_path, wal_path
from tests.daemon_process import DaemonProcess
from tests.faults.databases import attempts, copy_files, mark_of, writing
from tests.support import scaled, wait_until
from tests.wire import Wire

JOB = CheckpointState(job_id="job", total_sheets=3)
RECORD = RecordExecution("job", 1, 1)
ROOT = Path(__file__).parents[2]

ONE_LIFE = """
import sys
from pathlib import Path
from tests.faults.databases import Writing, fill
opened = Writing(Path(sys.argv[1]))
if sys.argv[2] == "new":
    fill(opened)
for is_quiet in (False, True, True, False):
    opened.record()
    print("recorded", flush=True)
    if is_quiet:
        opened.checkpoint()
opened.close()
print("closed", flush=True)
"""
"""A database is opened, written to and closed; after the words `recorded` an attempt is kept."""


def _life(database: Path, kind: str, *killing: str) -> str:
    """Run it, killed at some moment; gives what it said until then."""
    paths = (database, wal_path(database), index_path(database), journal_path(database))
    done = subprocess.run(
        [
            *("strace", "-f", "-o", os.devnull, *killing),
            *(f"--trace-path={path}" for path in paths),
            *(sys.executable, "-c", ONE_LIFE, str(database), kind),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=scaled(60),
        cwd=ROOT,
    )
    assert "Error" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("kind", ["new", "kept"])
@pytest.mark.parametrize(
    ("call", "numbers"),
    [
        ("fdatasync", [2, 7, 13]),
        ("unlink", [1]),
        pytest.param("fdatasync", range(1, 1_000), marks=pytest.mark.soak),
        pytest.param("pwrite64", range(1, 1_000), marks=pytest.mark.soak),
        pytest.param("ftruncate", range(1, 1_000), marks=pytest.mark.soak),
        pytest.param("unlink", range(1, 1_000), marks=pytest.mark.soak),
        pytest.param("openat", range(1, 1_000), marks=pytest.mark.soak),
    ],
)
@pytest.mark.timeout(scaled(1_200))
def test_kill_at_any_call_leaves_files_that_are_opened_with_all_that_was_recorded(
    filled_once: Path, tmp_path: Path, kind: str, call: str, numbers: Iterable[int]
) -> None:
    for number in numbers:
        database = tmp_path / f"{number}" / "state.db"
        database.parent.mkdir()
        if kind == "kept":
            copy_files(filled_once, database.parent)

        said = _life(
            database, kind, f"--trace={call}", f"--inject={call}:signal=SIGKILL:when={number}"
        )

        _hold_to_opening(database, recorded=said.count("recorded"), where=f"{call} {number}")
        shutil.rmtree(database.parent)
        if said.endswith("closed\n"):
            return
    assert len(list(numbers)) < 100, "the life is longer than this test"


def _hold_to_opening(database: Path, recorded: int, where: str) -> None:
    """All that was recorded is kept, with at most one attempt that nobody was told of."""
    with writing(database) as opened:
        found = opened.connection.execute("SELECT id FROM execution_history").fetchall()
    assert recorded == 0 or recorded + 3 <= len(found) <= recorded + 4, where
    assert attempts(database) == len(found), where


@pytest.mark.parametrize("cycles", [3, pytest.param(200, marks=pytest.mark.soak)])
@pytest.mark.timeout(scaled(1_200))
def test_daemon_that_is_killed_again_and_again_is_never_refused(
    daemon_process: DaemonProcess, cycles: int
) -> None:
    acknowledged = 0
    for cycle in range(cycles):
        daemon_process.start()
        with Wire(daemon_process.socket) as wire:
            if cycle == 0:
                wire.save(JOB)
            assert wire.ask(GetExecutionHistoryCount("job")) == acknowledged
            count = cycle % 7
            for _ in range(count):
                wire.ask(RECORD)
            acknowledged += count
            if count and cycle % 3 == 1:
                _wait_for_checkpoint(daemon_process.database)
            daemon_process.kill()
        if cycle % 5 == 4:
            assert attempts(daemon_process.database) == acknowledged, "another program may look"


def _wait_for_checkpoint(database: Path) -> None:
    marked = mark_of(database)
    wait_until(lambda: mark_of(database) != marked)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_first_start_that_was_killed_when_it_made_the_file_is_taken_up(
    daemon_process: DaemonProcess,
) -> None:
    """The file has its first page, and what undoes that is in a journal beside it."""
    database = daemon_process.database
    program = f"""
import sqlite3
sqlite3.connect({str(database)!r}).execute("PRAGMA journal_mode = WAL")
"""
    subprocess.run(
        [
            *("strace", "-o", os.devnull, f"--trace-path={journal_path(database)}"),
            *("--trace=unlink", "--inject=unlink:signal=SIGKILL"),
            *(sys.executable, "-c", program),
        ],
        check=False,
    )
    assert journal_path(database).exists()
    assert database.stat().st_size == 4096

    daemon_process.start()
