"""Files that are bad already: refused at the start with what to do, and left as they are."""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobkeep_protocol.errors import StorageError
from jobkeep_protocol.messages import RecordExecution
from jobkeep_protocol.states import CheckpointState
from jobkeepd.store import guard
from jobkeepd.store.connection import index_path, wal_path
from jobkeepd.store.guard import admit
from jobkeepd.store.lock import lock_path
from jobkeepd.store.schema import SCHEMA_VERSION
from tests.daemon.old_files import ATTEMPT as ATTEMPT_ROW
from tests.daemon.old_files import JOB as JOB_ROW
from tests.daemon.old_files import SHEET as SHEET_ROW
from tests.daemon.old_files import make_old_file
from tests.daemon_process import DaemonProcess
from tests.faults.databases import (
    copy_files,
    execute,
    fill,
    flip,
    page_of,
    refusal,
    refusal_of,
    writing,
)
from tests.wire import Wire

NEWER = SCHEMA_VERSION + 1
JOB = CheckpointState(job_id="job", total_sheets=3)
RECORD = RecordExecution("job", 1, 1)
ADMIT = "import sys, pathlib, jobkeepd.store.guard as guard; guard.admit(pathlib.Path(sys.argv[1]))"


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a daemon that was killed, with 8 attempts; not to be changed."""
    directory = tmp_path_factory.mktemp("killed")
    with writing(directory / "open" / "state.db") as opened:
        fill(opened)
        opened.checkpoint()
        opened.record(5)
        return opened.as_killed(directory)


@pytest.fixture
def killed(killed_once: Path, tmp_path: Path) -> Path:
    """A copy of them, where `daemon_process` looks for its database."""
    return copy_files(killed_once, tmp_path)


# -- files that are not ours --------------------------------------------------------------------


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is no database at all\n" * 1000)


def _foreign(path: Path) -> None:
    execute(path, "CREATE TABLE people (name TEXT); INSERT INTO people VALUES ('x');")


def _foreign_with_a_log(path: Path) -> None:
    execute(path, "PRAGMA journal_mode = WAL; CREATE TABLE people (name TEXT);")


def _version(version: int) -> str:
    return f"INSERT INTO schema_version VALUES ({version}, 'then');"  # noqa: S608 # a number


def _newer(path: Path) -> None:
    execute(
        path,
        "CREATE TABLE schema_version (version INTEGER, applied_at TEXT);"
        + _version(SCHEMA_VERSION)
        + _version(NEWER),
    )


def _nothing_for_a_version(path: Path) -> None:
    execute(
        path,
        "CREATE TABLE schema_version (version TEXT); CREATE TABLE people (name TEXT);"
        "INSERT INTO schema_version VALUES ('seven');",
    )


def _newer_of_an_earlier_tool(path: Path) -> None:
    """It has no log, and tables that would otherwise be taken over."""
    make_old_file(path, 4, [JOB_ROW], [SHEET_ROW], [ATTEMPT_ROW], and_then=_version(NEWER))
    assert path.read_bytes()[18:20] == bytes([1, 1]), "it is not in WAL mode"


def _truncated(path: Path) -> None:
    execute(path, "CREATE TABLE schema_version (version INTEGER);")
    path.write_bytes(path.read_bytes()[:2_000])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_garbage, "cannot be read as an SQLite database"),
        (_truncated, "cannot be read as an SQLite database"),
        (_foreign, "without a table `schema_version`, so it is not jobkeep's"),
        (_foreign_with_a_log, "without a table `schema_version`, so it is not jobkeep's"),
        (_nothing_for_a_version, "has 'seven' for its version, so the file is damaged"),
        (
            _newer,
            f"schema version {NEWER}, and this jobkeepd knows up to {SCHEMA_VERSION}; install a "
            "newer jobkeep",
        ),
        (
            _newer_of_an_earlier_tool,
            f"schema version {NEWER}, and this jobkeepd knows up to {SCHEMA_VERSION}",
        ),
    ],
)
def test_file_that_is_not_ours_is_refused_and_not_changed_by_a_byte(
    daemon_process: DaemonProcess, make: Callable[[Path], None], words: str
) -> None:
    make(daemon_process.database)
    assert words in refusal_of(daemon_process)


def test_newer_file_with_a_log_from_a_kill_is_refused_with_both_unchanged(
    daemon: DaemonProcess,
) -> None:
    with Wire(daemon.socket) as wire:
        wire.save(JOB)
    daemon.stop()
    execute(daemon.database, _version(NEWER))
    keeper = sqlite3.connect(daemon.database)  # keeps the log from being folded in
    keeper.execute("SELECT * FROM jobs").fetchall()
    with sqlite3.connect(daemon.database) as other:
        other.execute("UPDATE jobs SET name = 'from a newer daemon'")
    other.close()
    copy = copy_files(daemon.database, daemon.database.parent / "killed")
    keeper.close()
    assert wal_path(copy).read_bytes()

    daemon.database = copy
    assert f"schema version {NEWER}" in refusal_of(daemon)

    index_path(copy).unlink()
    assert f"schema version {NEWER}" in refusal_of(daemon)


def test_file_that_somebody_reads_keeps_the_index_that_he_uses(killed: Path) -> None:
    execute(killed, _version(NEWER))
    reader = sqlite3.connect(killed, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM jobs").fetchall()
    before = index_path(killed).stat().st_ino

    # In another process: to close the file in this one would drop the locks of the reader.
    refused = subprocess.run(
        [sys.executable, "-c", ADMIT, str(killed)], capture_output=True, check=False
    )

    assert b"schema version" in refused.stderr
    assert index_path(killed).stat().st_ino == before
    reader.execute("COMMIT")
    assert reader.execute("SELECT count(*) FROM execution_history").fetchone() == (8,)
    reader.close()


def test_empty_file_becomes_a_database(daemon_process: DaemonProcess) -> None:
    daemon_process.database.touch()
    daemon_process.start()
    with Wire(daemon_process.socket) as wire:
        assert wire.save(JOB).revision == 1


# -- what is no file of the daemon's own --------------------------------------------------------


def _directory(path: Path) -> None:
    path.mkdir()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


def _link(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    elsewhere.touch()
    path.symlink_to(elsewhere)


def _broken_link(path: Path) -> None:
    path.symlink_to("nowhere")


def _device(path: Path) -> None:
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3))


@pytest.mark.parametrize("place", [lambda database: database, wal_path, index_path])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_directory, "is a directory, and has to be a regular file"),
        (_fifo, "is a FIFO, and has to be a regular file"),
        (_socket, "is a socket, and has to be a regular file"),
        (_link, "elsewhere; give the path of the file itself"),
        (_broken_link, "is a symbolic link to nowhere; give the path of the file itself"),
        (_device, "is a device, and has to be a regular file"),
    ],
)
def test_what_is_no_file_is_refused_in_place_of_the_database_its_log_or_its_index(
    tmp_path: Path,
    place: Callable[[Path], Path],
    make: Callable[[Path], None],
    words: str,
) -> None:
    database = tmp_path / "state.db"
    if place(database) != database:
        with writing(database):
            pass
    if make is _device and os.geteuid() != 0:
        pytest.skip("only root makes devices")
    make(place(database))

    assert words in refusal(database)


def test_daemon_does_not_wait_at_a_fifo_in_place_of_its_lock(
    daemon_process: DaemonProcess,
) -> None:
    os.mkfifo(lock_path(daemon_process.database))
    assert "state.db.lock is a FIFO" in refusal_of(daemon_process)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("place", [lambda database: database, wal_path])
def test_file_of_another_user_is_refused_by_root_too(
    killed: Path, daemon_process: DaemonProcess, place: Callable[[Path], Path]
) -> None:
    os.chown(place(killed), 12345, -1)

    line = refusal_of(daemon_process)

    assert f"{place(killed)} belongs to uid 12345, and this process runs as user root" in line
    assert "run it as uid 12345, or give that file to this user with chown" in line


@contextmanager
def _as_nobody(directory: Path) -> Iterator[None]:
    """Be another user, who has this directory and all in it."""
    for path in (directory, *directory.rglob("*")):
        os.chown(path, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else for a while")
@pytest.mark.parametrize("place", [lambda database: database, wal_path])
def test_file_without_permission_is_refused(
    killed_once: Path, place: Callable[[Path], Path]
) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own are for root alone
        database = copy_files(killed_once, Path(name))
        with _as_nobody(Path(name)):
            place(database).chmod(0)
            with pytest.raises(StorageError, match=f"{place(database)} cannot be read") as refused:
                admit(database)
            place(database).chmod(0o600)
            admit(database)
    assert "may this user read and write it?" in str(refused.value)


# -- a file that is damaged ---------------------------------------------------------------------


def test_damaged_file_is_refused_and_says_what_may_help(
    filled_once: Path, daemon_process: DaemonProcess
) -> None:
    copy_files(filled_once, daemon_process.database.parent)
    page, size = page_of(filled_once, "sheets")
    data = bytearray(daemon_process.database.read_bytes())
    data[(page - 1) * size : page * size] = bytes(size)
    daemon_process.database.write_bytes(data)

    line = refusal_of(daemon_process)

    assert f"the database {daemon_process.database} is damaged" in line
    assert ".recover" in line


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda database: flip(database, 18 * 8 + 6), "its format has version 66"),
        (
            lambda database: execute(database, "DROP TRIGGER job_moved"),
            "trigger job_moved is missing",
        ),
        (lambda database: execute(database, "UPDATE schema_version SET version = 0"), "has 0 for"),
    ],
)
def test_file_that_sqlite_could_read_but_the_daemon_not_work_with_is_refused(
    filled_once: Path, tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    database = copy_files(filled_once, tmp_path)
    spoil(database)
    assert words in refusal(database)


def test_large_file_is_not_checked_at_the_start_and_says_how_to(
    filled_once: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = copy_files(filled_once, tmp_path)
    monkeypatch.setattr(guard, "CHECKED_BYTES", database.stat().st_size - 1)
    page, size = page_of(database, "idx_claims_pid")
    data = bytearray(database.read_bytes())
    data[(page - 1) * size : page * size] = bytes(size)
    database.write_bytes(data)

    with caplog.at_level(logging.INFO):
        admit(database)

    assert "too large to be checked at each start; `jobkeepd --check` does it" in caplog.text


# -- files that are taken away from a daemon ----------------------------------------------------


def _unlink(database: Path) -> None:
    database.unlink()


def _unlink_the_log(database: Path) -> None:
    wal_path(database).unlink()


def _rename(database: Path) -> None:
    database.rename(database.with_name("moved.db"))


def _replace(database: Path) -> None:
    database.rename(database.with_name("moved.db"))
    database.write_bytes(database.with_name("moved.db").read_bytes())


TAKEN_AWAY = [_unlink, _unlink_the_log, _rename, _replace]


@pytest.mark.parametrize("take_away", TAKEN_AWAY)
def test_database_that_is_taken_away_ends_the_daemon_and_nothing_is_acknowledged(
    daemon: DaemonProcess, take_away: Callable[[Path], None]
) -> None:
    with Wire(daemon.socket) as wire:
        wire.save(JOB)
        take_away(daemon.database)

        with pytest.raises(StorageError, match="has been removed or replaced") as unknown:
            wire.ask(RECORD)

    assert unknown.value.data == {"outcome": "unknown"}
    assert daemon.wait() == 74
    assert "has been removed or replaced" in daemon.log
    assert "Traceback" not in daemon.log


@pytest.mark.parametrize("take_away", [_unlink_the_log, _replace])
def test_database_that_is_taken_away_ends_a_daemon_that_has_nothing_to_do(
    daemon: DaemonProcess, take_away: Callable[[Path], None]
) -> None:
    take_away(daemon.database)

    assert daemon.wait() == 74
    assert "has been removed or replaced: nothing more can be written" in daemon.log
    assert "Traceback" not in daemon.log
