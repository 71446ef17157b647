"""A disk that is full, a quota that is used up, files that may not grow: nothing is lost, reads go
on, and writing works again when there is room."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobkeep_protocol.errors import StorageError
from jobkeep_protocol.messages import (
    GetExecutionHistoryCount,
    GetNextSheet,
    RecordExecution,
    Status,
)
from jobkeep_protocol.states import CheckpointState
from tests.cli.commands import JobkeepCommand
from tests.daemon_process import DaemonProcess
from tests.faults.account import Ledger
from tests.small_disk import make_room, put_on_small_disk
from tests.support import wait_until
from tests.wire import Wire

JOB = CheckpointState(job_id="job", total_sheets=3)


def record_until_refused(wire: Wire, record: RecordExecution) -> int:
    """Record the same again and again; gives how often that went well."""
    for count in range(100):
        try:
            wire.ask(record)
        except StorageError:
            return count
    raise AssertionError("a disk of 3 MiB took 10 MB")


def test_full_disk_is_an_error_and_writing_works_again_when_there_is_room(
    daemon_process: DaemonProcess,
) -> None:
    put_on_small_disk(daemon_process)
    daemon_process.start()
    record = RecordExecution("job", 1, 1, output="x" * 100_000)

    with Wire(daemon_process.socket) as wire:
        wire.save(JOB)
        acknowledged = record_until_refused(wire, record)
        with pytest.raises(StorageError, match="the disk is full; nothing was written") as full:
            wire.ask(record)
        assert full.value.data == {"reason": "disk_full"}
        assert acknowledged > 0
        assert wire.ask(GetExecutionHistoryCount("job")) == acknowledged
        assert wire.ask(GetNextSheet("job")) == 1

        make_room(daemon_process)

        assert wire.ask(record) is not None
        assert wire.ask(GetExecutionHistoryCount("job")) == acknowledged + 1
        assert wire.ask(Status()).jobs == {"pending": 1}
    daemon_process.stop()
    assert "another program" not in daemon_process.log


def test_full_disk_is_not_taken_for_a_write_of_another_program(
    daemon_process: DaemonProcess, tmp_path: Path
) -> None:
    put_on_small_disk(daemon_process)
    daemon_process.start()
    make_room(daemon_process)
    jobkeep = JobkeepCommand(daemon_process.socket, tmp_path)

    large = "head -c 700000 /dev/urandom | base64 #{}"
    finished = jobkeep("run", "big", "--", "sh", "-c", large, ":::", *"abcdef")

    assert "the disk is full" in finished.err
    assert "another program" not in daemon_process.log


# -- files that may not grow --------------------------------------------------------------------

MEGABYTE = 1_000_000


@contextmanager
def files_limited(pid: int, size: int) -> Iterator[None]:
    """A process whose files may not become larger, for a while."""
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)


def test_limit_on_the_size_of_files_is_as_good_as_a_full_disk(daemon: DaemonProcess) -> None:
    ledger = Ledger()
    with files_limited(daemon.pid, MEGABYTE):
        ledger.write(daemon.socket, [100_000] * 15)

        assert len(ledger.refused) > 1
        assert len(ledger.acknowledged) > 5
        assert {str(error) for error in ledger.refused.values()} == {
            "the disk is full; nothing was written. Reading goes on, and writing works again when "
            "there is room"
        }
        with Wire(daemon.socket) as wire:
            assert wire.ask(GetNextSheet("job")) == 1
    refused = len(ledger.refused)
    ledger.write(daemon.socket, [100_000] * 15)

    daemon.kill()  # what was refused is not there either when the log is read anew
    daemon.start()
    daemon.stop()
    assert len(ledger.refused) == refused
    ledger.assert_is_kept_by(daemon.database)


def test_checkpoint_into_a_file_that_may_not_grow_is_tried_again_later(
    daemon: DaemonProcess,
) -> None:
    ledger = Ledger()
    ledger.write(daemon.socket, [MEGABYTE])
    with files_limited(daemon.pid, MEGABYTE // 2):
        wait_until(lambda: "is tried again later" in daemon.log)
        with Wire(daemon.socket) as wire:
            assert wire.ask(GetExecutionHistoryCount("job")) == 9
    ledger.write(daemon.socket, [100_000])
    daemon.stop()
    assert daemon.database.stat().st_size > MEGABYTE
    ledger.assert_is_kept_by(daemon.database)
