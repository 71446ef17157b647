"""`jobkeep top` as a person uses it: in a terminal, with a real daemon, by keys."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobkeep import CheckpointState, Client, JobStatus
from tests.cli.commands import JOBKEEP, JobkeepCommand
from tests.cli.top.tmux import MISSING, Window
from tests.daemon_process import DaemonProcess
from tests.support import PATIENCE, scaled

in_tmux = pytest.mark.skipif(bool(MISSING), reason=f"not installed here: {', '.join(MISSING)}")

LEAVE_ALTERNATE_SCREEN = b"\x1b[?1049l"
SHOW_CURSOR = b"\x1b[?25h"

TOP = shlex.join([*JOBKEEP, "top", "--interval", "100ms"])


class TopWindow(Window):
    """A window in which `jobkeep top` is started and ended between two looks at the terminal."""

    def __init__(self, daemon: DaemonProcess, directory: Path) -> None:
        # Some shells export the size of the window, which is then that of before it was resized.
        exported = {"COLUMNS": "80", "LINES": "24"}
        super().__init__({"JOBKEEP_SOCKET": str(daemon.socket), **exported}, columns=160, lines=30)
        self._before, self._after = directory / "before", directory / "after"

    def start(self, *options: str) -> None:
        """Start it and wait for its first picture."""
        self.enter(f"stty -a > {self._before}; {TOP} {shlex.join(options)}; echo status $?")
        self.wait_for(r"^\d+ jobs?:")

    def assert_ended(self, status: int) -> None:
        """Hold it to an exit status, and to a terminal as it was before."""
        self.wait_for(f"^status {status}$")
        assert not self.is_on_alternate_screen
        assert self.cursor_is_visible
        self.enter(f"stty -a > {self._after}; echo compared")
        self.wait_for("^compared$")
        assert self._after.read_text() == self._before.read_text()


@pytest.fixture
def window(daemon: DaemonProcess, tmp_path: Path) -> Iterator[TopWindow]:
    """A shell in a terminal, for the daemon of the test."""
    window = TopWindow(daemon, tmp_path)
    yield window
    window.close()


@pytest.fixture
def nightly(client: Client[CheckpointState]) -> CheckpointState:
    """A job of 60 sheets that runs in this process, beside one that failed."""
    failed = CheckpointState(job_id="import", total_sheets=4)
    failed.mark_sheet_started(1)
    failed.mark_sheet_failed(1, "no space left", exit_code=28)
    failed.mark_job_failed("1 of 4 failed")
    client.save(failed)
    state = CheckpointState(job_id="nightly", total_sheets=60, status=JobStatus.RUNNING)
    state.set_running_pid()
    client.save(state)
    return state


def complete(client: Client[CheckpointState], sheet_num: int) -> None:
    client.mark_sheet_status("nightly", sheet_num, "completed")


def ids(window: Window) -> list[str]:
    """The jobs on the screen, in order."""
    return re.findall(r"^(nightly|import|other)\b", window.text, re.MULTILINE)


@in_tmux
@pytest.mark.usefixtures("nightly")
def test_jobs_move_while_they_are_written_to_and_can_be_sorted_and_filtered(
    window: TopWindow, client: Client[CheckpointState]
) -> None:
    window.start()
    window.wait_for(rf"nightly +running .* 0/60 +0% .* {os.getpid()} alive")
    window.wait_for(r"import +failed .* 1 of 4 failed")
    complete(client, 6)
    window.wait_for(r"nightly +running +━─+ +6/60 +10% +[\d,]+/h")

    assert ids(window) == ["nightly", "import"]
    window.type("s")
    window.wait_for("by name")
    assert ids(window) == ["import", "nightly"]
    window.type("r")
    window.wait_for("by name, reversed")
    assert ids(window) == ["nightly", "import"]

    window.type("/", "i", "m")
    window.wait_until_gone("^nightly")
    window.type("Escape")
    window.wait_for("^nightly")
    window.type("f")
    window.wait_for("1 shown .* status running")
    assert ids(window) == ["nightly"]
    window.type("q")
    window.assert_ended(0)


@in_tmux
def test_a_job_is_opened_with_its_sheets_and_outputs_which_scroll(
    window: TopWindow, client: Client[CheckpointState], nightly: CheckpointState
) -> None:
    nightly.mark_sheet_started(1)
    nightly.mark_sheet_failed(1, "no space left", exit_code=28)
    client.save(nightly)
    client.record_execution("nightly", 1, 1, output="".join(f"line {n}\n" for n in range(90)))
    window.start("--status", "failed", "--status", "running")
    window.type("Enter")
    window.wait_for(r"1 +failed +1 .* 28 +no space left")
    window.wait_for("sheet 1, attempt 1: exit -")
    client.record_execution("nightly", 1, 2, output="\x1b[2Jsecond\n", exit_code=0)
    window.wait_for(r"\\x1b\[2Jsecond")

    window.type("End")
    window.wait_for(r" 60 +pending")
    window.type("Tab", "End")
    window.wait_for("^line 89$")
    window.type("Escape")
    window.wait_for("^JOB ")
    window.type("q")
    window.assert_ended(0)


@in_tmux
@pytest.mark.usefixtures("nightly")
def test_clients_are_shown_with_what_they_do(
    window: TopWindow, client: Client[CheckpointState]
) -> None:
    window.start()
    window.type("c")
    window.wait_for(rf"{os.getpid()} .* [\d.]+ +0 +0 +save ")
    client.load("nightly")
    window.wait_for(rf"{os.getpid()} .* load ")
    window.type("c")
    window.wait_for("^nightly")


@in_tmux
@pytest.mark.usefixtures("nightly")
def test_the_picture_stays_without_the_daemon_and_goes_on_when_it_is_back(
    window: TopWindow, daemon: DaemonProcess, client: Client[CheckpointState]
) -> None:
    window.start()
    window.wait_for("^nightly .* 0/60")
    daemon.kill()
    window.wait_for("^NO ANSWER [^~]*went away")
    assert ids(window) == ["nightly", "import"]
    window.type("Down", "s")  # keys go on
    window.wait_for("by name")

    daemon.start()
    complete(client, 6)
    window.wait_for("^nightly .* 6/60")
    window.wait_until_gone("NO ANSWER")


@in_tmux
@pytest.mark.usefixtures("nightly")
def test_ctrl_c_ends_it_also_while_the_daemon_hangs(
    window: TopWindow, daemon: DaemonProcess
) -> None:
    window.start()
    os.kill(daemon.pid, signal.SIGSTOP)
    window.wait_for("^NO ANSWER [^~]*got no reply")
    window.type("C-c")
    window.assert_ended(130)
    assert "jobkeep: interrupted" in window.text


@in_tmux
@pytest.mark.usefixtures("nightly")
def test_it_is_stopped_and_continued_resized_and_terminated_like_any_program(
    window: TopWindow,
) -> None:
    window.start()
    window.type("C-z")
    window.wait_for("Stopped")
    assert not window.is_on_alternate_screen
    assert window.cursor_is_visible
    window.enter("fg")
    window.wait_for("^nightly")

    window.resize(40, 10)
    window.wait_until_gone("UNCHANGED")
    window.wait_for(r"^nightly +running +0/60")
    window.resize(160, 30)
    window.wait_for("UNCHANGED")
    os.kill(window.program, signal.SIGSTOP)
    window.wait_for("Stopped")
    window.enter("clear; fg")
    window.wait_for("^nightly")
    window.type("s")
    window.wait_for("by name")

    window.type("C-z")
    window.wait_for("Stopped")
    # bash takes a job for stopped until it is told otherwise, and `wait` would not wait for it.
    program = window.program
    window.enter(
        f"kill %1; while kill -0 {program} 2>&-; do :; done; wait {program}; echo status $?"
    )
    window.assert_ended(128 + signal.SIGTERM)


def test_a_fault_of_its_own_leaves_the_terminal_as_it_was() -> None:
    program = """
