"""A log that is missing, damaged or another's is refused: SQLite would lose what was in it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from jobkeep_protocol.errors import StorageError
from jobkeep_protocol.messages import GetExecutionHistoryCount, RecordExecution
from jobkeep_protocol.states import CheckpointState
from jobkeepd.store.connection import index_path, wal_path
from jobkeepd.store.guard import admit
from jobkeepd.store.log import read_index, read_log
from tests.daemon_process import DaemonProcess
from tests.faults.databases import (
    attempts,
    copy_files,
    execute,
    fill,
    flip,
    mark_of,
    refusal,
    refusal_of,
    writing,
)
from tests.support import wait_until
from tests.wire import Wire

JOB = CheckpointState(job_id="job", total_sheets=3)
RECORD = RecordExecution("job", 1, 1, "a prompt", "an output")
FRAME_HEADER_BYTES = 24
FRAME_BYTES = FRAME_HEADER_BYTES + 4096
LOG_HEADER_BYTES = 32


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a daemon that was killed after 7 attempts, 4 of them in its log; not to be
    changed."""
    directory = tmp_path_factory.mktemp("killed")
    with writing(directory / "open" / "state.db") as opened:
        fill(opened)
        opened.checkpoint()
        opened.record(4)
        return opened.as_killed(directory)


@pytest.fixture
def killed(killed_once: Path, tmp_path: Path) -> Path:
    """A copy of them, where `daemon_process` looks for its database."""
    return copy_files(killed_once, tmp_path)


# -- a log that is missing ----------------------------------------------------------------------


def _remove(log: Path) -> None:
    log.unlink()


def _empty(log: Path) -> None:
    os.truncate(log, 0)


def _cut_the_header(log: Path) -> None:
    os.truncate(log, LOG_HEADER_BYTES - 1)


def _spoil_the_header(log: Path) -> None:
    flip(log, 100)


@pytest.mark.parametrize("take_away", [_remove, _empty, _cut_the_header, _spoil_the_header])
def test_database_without_the_log_of_a_killed_daemon_is_refused(
    killed: Path, take_away: Callable[[Path], None]
) -> None:
    take_away(wal_path(killed))

    assert f"the newest writes to {killed} are in its log" in refusal(killed)


def test_daemon_starts_again_without_a_lost_log_when_it_is_told_to(
    killed: Path, daemon_process: DaemonProcess
) -> None:
    wal_path(killed).unlink()
    line = refusal_of(daemon_process)
    assert f"sqlite3 {killed} 'PRAGMA user_version = 0'" in line

    execute(killed, "PRAGMA user_version = 0")
    daemon_process.start()

    with Wire(daemon_process.socket) as wire:
        assert wire.ask(GetExecutionHistoryCount("job")) == 3, "what was not in the log"


def test_database_is_opened_after_another_program_has_moved_the_log_of_a_kill_into_it(
    killed: Path, daemon_process: DaemonProcess
) -> None:
    assert attempts(killed) == 7
    assert not wal_path(killed).exists()

    daemon_process.start()

    with Wire(daemon_process.socket) as wire:
        assert wire.ask(GetExecutionHistoryCount("job")) == 7


