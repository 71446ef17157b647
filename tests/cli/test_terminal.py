"""What is different on a terminal: colours, a progress bar, and questions."""

from __future__ import annotations

import re

import pytest

from jobkeep import CheckpointState, Client, JobStatus
from tests.cli.commands import JobkeepCommand

COLOUR = re.compile("\x1b\\[[0-9;]*m")


@pytest.fixture
def failed(client: Client[CheckpointState]) -> CheckpointState:
    """A job that failed."""
    state = CheckpointState(job_id="job", total_sheets=1, status=JobStatus.FAILED)
    client.save(state)
    return state


@pytest.mark.usefixtures("failed")
def test_a_status_is_coloured(jobkeep: JobkeepCommand) -> None:
    status, shown = jobkeep.on_terminal("jobs")
    assert status == 0
    assert "\x1b[31mfailed\x1b[0m" in shown


@pytest.mark.usefixtures("failed")
def test_no_color_is_respected(jobkeep: JobkeepCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    plain = JobkeepCommand(jobkeep.socket, jobkeep.directory)
    _, shown = plain.on_terminal("jobs")
    assert "failed" in shown
    assert not re.search("\x1b\\[[0-9;]*3[0-7]m", shown)


@pytest.mark.usefixtures("failed")
def test_json_is_never_coloured(jobkeep: JobkeepCommand) -> None:
    _, shown = jobkeep.on_terminal("jobs", "--json")
    assert "\x1b" not in shown


@pytest.mark.parametrize(("answer", "status", "is_kept"), [(b"y\n", 0, False), (b"\n", 1, True)])
@pytest.mark.usefixtures("failed")
def test_delete_asks(
    jobkeep: JobkeepCommand,
    client: Client[CheckpointState],
    answer: bytes,
    status: int,
    is_kept: bool,
) -> None:
    ended, shown = jobkeep.on_terminal("delete", "job", typed=answer)
    assert ended == status
    assert "Delete job job with 1 sheet and 0 attempts? [y/N]" in shown
    assert (client.load("job") is not None) is is_kept


@pytest.mark.usefixtures("failed")
def test_ctrl_c_at_the_question_deletes_nothing(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    status, _ = jobkeep.on_terminal("delete", "job", typed=b"\x04")
    assert status == 130
    assert client.load("job") is not None


def test_a_run_shows_its_progress(jobkeep: JobkeepCommand) -> None:
    command = ("sh", "-c", 'echo "it was $0"; test "$0" != b', "{}")
    status, shown = jobkeep.on_terminal("run", "job", "--", *command, ":::", "a", "b", "c")
    assert status == 1
    plain = COLOUR.sub("", shown)
    assert "3/3" in plain
    assert "1 failed" in plain
    assert "jobkeep: sheet 2 (b) failed: exit code 1: it was b" in plain
    assert "1 of 3 items failed, 2 are done" in plain


def test_a_run_does_not_read_items_from_a_terminal(jobkeep: JobkeepCommand) -> None:
    status, shown = jobkeep.on_terminal("run", "job", "--", "echo")
    assert status == 2
    assert "there are no items: give them after ::: or on standard input" in shown


def test_a_command_that_asks_on_the_terminal_fails_and_does_not_hang(
    jobkeep: JobkeepCommand,
) -> None:
    status, shown = jobkeep.on_terminal(
        "run", "job", "--", "sh", "-c", "cat < /dev/tty", ":::", "a"
    )
    assert status == 1
    assert "1 of 1 items failed" in shown


def test_an_output_cannot_act_upon_the_terminal(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    client.save(CheckpointState(job_id="job", total_sheets=1))
    client.record_execution("job", 1, 1, output="\x1b[2Jgone\n")
    _, shown = jobkeep.on_terminal("history", "job", "--output")
    assert "\\x1b[2Jgone" in shown
    assert "\x1b[2J" not in shown
    assert jobkeep("history", "job", "--output").out.endswith("\x1b[2Jgone\n")
