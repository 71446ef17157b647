"""A `jobkeep` command for the daemon of the test, and a client to look behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobkeep import CheckpointState, Client
from tests.cli.commands import JobkeepCommand
from tests.daemon_process import DaemonProcess


@pytest.fixture
def jobkeep(daemon: DaemonProcess, tmp_path: Path) -> Iterator[JobkeepCommand]:
    """The command, with a daemon that is ready."""
    command = JobkeepCommand(daemon.socket, tmp_path)
    yield command
    command.clean_up()


@pytest.fixture
def client(daemon: DaemonProcess) -> Iterator[Client[CheckpointState]]:
    """A client of the same daemon."""
    with Client(daemon.socket) as client:
        yield client
