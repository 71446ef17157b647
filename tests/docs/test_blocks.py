"""What the pages show runs, and prints what they say."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon_process import DaemonProcess
from tests.docs.pages import LANGUAGES, PAGES, Block, blocks, steps
from tests.support import PATIENCE, scaled

BLOCKS = [block for page in PAGES for block in blocks(page)]
ASKED_OF_A_SAMPLE = "queries.md"
"""Its programs need what is in a sample: `test_queries_page` runs them."""

PROGRAMS = [
    block for block in BLOCKS if block.language == "python" and block.page.name != ASKED_OF_A_SAMPLE
]
TALKS = [page for page in PAGES if any(one.language == "console" for one in blocks(page))]

SOCKET, DATABASE = "/run/jobkeep/jobkeep.sock", "/var/lib/jobkeep/state.db"
"""What the pages call the files of the daemon: where they are when it is installed as a service."""

OPTIONAL = {"nc", "socat", "sqlite3"}
"""Programs that may be missing where the tests run: a command that names one is left out then."""

_VARYING = {
    "<pid>": re.compile(r"\bpid(?: = |  +)\d+"),
    "<time>": re.compile(
        r"just now|\d+(?:\.\d+)? (?:µs|ms|s|min)\b(?: \d+ s\b)?(?: ago)?"
        r"|(?:\d{4}-\d\d-\d\dT)?\d\d:\d\d:\d\d\.\d{3,6}(?:\+00:00)?"
    ),
}


@pytest.fixture
def process_group() -> Iterator[int]:
    """A group for processes; those that are left in it after the test are ended."""
    with subprocess.Popen(["sleep", "infinity"], process_group=0) as leader:  # noqa: S607 # that of this machine
        yield leader.pid
        os.killpg(leader.pid, signal.SIGKILL)


def run(
    command: list[str], daemon: DaemonProcess, directory: Path, group: int | None = None
) -> tuple[int, str]:
    """Run a command for a daemon; gives its status and all it printed."""
    scripts = Path(sys.executable).parent
    finished = subprocess.run(
        command,
        cwd=directory,
        env={
            **os.environ,
            "JOBKEEP_SOCKET": str(daemon.socket),
            "LC_ALL": "C.UTF-8",
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=scaled(PATIENCE),
        check=False,
        process_group=group,
    )
    return finished.returncode, finished.stdout


def without_what_varies(line: str) -> list[str]:
    """The words of a line, with times, durations and process ids made equal."""
    for name, pattern in _VARYING.items():
        line = pattern.sub(name, line)
    return line.split()


def type_in(command: str, daemon: DaemonProcess, directory: Path, group: int) -> str:
    """What a command of a page prints, with the names that the page has for the daemon's files."""
    places = {SOCKET: str(daemon.socket), DATABASE: str(daemon.database)}
    for name, place in places.items():
        command = command.replace(name, place)
    _, output = run(["bash", "-c", command], daemon, directory, group)
    for name, place in places.items():
        output = output.replace(place, name)
    return output


def can_run(command: str) -> bool:
    """Whether every program is there."""
    return all(shutil.which(name) for name in OPTIONAL & set(command.split()))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda one: f"{one.page.name}:{one.language}")
def test_a_block_says_what_it_is(block: Block) -> None:
    assert block.language in LANGUAGES


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda one: one.page.name)
def test_a_program_runs(block: Block, daemon: DaemonProcess, tmp_path: Path) -> None:
    status, output = run([sys.executable, "-W", "error", "-c", block.text], daemon, tmp_path)

    assert status == 0, output


@pytest.mark.parametrize("page", TALKS, ids=lambda one: one.name)
def test_commands_print_what_the_page_says(
    page: Path, daemon: DaemonProcess, process_group: int, tmp_path: Path
) -> None:
    directory = tmp_path / "here"
    directory.mkdir()
    talk = [step for block in blocks(page) if block.language == "console" for step in steps(block)]
    for command, expected in talk:
        if can_run(command):
            output = type_in(command, daemon, directory, process_group)

            assert [without_what_varies(line) for line in output.splitlines()] == [
                without_what_varies(line) for line in expected
            ], f"$ {command}\n{output}"
