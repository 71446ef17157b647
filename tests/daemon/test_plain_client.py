"""docs/protocol.md is enough to write a client from: one that was is put through it all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jobkeep import Client, SheetStatus
from tests.daemon_process import DaemonProcess
from tests.plain_client.scenario import STARTED, VALUES
from tests.support import PATIENCE, scaled

TESTS = Path(__file__).parents[1]
ALONE = (sys.executable, "-I", "-S", "-B")
"""Without the packages that are installed, the variables of the environment, and this directory;
and without leaving compiled files beside the sources."""


@pytest.mark.parametrize("package", ["jobkeep", "jobkeep_protocol", "jobkeepd", "msgspec"])
def test_where_it_runs_nothing_of_ours_can_be_imported(package: str) -> None:
    tried = subprocess.run([*ALONE, "-c", f"import {package}"], stderr=subprocess.PIPE, check=False)

    assert b"ModuleNotFoundError" in tried.stderr


def test_client_from_the_page_alone_does_all_that_the_page_says(daemon: DaemonProcess) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(TESTS)!r})\n"
        f"from plain_client.scenario import run; run({str(daemon.socket)!r})"
    )
    with subprocess.Popen(
        [*ALONE, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None, "it is a pipe"
        assert process.stdout is not None, "it is a pipe"
        try:
            for line in process.stdout:
                assert line == "restart\n"
                daemon.kill()
                daemon.start()
                process.stdin.write("done\n")
                process.stdin.flush()
            assert process.wait(scaled(PATIENCE)) == 0
        finally:
            process.kill()

    with Client(daemon.socket) as client:
        state = client.load("plain ✓")
        assert state is not None
        assert (state.total_sheets, state.extra) == (4, {"by": "hand", "none": None})
        assert state.sheets[1].status is SheetStatus.COMPLETED
        assert (state.sheets[1].model, state.sheets[2].error_message) == ("m-1", "no luck")
        assert state.sheets[2].started_at == STARTED
        assert state.sheets[2].outcome_data == {"of every size": VALUES}
