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
    """What the last of these words, which is not complete, may become."""
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


def test_operations_are_offered_in_the_form_that_was_begun(jobkeep: JobkeepCommand) -> None:
    assert offered(jobkeep, "call", "q") == ["query_jobs"]
    assert offered(jobkeep, "introspect", "Q") == ["QueryJobs"]
    assert offered(jobkeep, "monitor", "--method", "org.jobkeep.Q") == ["org.jobkeep.QueryJobs"]


def test_keys_of_an_operation_are_offered_once(jobkeep: JobkeepCommand) -> None:
    keys = ["sheet_num=", "status=", "error_message="]
    assert offered(jobkeep, "call", "mark_sheet_status", "job_id=a", "") == keys
    assert offered(jobkeep, "call", "mark_sheet_status", "job_id", "=", "status", "") == keys
    assert offered(jobkeep, "call", "load", "j") == ["job_id="]
    assert offered(jobkeep, "call", "nonsense", "") == []


@pytest.mark.parametrize("is_one_word", [True, False])
def test_values_of_a_key_are_offered(
    jobkeep: JobkeepCommand, client: Client[CheckpointState], is_one_word: bool
) -> None:
    """Bash takes `key=value` for three words, and the other shells for one."""

    def values(operation: str, key: str, value: str) -> list[str]:
        if is_one_word:
            return offered(jobkeep, "call", operation, f"{key}={value}")
        return [f"{key}={one}" for one in offered(jobkeep, "call", operation, key, "=", value)]

    client.save(CheckpointState(job_id="nightly", total_sheets=1))

    assert values("load", "job_id", "ni") == ["job_id=nightly"]
    assert values("query_jobs", "status", "p") == [
        *("status=pending", "status=paused", "status=paused_at_chain")
    ]
    assert values("monitor", "errors_only", "t") == ["errors_only=true"]
    assert values("query_jobs", "limit", "1") == []


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
    leaves_no_space_after_a_key = "*= ]] || compopt -o nospace" in finished.stdout
    assert leaves_no_space_after_a_key is (shell == "bash")
