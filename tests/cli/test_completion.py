"""What a shell is offered when Tab is pressed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from jobkeep import CheckpointState, Client
from jobkeep.cli.app import COMMANDS
from tests.cli.commands import JOBKEEP, JobkeepCommand


def offered(jobkeep: JobkeepCommand, *words: str) -> list[str]:
    """What may follow these words, of which the last is not complete."""
    finished = subprocess.run(
        JOBKEEP,
        env={
            **os.environ,
            "JOBKEEP_SOCKET": str(jobkeep.socket),
            "_JOBKEEP_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(("jobkeep", *words)),
            "COMP_CWORD": str(len(words)),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert finished.stderr == ""
    return [line.partition(",")[2] for line in finished.stdout.splitlines() if line]


def test_commands_are_offered(jobkeep: JobkeepCommand) -> None:
    assert offered(jobkeep, "") == list(COMMANDS)
    assert offered(jobkeep, "st") == ["stats", "status"]


def test_options_are_offered(jobkeep: JobkeepCommand) -> None:
    assert "--json" in offered(jobkeep, "show", "--")
    assert "--socket" in offered(jobkeep, "--")


def test_jobs_are_offered(jobkeep: JobkeepCommand, client: Client[CheckpointState]) -> None:
    for job_id in ("import/1", "import/2", "other", "import\n3"):
        client.save(CheckpointState(job_id=job_id, total_sheets=1))

    assert offered(jobkeep, "show", "imp") == ["import/2", "import/1"]
    assert offered(jobkeep, "--socket", str(jobkeep.socket), "wait", "o") == ["other"]


def test_nothing_is_offered_or_said_without_a_daemon(tmp_path: Path) -> None:
    assert offered(JobkeepCommand(tmp_path / "none", tmp_path), "show", "imp") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(shell: str) -> None:
    finished = subprocess.run(
        JOBKEEP,
        env={**os.environ, "_JOBKEEP_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "_JOBKEEP_COMPLETE" in finished.stdout