def test_log_that_could_not_be_moved_while_somebody_read_is_missed_too(tmp_path: Path) -> None:
    with writing(tmp_path / "state.db") as opened:
        fill(opened)
        with closing(sqlite3.connect(opened.database, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM jobs").fetchall()
            opened.record()
            opened.checkpoint()
            killed = opened.as_killed(tmp_path / "killed")
    wal_path(killed).unlink()

    assert f"the newest writes to {killed} are in its log" in refusal(killed)


@pytest.mark.parametrize("take_away", [_remove, _empty])
def test_log_without_its_database_is_refused(
    killed: Path, take_away: Callable[[Path], None]
) -> None:
    take_away(killed)
    assert "is empty or missing, and its log" in refusal(killed)


# -- a log that is another's --------------------------------------------------------------------


def _backup(database: Path, copy: Path) -> None:
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def _vacuum(database: Path, copy: Path) -> None:
    with closing(sqlite3.connect(database)) as source:
        source.execute("VACUUM INTO ?", (str(copy),))


def _copy_the_file(database: Path, copy: Path) -> None:
    shutil.copyfile(database, copy)


def test_restored_backup_beside_the_log_of_what_it_replaced_is_refused_and_alone_it_is_opened(
    daemon: DaemonProcess, tmp_path: Path
) -> None:
    backup = tmp_path / "backup.db"
    with Wire(daemon.socket) as wire:
        wire.save(JOB)
        wire.ask(RECORD)
        _backup(daemon.database, backup)
        checkpointed = mark_of(daemon.database)
        wire.ask(RECORD)
        wait_until(lambda: mark_of(daemon.database) != checkpointed)
        wire.ask(RECORD)
    daemon.kill()
    shutil.copyfile(backup, daemon.database)

    line = refusal_of(daemon)

    assert "belongs to another state of" in line
    assert f"move {wal_path(daemon.database)} and {index_path(daemon.database)} away" in line
    wal_path(daemon.database).unlink()
    index_path(daemon.database).unlink()
    daemon.start()
    with Wire(daemon.socket) as wire:
        assert wire.ask(GetExecutionHistoryCount("job")) == 1


def test_backup_of_any_moment_beside_a_later_log_is_refused_or_becomes_the_later_state(
    tmp_path: Path,
) -> None:
    """A copy of the pages from within the time of a log may have that log applied again."""
    backups: list[Path] = []
    refused = 0
    with writing(tmp_path / "state.db") as opened:
        fill(opened)
        for step in range(12):
            for copy in (_backup, _vacuum, _copy_the_file):
                backups.append(tmp_path / f"{step}{copy.__name__}.db")
                copy(opened.database, backups[-1])
            opened.record()
            if step % 3 == 2:
                opened.checkpoint()
            killed = opened.as_killed(tmp_path / f"killed{step}")
            expected = attempts(copy_files(killed, tmp_path / "whole"))
            for backup in backups:
                restored = copy_files(killed, tmp_path / "restored")
                shutil.copyfile(backup, restored)
                if _is_refused(restored):
                    refused += 1
                    continue
                with closing(sqlite3.connect(restored)) as connection:
                    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                assert attempts(restored) == expected, (step, backup)
    assert refused > len(backups) * 4, "most were too old, or had other pages"


def _is_refused(database: Path) -> bool:
    try:
        admit(database)
    except StorageError as error:
        return "belongs to another state of" in str(error)
    return False


@pytest.mark.parametrize("count", [0, 2])
def test_vacuumed_copy_beside_the_log_of_its_own_time_is_refused_for_it_has_other_pages(
    tmp_path: Path, count: int
) -> None:
    with writing(tmp_path / "state.db") as opened:
        fill(opened)
        opened.checkpoint()
        opened.record(count)
        _vacuum(opened.database, tmp_path / "copy.db")
        opened.record()
        killed = opened.as_killed(tmp_path / "killed")
    shutil.copyfile(tmp_path / "copy.db", killed)

    assert "belongs to another state of" in refusal(killed)


def test_log_of_an_earlier_jobkeepd_that_had_no_marks_is_applied(tmp_path: Path) -> None:
    with writing(tmp_path / "state.db") as opened:
        fill(opened)
    execute(tmp_path / "state.db", "PRAGMA user_version = 0")
    earlier = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    earlier.execute("UPDATE jobs SET name = 'as it was'")
    killed = copy_files(tmp_path / "state.db", tmp_path / "killed")
    earlier.close()

    admit(killed)

    with writing(killed) as opened:
        found = opened.connection.execute("SELECT DISTINCT name FROM jobs").fetchall()
    assert found == [("as it was",)]


# -- a log that is damaged ----------------------------------------------------------------------


def _damage(database: Path, place: int) -> Path:
    """A copy of a killed daemon's files with one bit of the log turned over."""
    copy = copy_files(database, database.with_name("damaged"))
    flip(wal_path(copy), place)
    return copy


def _committed_bytes(database: Path) -> int:
    """How much of the log is in use."""
    index = read_index(index_path(database))
    assert index is not None
    return LOG_HEADER_BYTES + index.pages * FRAME_BYTES


@pytest.mark.parametrize("step", [4_999, pytest.param(61, marks=pytest.mark.soak)])
def test_no_bit_of_what_was_committed_to_a_log_can_be_turned_over_unnoticed(
    killed: Path, step: int
) -> None:
    used = _committed_bytes(killed) * 8
    places = [*range(0, used, step), *range(0, LOG_HEADER_BYTES * 8, 7)]
    places += range(used - FRAME_BYTES * 8, used - 4096 * 8, 7)

    for place in places:
        damaged = _damage(killed, place)
        words = "is damaged" if place >= LOG_HEADER_BYTES * 8 else "the newest writes to"
        assert words in refusal(damaged), place


def test_log_that_was_cut_short_is_refused_at_whatever_length(killed: Path) -> None:
    used = _committed_bytes(killed)
    lengths = [
        LOG_HEADER_BYTES,
        *range(LOG_HEADER_BYTES + FRAME_BYTES, used, FRAME_BYTES),
        used - 1,
    ]

    for length in lengths:
        os.truncate(copy_wal := wal_path(copy_files(killed, killed.with_name("cut"))), length)
        assert "is damaged" in refusal(copy_wal.with_name("state.db")), length


def test_index_of_the_log_before_says_nothing_of_this_one(tmp_path: Path) -> None:
    with writing(tmp_path / "state.db") as opened:
        fill(opened)
        earlier = opened.as_killed(tmp_path / "earlier")
        opened.checkpoint()
        opened.record()
        killed = opened.as_killed(tmp_path / "killed")
    shutil.copyfile(index_path(earlier), index_path(killed))

    admit(killed)

    assert attempts(killed) == 4


def test_damage_before_the_last_commit_is_noticed_without_the_index_too(killed: Path) -> None:
    index_path(killed).unlink()
    log = read_log(wal_path(killed))
    assert log is not None
    flip(wal_path(killed), (LOG_HEADER_BYTES + FRAME_BYTES + 1_000) * 8)

    assert "SQLite cannot read 4 commits that follow" in refusal(killed)


def test_last_commit_that_is_torn_is_no_damage_for_it_may_not_have_been_acknowledged(
    killed: Path,
) -> None:
    index_path(killed).unlink()
    log = read_log(wal_path(killed))
    assert log is not None
    flip(wal_path(killed), (LOG_HEADER_BYTES + log.pages * FRAME_BYTES - 1) * 8)

    admit(killed)

    assert attempts(killed) == 6


def test_last_commit_of_which_a_power_cut_left_a_part_is_no_damage(killed: Path) -> None:
    """What is left of a page that was being written may be anything, a mark of a commit too."""
    index_path(killed).unlink()
    log = read_log(wal_path(killed))
    assert log is not None
    whole = wal_path(killed).read_bytes()
    *_, before, last = [place for place in range(log.pages) if _commit_of(whole, place)]
    with wal_path(killed).open("r+b") as file:
        for place in range(before + 1, last):
            file.seek(LOG_HEADER_BYTES + place * FRAME_BYTES)
            file.write(b"\1\2\3\4\5\6\7\0")

    admit(killed)

    assert attempts(killed) == 6


def _commit_of(log: bytes, place: int) -> int:
    """What says that a page is the last of its commit."""
    (commit,) = struct.unpack_from(">I", log, LOG_HEADER_BYTES + place * FRAME_BYTES + 4)
    return int(commit)


def test_daemon_starts_again_with_what_can_be_read_of_a_damaged_log_when_it_is_told_to(
    killed: Path, daemon_process: DaemonProcess
) -> None:
    flip(wal_path(killed), (_committed_bytes(killed) - 1) * 8)
    line = refusal_of(daemon_process)
    commands = "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA user_version = 0"
    assert f"sqlite3 {killed} '{commands}'" in line

    execute(killed, commands)
    daemon_process.start()

    with Wire(daemon_process.socket) as wire:
        assert wire.ask(GetExecutionHistoryCount("job")) == 6


def test_damaged_log_of_a_daemon_that_did_not_sync_it_is_told_and_opened(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with writing(tmp_path / "state.db", "normal") as opened:
        fill(opened)
        opened.checkpoint()
        opened.record(4)
        killed = opened.as_killed(tmp_path / "killed")
    flip(wal_path(killed), (_committed_bytes(killed) - 1) * 8)

    admit(killed)

    assert "with --durability normal a power cut does that" in caplog.text
    assert attempts(killed) == 6


@pytest.mark.parametrize("page_bytes", [512, 1024, 65536])
def test_log_with_pages_of_any_size_is_read_as_sqlite_reads_it(
    tmp_path: Path, page_bytes: int
) -> None:
    database = tmp_path / "other.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.executescript(f"PRAGMA page_size = {page_bytes}; PRAGMA journal_mode = WAL;")
        connection.execute("CREATE TABLE numbers (number)")
        for number in range(20):
            connection.execute("INSERT INTO numbers VALUES (?)", (number,))
        killed = copy_files(database, tmp_path / "killed")

    log, index = read_log(wal_path(killed)), read_index(index_path(killed))

    assert log is not None
    assert index is not None
    assert (log.pages, log.salts, log.commits_lost) == (index.pages, index.salts, 0)


def test_log_with_checksums_of_the_other_byte_order_is_read(killed: Path) -> None:
    log = read_log(wal_path(killed))
    wal_path(killed).write_bytes(_in_the_other_byte_order(wal_path(killed).read_bytes()))

    assert read_log(wal_path(killed)) == log
    assert attempts(killed) == 7, "SQLite reads it too"


def _in_the_other_byte_order(log: bytes) -> bytes:
    """The same log, with checksums over words of the other byte order."""

    def add(data: bytes, one: int, other: int) -> tuple[int, int]:
        words = struct.unpack(f">{len(data) // 4}I", data)
        for first, second in zip(words[::2], words[1::2], strict=True):
            one = (one + first + other) & 0xFFFFFFFF
            other = (other + second + one) & 0xFFFFFFFF
        return one, other

    header = struct.pack(">I", struct.unpack_from(">I", log)[0] ^ 1) + log[4:24]
    summed = add(header, 0, 0)
    parts = [header, struct.pack(">II", *summed)]
    for place in range(LOG_HEADER_BYTES, len(log), FRAME_BYTES):
        frame = log[place : place + FRAME_BYTES]
        summed = add(frame[:8] + frame[FRAME_HEADER_BYTES:], *summed)
        parts += [frame[:16], struct.pack(">II", *summed), frame[FRAME_HEADER_BYTES:]]
    return b"".join(parts)
