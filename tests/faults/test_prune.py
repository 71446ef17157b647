"""A daemon that is killed while it prunes leaves a file in order, and the next one goes on."""

from __future__ import annotations

import pytest

from jobkeep import Client
from jobkeep_protocol.errors import DaemonUnavailable, StorageError
from jobkeep_protocol.messages import (
    GetExecutionHistoryCount,
    Prune,
    PruneStep,
    RecordExecution,
    Shrink,
)
from jobkeep_protocol.states import CheckpointState, JobStatus, utc_now
from jobkeepd.failpoints import VARIABLE
from jobkeepd.store.examine import examine
from tests.daemon_process import DaemonProcess
from tests.support import scaled
from tests.wire import Wire

JOBS, ATTEMPTS = 3, 120
TEXT = "a line of an output\n" * 300


@pytest.fixture
def filled(daemon_process: DaemonProcess) -> DaemonProcess:
    """A daemon that has stopped, with jobs that are done and have many attempts, some failed."""
    daemon_process.start()
    with Wire(daemon_process.socket) as wire:
        for number in range(JOBS):
            job_id = f"job {number}"
            wire.save(CheckpointState(job_id=job_id, total_sheets=1, status=JobStatus.COMPLETED))
            for attempt in range(ATTEMPTS):
                wire.ask(RecordExecution(job_id, 1, attempt, output=TEXT, exit_code=attempt % 2))
    daemon_process.stop()
    return daemon_process


@pytest.mark.parametrize("point", ["before commit", "after commit", "before acknowledgement"])
@pytest.mark.parametrize("at", [3, 8, 11])
def test_daemon_that_is_killed_while_it_prunes_leaves_a_file_in_order(
    filled: DaemonProcess, point: str, at: int
) -> None:
    filled.start(environment={VARIABLE: f"{point}=kill:{at}"})
    with (
        pytest.raises((DaemonUnavailable, StorageError)),
        Client(filled.socket, timeout=scaled(1)) as client,
    ):
        client.prune(older_than=0, status="completed")
    filled.wait()
    assert examine(filled.database, print)

    filled.start()
    with Client(filled.socket, timeout=scaled(20)) as client:
        client.prune(older_than=0, status="completed")
        overview = client.get_overview()
        assert client.query_jobs() == []
    filled.stop()

    assert overview.jobs == {"completed": JOBS}
    assert (overview.executions, overview.failures) == (JOBS * ATTEMPTS, JOBS * ATTEMPTS // 2)
    assert examine(filled.database, print)


def test_batch_that_is_sent_again_after_a_kill_is_counted_once(filled: DaemonProcess) -> None:
    request, client_id = Prune(["job 0"], before=utc_now()), b"0123456789abcdef"
    filled.start(environment={VARIABLE: "before acknowledgement=kill"})
    with Wire(filled.socket, client_id) as wire:
        wire.send(request, 64)
        assert wire.is_closed()
    filled.wait()

    filled.start()
    with Wire(filled.socket, client_id) as wire:
        step: PruneStep = wire.ask(request, 64)
        again: PruneStep = wire.ask(request, 64)
    with Client(filled.socket) as client:
        assert client.get_execution_history_count("job 0") == ATTEMPTS - step.attempts
        assert client.get_job_statistics("job 0")["total_executions"] == ATTEMPTS
    assert step == again
    assert step.attempts > 0


@pytest.mark.parametrize(
    "point", ["before commit=kill:2", "after commit=kill:2", "before checkpoint=kill"]
)
def test_daemon_that_is_killed_while_it_gives_room_back_leaves_a_file_in_order(
    filled: DaemonProcess, point: str
) -> None:
    filled.start()
    with Wire(filled.socket) as wire:
        request: Prune | None = Prune([f"job {number}" for number in range(JOBS)], keep_last=1)
        while request is not None:
            request = request.following(wire.ask(request))
    filled.stop()
    filled.start(environment={VARIABLE: point})
    with Wire(filled.socket) as wire:
        wire.ask(Shrink())
        wire.send(Shrink())
        assert wire.is_closed()
    filled.wait()
    assert examine(filled.database, print)

    filled.start()
    with Wire(filled.socket) as wire:
        while wire.ask(Shrink()).more:
            pass
        assert wire.ask(GetExecutionHistoryCount("job 0")) == 1
    filled.stop()
    assert examine(filled.database, print)
    assert filled.database.stat().st_size < JOBS * ATTEMPTS * len(TEXT) // 2
