"""`jobkeep run`: each item once, whatever the list looks like the next time."""

from __future__ import annotations

import os
import shlex

import pytest

from jobkeep import CheckpointState, Client, JobStatus, SheetState, SheetStatus
from tests.cli.commands import JobkeepCommand

APPEND = ["sh", "-c", 'echo "$0" >> ran', "{}"]
"""Notes each item that it is run for."""

FAIL_ON_B = ["sh", "-c", 'echo "doing $0"; echo oops >&2; test "$0" != b', "{}"]

FAIL_UNTIL_MENDED = ["sh", "-c", 'echo "$0" >> ran; test "$0" != b || test -e mended', "{}"]


def ran(jobkeep: JobkeepCommand) -> list[str]:
    """The items that were run so far, in order."""
    path = jobkeep.directory / "ran"
    return path.read_text().splitlines() if path.exists() else []


def load(client: Client[CheckpointState], job_id: str = "job") -> CheckpointState:
    state = client.load(job_id)
    assert state is not None
    return state


def sheet_of(state: CheckpointState, item: str) -> SheetState:
    (found,) = [one for one in state.sheets.values() if one.extra.get("item") == item]
    return found


# -- a run from beginning to end --------------------------------------------------------------


def test_every_item_is_run_and_kept(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    finished = jobkeep("run", "job", "-j", "3", "--", "echo", "<{}>", ":::", "a", "b c", "🎉")
    assert (finished.status, finished.out) == (0, "")
    assert finished.err.startswith("jobkeep: all 3 items are done")
    state = load(client)
    assert (state.status, state.pid, state.total_sheets) == (JobStatus.COMPLETED, None, 3)
    assert state.config_snapshot == {"command": ["echo", "<{}>"]}
    for item in ("a", "b c", "🎉"):
        sheet = sheet_of(state, item)
        assert (sheet.status, sheet.attempt_count, sheet.exit_code) == ("completed", 1, 0)
        assert sheet.execution_duration_seconds is not None
        assert sheet.success_without_retry
        (record,) = client.get_execution_history("job", sheet.sheet_num)
        assert record["prompt"] == shlex.join(["echo", f"<{item}>"])
        assert (record["output"], record["exit_code"]) == (f"<{item}>\n", 0)
        assert record["attempt_num"] == 1
        assert record["duration_seconds"] == sheet.execution_duration_seconds


@pytest.mark.parametrize(
    ("stdin", "options"),
    [(b"a\nb c\n\nd", []), (b"a\0b c\0d\0", ["-0"]), (b"a\0b c\0d", ["--null"])],
)
def test_items_come_from_standard_input(
    jobkeep: JobkeepCommand, stdin: bytes, options: list[str]
) -> None:
    assert jobkeep("run", "job", *options, "--", *APPEND, stdin=stdin).status == 0
    assert ran(jobkeep) == ["a", "b c", "d"]


def test_without_a_place_the_item_goes_last(jobkeep: JobkeepCommand) -> None:
    assert jobkeep("run", "job", "--", *APPEND[:3], ":::", "a").status == 0
    assert ran(jobkeep) == ["a"]


def test_no_shell_looks_at_the_command(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    jobkeep("run", "job", "--", "echo", "$HOME;", "{}", ":::", "`id` > file")
    (record,) = client.get_execution_history("job")
    assert record["output"] == "$HOME; `id` > file\n"


def test_a_command_finds_no_input_and_both_outputs_are_kept_in_order(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    script = "cat; echo one; echo two >&2; echo three; printf '\\377'"
    assert jobkeep("run", "job", "--", "sh", "-c", script, stdin=b"a\n").status == 0
    (record,) = client.get_execution_history("job")
    assert record["output"] == "one\ntwo\nthree\n\\xff"


def test_a_command_that_leaves_a_process_behind_is_over_when_it_ends(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    script = "echo begun; (until [ -e over ]; do sleep 0.01; done) & "
    finished = jobkeep("run", "job", "--", "sh", "-c", script, ":::", "a")
    (jobkeep.directory / "over").touch()
    assert finished.status == 0
    (record,) = client.get_execution_history("job")
    assert record["output"] == "begun\n"


def test_the_summary_as_json(jobkeep: JobkeepCommand) -> None:
    finished = jobkeep("run", "job", "--json", "--", *FAIL_ON_B, ":::", "a", "b")
    document = finished.document
    assert document.pop("duration_seconds") >= 0
    assert document == {
        "job_id": "job",
        "status": "failed",
        "total": 2,
        "completed": 1,
        "failed": 1,
        "remaining": 0,
        "completed_now": 1,
        "workers_lost": 0,
        "failed_items": [
            {
                "sheet_num": 2,
                "item": "b",
                "exit_code": 1,
                "exit_signal": None,
                "error_message": "exit code 1: oops",
            }
        ],
    }


# -- failures ---------------------------------------------------------------------------------


def test_a_failure_is_kept_told_and_makes_the_exit_status_1(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    finished = jobkeep("run", "job", "--", *FAIL_ON_B, ":::", "a", "b", "c")
    assert finished.status == 1
    assert "sheet 2 (b) failed: exit code 1: oops\n" in finished.err
    assert "1 of 3 items failed, 2 are done" in finished.err
    assert "--retry-failed" in finished.err
    state = load(client)
    assert (state.status, state.error_message) == (JobStatus.FAILED, "1 of 3 items failed")
    sheet = sheet_of(state, "b")
    assert (sheet.status, sheet.exit_code) == (SheetStatus.FAILED, 1)
    assert sheet.error_message == "exit code 1: oops"
    assert sheet.execution_duration_seconds is not None
    assert sheet.completed_at is not None


def test_a_command_killed_by_a_signal_has_no_exit_code(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    finished = jobkeep("run", "job", "--", "sh", "-c", "kill -SEGV $$", ":::", "a")
    assert "killed by SIGSEGV" in finished.err
    sheet = sheet_of(load(client), "a")
    assert (sheet.exit_code, sheet.exit_signal) == (None, 11)
    (record,) = client.get_execution_history("job")
    assert record["exit_code"] is None


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [("no-such-command", 127, "No such file"), ("./plain", 126, "Permission denied")],
)
def test_a_command_that_cannot_run_fails_as_in_a_shell(
    jobkeep: JobkeepCommand,
    client: Client[CheckpointState],
    command: str,
    code: int,
    reason: str,
) -> None:
    (jobkeep.directory / "plain").touch(mode=0o644)
    assert jobkeep("run", "job", "--", command, ":::", "a").status == 1
    assert sheet_of(load(client), "a").exit_code == code
    (record,) = client.get_execution_history("job")
    assert record["exit_code"] == code
    assert reason in str(record["output"])


def test_each_item_is_tried_so_many_times(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    finished = jobkeep("run", "job", "--attempts", "3", "--", *FAIL_ON_B, ":::", "a", "b")
    assert finished.status == 1
    assert finished.err.count("sheet 2 (b) is tried again: exit code 1: oops") == 2
    sheet = sheet_of(load(client), "b")
    assert (sheet.status, sheet.attempt_count) == (SheetStatus.FAILED, 3)
    records = client.get_execution_history("job", 2)
    assert [record["attempt_num"] for record in records] == [3, 2, 1]
    assert client.get_execution_history_count("job", 1) == 1


def test_an_attempt_that_succeeds_is_the_last(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    script = "test -e tried || { touch tried; exit 3; }"
    finished = jobkeep("run", "job", "--attempts", "5", "--", "sh", "-c", script, ":::", "a")
    assert finished.status == 0
    sheet = sheet_of(load(client), "a")
    assert (sheet.status, sheet.attempt_count, sheet.exit_code) == ("completed", 2, 0)
    assert not sheet.success_without_retry
    assert [one["exit_code"] for one in client.get_execution_history("job")] == [0, 3]


def test_failed_items_are_tried_again_only_when_asked(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    line = ("--", *FAIL_UNTIL_MENDED, ":::", "a", "b", "c")
    assert jobkeep("run", "job", *line).status == 1
    again = jobkeep("run", "job", *line)
    assert (again.status, ran(jobkeep)) == (1, ["a", "b", "c"])
    assert "1 of 3 items failed" in again.err
    (jobkeep.directory / "mended").touch()
    assert jobkeep("run", "job", "--retry-failed", *line).status == 0
    assert ran(jobkeep) == ["a", "b", "c", "b"]
    state = load(client)
    assert (state.status, state.error_message) == (JobStatus.COMPLETED, None)
    assert sheet_of(state, "b").error_message is None


# -- the same line again ----------------------------------------------------------------------


def test_finished_items_do_not_run_again_whatever_their_order(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    jobkeep("run", "job", "--", *APPEND, ":::", "a", "b", "c")
    finished = jobkeep("run", "job", "--", *APPEND, ":::", "new", "c", "a", "b")
    assert finished.status == 0
    assert ran(jobkeep) == ["a", "b", "c", "new"]
    assert sheet_of(load(client), "new").sheet_num == 4
    assert jobkeep("run", "job", "--", *APPEND, ":::", "b", "a").status == 0
    assert ran(jobkeep) == ["a", "b", "c", "new"]
    assert load(client).status is JobStatus.COMPLETED


def test_an_item_that_is_not_listed_any_more_fails_nothing(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    jobkeep("run", "job", "--", *FAIL_UNTIL_MENDED, ":::", "a", "b")
    assert jobkeep("run", "job", "--", *FAIL_UNTIL_MENDED, ":::", "a").status == 0
    state = load(client)
    assert state.status is JobStatus.COMPLETED
    assert sheet_of(state, "b").status is SheetStatus.SKIPPED
    (jobkeep.directory / "mended").touch()
    assert jobkeep("run", "job", "--", *FAIL_UNTIL_MENDED, ":::", "a", "b").status == 0
    assert ran(jobkeep) == ["a", "b", "b"]


def test_an_item_listed_twice_is_run_twice(jobkeep: JobkeepCommand) -> None:
    for _ in range(2):
        assert jobkeep("run", "job", "--", *APPEND, ":::", "a", "b", "a").status == 0
    assert ran(jobkeep) == ["a", "b", "a"]


def test_another_command_is_refused_and_changes_nothing(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    jobkeep("run", "job", "--", *APPEND, ":::", "a")
    before = load(client)
    finished = jobkeep("run", "job", "--", "echo", "{}", ":::", "a", "b")
    assert finished.status == 2
    assert "--new-command" in finished.err
    assert load(client) == before
    assert jobkeep("run", "job", "--new-command", "--", "echo", "{}", ":::", "a", "b").status == 0
    (record,) = client.get_execution_history("job", limit=1)
    assert record["prompt"] == "echo b"


def test_a_job_of_another_program_is_refused(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    client.save(CheckpointState(job_id="job", total_sheets=3))
    finished = jobkeep("run", "job", "--", "echo", ":::", "a")
    assert finished.status == 2
    assert "was not made by `jobkeep run`" in finished.err


def test_a_job_that_is_being_run_is_refused_by_the_pid(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    state = CheckpointState(
        job_id="job",
        total_sheets=1,
        status=JobStatus.RUNNING,
        config_snapshot={"command": ["echo"]},
    )
    state.set_running_pid()
    client.save(state)
    for options in ([], ["--dry-run"]):
        finished = jobkeep("run", "job", *options, "--", "echo", ":::", "a")
        assert finished.status == 1
        assert f"process {os.getpid()}" in finished.err
    assert load(client) == state


def test_two_runs_at_once_are_one(jobkeep: JobkeepCommand) -> None:
    items = [str(number) for number in range(20)]
    line = ("run", "job", "-j", "2", "--", *APPEND, ":::", *items)
    started = [jobkeep.start(*line) for _ in range(3)]
    finished = [jobkeep.end_of(one) for one in started]
    assert 0 in {one.status for one in finished}
    assert {one.status for one in finished} <= {0, 1}
    assert sorted(ran(jobkeep), key=int) == items


# -- a dry run --------------------------------------------------------------------------------


def test_a_dry_run_prints_the_commands_and_changes_nothing(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    finished = jobkeep("run", "job", "--dry-run", "--", "cp", "{}", "{}.bak", ":::", "a", "b c")
    assert finished == (0, "cp a a.bak\ncp 'b c' 'b c.bak'\n", "")
    assert client.load("job") is None


def test_a_dry_run_of_a_job_that_is_kept(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    jobkeep("run", "job", "--", *FAIL_ON_B, ":::", "a", "b")
    before = load(client)
    line = ("run", "job", "--dry-run", "--json")
    items = ("--", *FAIL_ON_B, ":::", "a", "c", "b")
    (only,) = jobkeep(*line, *items).document
    assert only == {"sheet_num": 3, "item": "c", "command": [*FAIL_ON_B[:3], "c"]}
    both = jobkeep(*line, "--retry-failed", *items).document
    assert [one["item"] for one in both] == ["b", "c"]
    assert load(client) == before


# -- wrong arguments --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "JOB"),
        (["job"], "the command is missing"),
        (["job", "--", ":::", "a"], "the command is missing"),
        (["job", "--", "echo", ":::"], "no item follows :::"),
        (["job", "--", "echo"], "standard input holds no item"),
        (["job", "-0", "--", "echo", ":::", "a"], "-0 is for items on standard input"),
        (["job", "-j", "0", "--", "echo", ":::", "a"], "'-j'"),
        (["job", "-j", "many", "--", "echo", ":::", "a"], "'-j'"),
        (["job", "--attempts", "0", "--", "echo", ":::", "a"], "--attempts"),
        (["job", "ls", "-l", ":::", "a"], "put -- before the command"),
        (["", "--", "echo", ":::", "a"], "job_id is ''"),
        (["x" * 513, "--", "echo", ":::", "a"], "1 to 512 bytes"),
    ],
)
def test_wrong_arguments_are_2_and_change_nothing(
    jobkeep: JobkeepCommand, client: Client[CheckpointState], arguments: list[str], named: str
) -> None:
    finished = jobkeep("run", *arguments)
    assert (finished.status, finished.out) == (2, "")
    assert named in finished.err
    assert len(finished.err.splitlines()) == 1
    assert client.query_jobs() == []


def test_a_module_of_the_working_directory_takes_nobodys_place(jobkeep: JobkeepCommand) -> None:
    (jobkeep.directory / "msgspec.py").write_text("raise SystemExit('not me')")
    assert jobkeep("run", "job", "--", *APPEND, ":::", "a").status == 0
