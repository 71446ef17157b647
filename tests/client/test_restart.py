"""The daemon goes and comes back while workers record: nothing is lost, nothing comes twice."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import IO

import pytest

from jobkeep import CheckpointState, Client
from tests.daemon_process import DaemonProcess
from tests.support import PATIENCE, scaled, wait_until

WORKERS = 8
RESTARTS = 5
RECORDS_BETWEEN = 100


def start_worker(daemon: DaemonProcess, number: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.client.recording_worker"),
            *(str(daemon.socket), "nightly", f"worker-{number}"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def stream(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_eight_workers_record_through_restarts_of_the_daemon(
    daemon: DaemonProcess, end: str
) -> None:
    with Client(daemon.socket, timeout=scaled(60)) as client:
        client.save(CheckpointState(job_id="nightly", total_sheets=1))
        workers = [start_worker(daemon, number) for number in range(WORKERS)]
        for worker in workers:
            assert stream(worker.stdout).readline() == "ready\n"

        for _ in range(RESTARTS):
            before = client.get_execution_history_count("nightly")
            wait_until(
                lambda before=before: (
                    client.get_execution_history_count("nightly")  # type: ignore[misc] # a default binds the loop's value
                    >= before + RECORDS_BETWEEN
                )
            )
            getattr(daemon, end)()
            daemon.start()

        acknowledged: dict[str, int] = {}
        for worker in workers:
            output, _ = worker.communicate(timeout=scaled(PATIENCE))
            assert worker.returncode == 0
            acknowledged |= json.loads(output)
        kept = client.get_execution_history("nightly", limit=1_000_000)

    assert len(acknowledged) > RESTARTS * RECORDS_BETWEEN
    assert {record["prompt"]: record["id"] for record in kept} == acknowledged
    assert len(kept) == len(acknowledged)
