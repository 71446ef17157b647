"""What the pages show runs, and prints what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemon_process import DaemonProcess
from tests.docs.pages import LANGUAGES, PAGES, Block, blocks, steps
from tests.support import PATIENCE, scaled

BLOCKS = [block for page in PAGES for block in blocks(page)]
PROGRAMS = [block for block in BLOCKS if block.language == "python"]
TALKS = [page for page in PAGES if any(one.language == "console" for one in blocks(page))]

_VARYING = re.compile(r"just now|\d+(?:\.\d+)? (?:ms|s)(?: ago)?")


def run(command: list[str], daemon: DaemonProcess, directory: Path) -> tuple[int, str]:
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
    )
    return finished.returncode, finished.stdout


def without_what_varies(line: str) -> list[str]:
    """The words of a line, with durations and times ago made equal."""
    return _VARYING.sub("<time>", line).split()


@pytest.mark.parametrize("block", BLOCKS, ids=lambda one: f"{one.page.name}:{one.language}")
def test_a_block_says_what_it_is(block: Block) -> None:
    assert block.language in LANGUAGES


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda one: one.page.name)
def test_a_program_runs(block: Block, daemon: DaemonProcess, tmp_path: Path) -> None:
    status, output = run([sys.executable, "-W", "error", "-c", block.text], daemon, tmp_path)

    assert status == 0, output


@pytest.mark.parametrize("page", TALKS, ids=lambda one: one.name)
def test_commands_print_what_the_page_says(
    page: Path, daemon: DaemonProcess, tmp_path: Path
) -> None:
    directory = tmp_path / "here"
    directory.mkdir()
    for block in blocks(page):
        for command, expected in steps(block) if block.language == "console" else []:
            _, output = run(["bash", "-c", command], daemon, directory)

            assert [without_what_varies(line) for line in output.splitlines()] == [
                without_what_varies(line) for line in expected
            ], f"$ {command}\n{output}"
