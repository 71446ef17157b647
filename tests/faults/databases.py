"""Small databases with something in every table, and their files as a kill would leave them.

They are written by the daemon's own code without its loop and its socket, so that a test can have
hundreds of them.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobkeep_protocol.errors import StorageError
from jobkeep_protocol.messages import (
    ClaimNextSheet,
    Delete,
    RecordExecution,
    Save,
)
from jobkeep_protocol.states import CheckpointState, JobStatus, SheetState, SheetStatus
from jobkeepd.limits import DEFAULT_LIMITS
from jobkeepd.store.applied import RequestKey
from jobkeepd.store.committer import Committer, Write
from jobkeepd.store.connection import Durability, create_private, open_for_writing
from jobkeepd.store.guard import admit
from jobkeepd.store.lock import DatabaseLock, lock_path
from jobkeepd.store.marks import checkpoint
from jobkeepd.store.migrations import migrate
from jobkeepd.store.search_tables import set_search
from tests.daemon_process import DaemonProcess

CLIENT = b"0123456789abcdef"
THEN = datetime(2020, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)


class Writing:
    """A database that is open for writing, as a daemon has it."""

    def __init__(self, database: Path, durability: Durability = "full") -> None:
        self.database = database
        database.parent.mkdir(exist_ok=True)
        self._lock = DatabaseLock(database)
        admit(database)
        create_private(database)
        self.connection = open_for_writing(database, durability, DEFAULT_LIMITS.wal_keep_bytes)
        migrate(self.connection)
        set_search(self.connection, is_on=True)
        checkpoint(database, self.connection)
        self.committer = Committer(database, self.connection)
        (self._requests,) = self.connection.execute(
            "SELECT coalesce(max(request_id), 0) FROM applied_requests"
        ).fetchone()

    def write(self, *requests: Any) -> list[Any]:
        """Commit these requests together; gives their outcomes."""
        batch = []
        for request in requests:
            self._requests += 64
            key = RequestKey(CLIENT, self._requests)
            batch.append(Write(request, print, key))
        self.committer.commit(batch)
        return [write.outcome for write in batch]

    def record(self, count: int = 1) -> None:
        """Commit so many attempts, one by one."""
        for _ in range(count):
            self.write(RecordExecution("job", 1, 1, "a prompt", "an output", 0, 1.5))

    def checkpoint(self) -> None:
        """What a daemon does in a quiet second."""
        self.committer.keep_house()

    def as_killed(self, directory: Path) -> Path:
        """A copy of the files as they are now, which is how a kill would leave them."""
        return copy_files(self.database, directory)

    def close(self) -> None:
        """As a daemon ends that is asked to."""
        self.committer.close()
        self._lock.release()


@contextmanager
def writing(database: Path, durability: Durability = "full") -> Iterator[Writing]:
    """A database that is open for writing; closed at the end."""
    opened = Writing(database, durability)
    try:
        yield opened
    finally:
        opened.close()


def fill(opened: Writing) -> None:
    """Put something into every table."""
    sheets = [
        SheetState(
            sheet_num=number,
            status=status,
            started_at=THEN,
            attempt_count=number,
            validation_passed=True,
            validation_details=[{"rule": "größer", "ok": True}],
            outcome_data={"score": number / 10},
            learned_patterns=["one", "two"],
            model="a model",
        )
        for number, status in enumerate(
            (SheetStatus.COMPLETED, SheetStatus.FAILED, SheetStatus.PENDING), 1
        )
    ]
    opened.write(
        Save(CheckpointState(job_id="job", total_sheets=4, config_snapshot={"a": [1]}), sheets),
        Save(CheckpointState(job_id="a/😀", total_sheets=2, status=JobStatus.FAILED), sheets[:1]),
        Save(CheckpointState(job_id="claimed", total_sheets=2), []),
        Save(CheckpointState(job_id="deleted", total_sheets=2), []),
    )
    opened.write(ClaimNextSheet("claimed"), Delete("deleted"))
    for sheet_num, exit_code in ((1, 0), (2, 1), (1, None)):
        output = f"sheet {sheet_num}: {exit_code} größer " * 20
        opened.write(RecordExecution("job", sheet_num, 1, "a prompt", output, exit_code, 1.5))


def copy_files(database: Path, directory: Path) -> Path:
    """Copy a database with what is beside it; gives the copy."""
    directory.mkdir(parents=True, exist_ok=True)
    copy = directory / database.name
    for path in files_of(copy):
        path.unlink()
    for path in (*files_of(database), lock_path(database)):
        if path.exists():
            shutil.copyfile(path, directory / path.name)
    return copy


def contents(database: Path) -> dict[str, bytes]:
    """A database and what is beside it, to the byte."""
    return {path.name: path.read_bytes() for path in files_of(database)}


def files_of(database: Path) -> list[Path]:
    """The database and what SQLite has beside it."""
    names = (database.name + suffix for suffix in ("", "-wal", "-shm", "-journal"))
    paths = (database.with_name(name) for name in names)
    return [path for path in paths if path.is_file()]


def flip(path: Path, bit: int) -> None:
    """Turn one bit of a file over."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def refusal(database: Path) -> str:
    """Why a file is not opened; holds the daemon's code to leaving every byte as it is."""
    before = contents(database)
    with pytest.raises(StorageError) as refused:
        admit(database)
    assert contents(database) == before
    assert "\n" not in str(refused.value)
    return str(refused.value)


def refusal_of(daemon: DaemonProcess) -> str:
    """Why a daemon does not start; holds it to leaving every byte as it is."""
    before = contents(daemon.database)
    said = daemon.log
    daemon.spawn()
    assert daemon.wait() == 1
    (line,) = daemon.log.removeprefix(said).splitlines()
    assert contents(daemon.database) == before
    assert not daemon.is_accepting
    return line


def attempts(database: Path) -> int:
    """How many attempts are kept, as any program finds them."""
    with closing(sqlite3.connect(database)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM execution_history").fetchone()
    return int(count)


def mark_of(database: Path) -> bytes:
    """What a checkpoint changes in the file itself."""
    with database.open("rb") as file:
        return file.read(64)[60:]


def execute(database: Path, script: str) -> None:
    """Change a database that no daemon has, as people do with sqlite3."""
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(script)


def page_of(database: Path, name: str) -> tuple[int, int]:
    """The first page of a table or an index, and the size of a page."""
    with closing(sqlite3.connect(database)) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    return page, size
