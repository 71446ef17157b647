"""The index of the texts and daemons that are killed."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jobkeep import CheckpointState, Client
from tests.daemon.search_index import assert_index_is_right
from tests.daemon_process import DaemonProcess
from tests.support import PATIENCE, scaled, wait_until

ATTEMPTS = 12
TEXT = "hay needle " * 30_000
"""Of which one is a batch."""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    daemon = DaemonProcess(tmp_path)
    try:
        yield daemon
    finally:
        daemon.clean_up()


def left(database: Path) -> int:
    """Up to which attempt the texts are not in the index."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        (value,) = connection.execute(
            "SELECT value FROM counters WHERE name = 'search_executions'"
        ).fetchone()
    return int(value)


def test_filling_in_goes_on_where_a_daemon_was_killed(daemon: DaemonProcess) -> None:
    daemon.start("--search", "off")
    with Client(daemon.socket, timeout=scaled(PATIENCE)) as client:
        client.save(CheckpointState(job_id="job", total_sheets=1))
        for _ in range(ATTEMPTS):
            client.record_execution("job", 1, 1, output=TEXT)
    daemon.stop()

    seen = [ATTEMPTS]
    for point in itertools.islice(itertools.cycle(("before commit", "after commit")), 6):
        daemon.spawn(environment={"JOBKEEPD_FAILPOINTS": f"{point}=kill:2"})
        daemon.wait()
        assert_index_is_right(daemon.database)
        seen.append(left(daemon.database))
    assert seen == sorted(seen, reverse=True)
    assert 0 < seen[-1] < ATTEMPTS

    daemon.start()
    with Client(daemon.socket, timeout=scaled(PATIENCE)) as client:
        wait_until(lambda: client.search_executions("needle").complete)
        assert len(client.search_executions("needle", limit=100).hits) == ATTEMPTS
    daemon.stop()
    assert_index_is_right(daemon.database)
