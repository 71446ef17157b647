"""Copies that backups read, over the wire: what is left of them when something goes wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobkeep_protocol.errors import InvalidRequest, JobNotFound, LimitExceeded, StorageError
from jobkeep_protocol.messages import (
    BackupPiece,
    GetExecutionHistoryCount,
    ReadBackup,
    RecordExecution,
    StartBackup,
    StartExport,
)
from jobkeep_protocol.states import CheckpointState
from tests.daemon_process import DaemonProcess
from tests.small_disk import put_on_small_disk
from tests.support import wait_until
from tests.wire import Wire

JOB = CheckpointState(job_id="job", total_sheets=3)


@pytest.fixture
def wire(daemon: DaemonProcess) -> Iterator[Wire]:
    """A connection, with a job that exists."""
    with Wire(daemon.socket) as connection:
        connection.save(JOB)
        yield connection


def read_to_end(wire: Wire, backup_id: str) -> bytes:
    """All of a copy."""
    found = b""
    more = True
    while more:
        piece = wire.ask(ReadBackup(backup_id, len(found)))
        found += piece.data
        more = piece.more
    return found


def files_beside(database: Path) -> set[str]:
    """The names of what is beside a database."""
    return {path.name for path in database.parent.iterdir() if "copy" in path.name}


def test_copy_has_no_name_on_the_disk_and_is_gone_with_its_reader(
    daemon: DaemonProcess, wire: Wire
) -> None:
    before = daemon.descriptors
    copies = [read_to_end(wire, wire.ask(StartBackup())) for _ in range(5)]

    assert all(copy.startswith(b"SQLite format 3\0") for copy in copies)
    assert files_beside(daemon.database) == set()
    # Of those that were read to their end, at most the last two are kept for who asks again.
    wait_until(lambda: daemon.descriptors <= before + 2)


def test_piece_may_be_asked_for_again(wire: Wire) -> None:
    backup_id = wire.ask(StartBackup())
    whole = read_to_end(wire, backup_id)

    assert wire.ask(ReadBackup(backup_id, 100)) == BackupPiece(whole[100:], more=False)
    assert wire.ask(ReadBackup(backup_id, len(whole))) == BackupPiece(b"", more=False)


def test_only_so_many_copies_are_made_at_a_time(wire: Wire) -> None:
    for _ in range(2):
        wire.ask(StartBackup())
    with pytest.raises(LimitExceeded, match="2 backups are under way") as refused:
        wire.ask(StartBackup())
    assert refused.value.data == {"limit": "backups", "maximum": 2}


def test_copies_that_failed_keep_nobody_waiting_once_that_was_told(wire: Wire) -> None:
    for _ in range(3):
        copy_id = wire.ask(StartExport(["nobody"]))
        with pytest.raises(JobNotFound):
            read_to_end(wire, copy_id)


def test_unknown_copy_is_refused(wire: Wire) -> None:
    with pytest.raises(InvalidRequest, match="there is no backup 'x'"):
        wire.ask(ReadBackup("x"))


def test_daemon_that_was_killed_while_it_made_a_copy_leaves_nothing_after_its_next_start(
    daemon: DaemonProcess,
) -> None:
    left = daemon.database.with_name("state.db.copy-0123")
    left.write_text("a part of a copy")

    daemon.restart()

    assert files_beside(daemon.database) == set()


def test_daemon_ends_while_a_copy_is_kept(daemon: DaemonProcess, wire: Wire) -> None:
    backup_id = wire.ask(StartBackup())
    wire.ask(ReadBackup(backup_id))
    daemon.stop()
    assert files_beside(daemon.database) == set()


def test_disk_without_room_for_a_copy_is_named_and_writers_go_on(
    daemon_process: DaemonProcess,
) -> None:
    disk = put_on_small_disk(daemon_process)
    daemon_process.start()
    with Wire(daemon_process.socket) as wire:
        wire.save(JOB)
        for number in range(6):
            wire.ask(RecordExecution("job", 1, number, output="x" * 100_000))

        with pytest.raises(StorageError, match=f"a backup needs .* in {os.fspath(disk)}") as full:
            wire.ask(StartBackup())

        assert full.value.data == {"reason": "disk_full"}
        assert wire.ask(RecordExecution("job", 1, 7)) is not None
        assert wire.ask(GetExecutionHistoryCount("job")) == 7
