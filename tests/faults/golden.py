"""Files that an earlier version left at kill -9, in `tests/faults/data`: how they were made.

What lives here: what is in them, and the command that makes them with the real earlier version.
What may not: what this version makes of them (that is `test_versions`).

    git worktree add /tmp/earlier <the last commit with that schema>
    python -m tests.faults.golden /tmp/earlier

Some of what was written is in the database, the rest only in the log. A file that is here never
changes; one is added before a commit that changes the schema.
"""

from __future__ import annotations

import gzip
import os
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from jobkeep_protocol.messages import (
    ClaimNextSheet,
    Delete,
    RecordExecution,
    Status,
)
from jobkeep_protocol.states import CheckpointState, JobStatus, SheetState, SheetStatus
from jobkeepd.store.connection import wal_path
from tests.daemon_process import DaemonProcess
from tests.support import wait_until
from tests.wire import Wire

DATA = Path(__file__).with_name("data")
CLIENT = b"golden client id"
LAST = RecordExecution("in the log", 2, 5, prompt="p", output="o" * 5_000, exit_code=3)
LAST_ID = 64 * 7
"""The last write, with its request id: sent again, it gets the reply that it got then."""

JOBS = {
    "in the database": {1: 20},
    "in both": {1: 1, 2: 2},
    "in the log": {1: 3, 2: 1},
}
"""The attempts of each sheet of each job."""


def make(earlier: Path) -> None:
    """Let the version in this directory write, and kill it."""
    with tempfile.TemporaryDirectory() as directory:
        daemon = DaemonProcess(Path(directory))
        parts = [str(earlier / part) for part in ("protocol", "client", "daemon")]
        daemon.start(environment={"PYTHONPATH": os.pathsep.join(parts)})
        with Wire(daemon.socket, CLIENT) as wire:
            version = wire.ask(Status()).schema_version
            _write_what_goes_into_the_database(wire)
            wait_until(lambda: _is_moved(daemon.database))
            _write_what_stays_in_the_log(wire)
        daemon.kill()
        DATA.mkdir(exist_ok=True)
        for path, suffix in ((daemon.database, ""), (wal_path(daemon.database), "-wal")):
            packed = DATA / f"schema_{version}.db{suffix}.gz"
            packed.write_bytes(gzip.compress(path.read_bytes(), mtime=0))


def unpack(version: int, database: Path) -> None:
    """Put the files that the version of this schema left under the names of a database."""
    for path, suffix in ((database, ""), (wal_path(database), "-wal")):
        packed = DATA / f"schema_{version}.db{suffix}.gz"
        path.write_bytes(gzip.decompress(packed.read_bytes()))


def _write_what_goes_into_the_database(wire: Wire) -> None:
    for job_id in ("in the database", "in both", "deleted"):
        sheets = {number: SheetState(sheet_num=number) for number in (1, 2, 3)}
        wire.save(CheckpointState(job_id=job_id, total_sheets=3, sheets=sheets))
    for attempt in range(1, 21):
        wire.ask(RecordExecution("in the database", 1, attempt, output="o" * 1_000, exit_code=0))
    wire.ask(RecordExecution("in both", 1, 1))


def _write_what_stays_in_the_log(wire: Wire) -> None:
    extra = {"kept": ["as", {"it": None}, "was ü"]}
    sheets = {1: SheetState(sheet_num=1, status=SheetStatus.COMPLETED, extra=extra)}
    job = CheckpointState(job_id="in the log", total_sheets=3, sheets=sheets, extra=extra)
    job.status, job.pid = JobStatus.RUNNING, os.getpid()
    wire.save(job)
    for attempt in (1, 2):
        wire.ask(RecordExecution("in both", 2, attempt, duration_seconds=0.25))
    for attempt in (1, 2, 3):
        wire.ask(RecordExecution("in the log", 1, attempt))
    assert wire.ask(ClaimNextSheet("in both")) == 1
    assert wire.ask(Delete("deleted"))
    assert wire.ask(LAST, LAST_ID) is not None


def _is_moved(database: Path) -> bool:
    """Whether a checkpoint has moved the attempts; the file is looked at without its log."""
    with closing(sqlite3.connect(f"file:{database}?immutable=1", uri=True)) as connection:
        try:
            found = connection.execute("SELECT count(*) FROM execution_history").fetchone()
        except sqlite3.Error:
            return False
    return bool(found == (21,))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