from jobkeep.cli.top.terminal import Terminal
with Terminal() as terminal:
    terminal.draw("a picture")
    raise RuntimeError("a fault")
"""
    keyboard, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    process = subprocess.run(
        [sys.executable, "-c", program],
        stdin=terminal,
        stdout=terminal,
        stderr=subprocess.PIPE,
        check=False,
        timeout=scaled(PATIENCE),
    )
    shown = os.read(keyboard, 65536)

    assert b"RuntimeError: a fault" in process.stderr
    assert termios.tcgetattr(terminal) == before
    assert shown.index(b"a picture") < shown.index(LEAVE_ALTERNATE_SCREEN)
    assert shown.index(b"a picture") < shown.index(SHOW_CURSOR)
    os.close(keyboard)
    os.close(terminal)


def test_without_a_terminal_it_says_what_there_is_for_programs(jobkeep: JobkeepCommand) -> None:
    finished = jobkeep("top")
    assert (finished.status, finished.out) == (2, "")
    for text in ("needs a terminal", "`jobkeep jobs --json`", "`jobkeep watch`"):
        assert text in finished.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--interval", "1ms"], "--interval"),
        (["--stuck-after", "soon"], "--stuck-after"),
        (["--status", "lost"], "--status"),
    ],
)
def test_wrong_arguments_are_named(
    jobkeep: JobkeepCommand, arguments: list[str], named: str
) -> None:
    finished = jobkeep("top", *arguments)
    assert finished.status == 2
    assert named in finished.err
