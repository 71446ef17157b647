"""The commands that look at jobs: what they print, and what their exit status says."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobkeep import CheckpointState, Client, JobStatus, SheetState, SheetStatus
from jobkeep.cli.app import COMMANDS
from tests.cli.commands import JOBKEEP, JobkeepCommand
from tests.support import wait_until

READING = ["clients", "jobs", "monitor", "patterns", "similar", "status"]
READING_ONE = ["history", "show", "stats", "wait"]


@pytest.fixture
def nightly(client: Client[CheckpointState]) -> CheckpointState:
    """A job with a bit of everything: one sheet done, one failed, one not begun."""
    state = CheckpointState(job_id="nightly", job_name="The nightly job", total_sheets=3)
    state.mark_sheet_started(1)
    state.mark_sheet_completed(1, execution_duration_seconds=1.5)
    state.mark_sheet_started(2)
    state.mark_sheet_failed(2, "no space left", exit_code=28)
    state.mark_job_failed("1 of 3 failed")
    client.save(state)
    client.record_execution("nightly", 1, 1, "cp a", "copied\n", 0, 1.5)
    client.record_execution("nightly", 2, 1, "cp b", "no space left\nreally\n", 28, 0.5)
    return state


# -- what they print --------------------------------------------------------------------------


@pytest.mark.usefixtures("nightly")
def test_status_says_where_everything_is(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    finished = jobkeep("status")
    status = client.status()
    assert (finished.status, finished.err) == (0, "")
    for shown in (status.database, status.socket, str(status.pid), "1 failed", "full"):
        assert shown in finished.out
    document = jobkeep("status", "--json").document
    assert document["database"] == status.database
    assert document["jobs"] == {"failed": 1}
    assert set(document) == set(type(status).__struct_fields__)


@pytest.mark.usefixtures("nightly")
def test_jobs_lists_the_last_updated_first(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    client.save(CheckpointState(job_id="later", total_sheets=7))
    finished = jobkeep("jobs")
    assert [line.split()[0] for line in finished.out.splitlines()] == ["JOB", "later", "nightly"]
    assert "1 of 3 failed" in finished.out
    assert jobkeep("jobs", "--json").document == client.query_jobs()


@pytest.mark.usefixtures("nightly")
def test_jobs_can_be_selected(jobkeep: JobkeepCommand, client: Client[CheckpointState]) -> None:
    client.save(CheckpointState(job_id="later", total_sheets=7))

    def ids(*options: str) -> list[str]:
        return [job["id"] for job in jobkeep("jobs", "--json", *options).document]

    assert ids("--status", "failed") == ["nightly"]
    assert ids("--limit", "1") == ["later"]
    assert ids("--since", "1h") == ["later", "nightly"]
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert ids("--since", tomorrow.isoformat()) == []


@pytest.mark.usefixtures("nightly")
def test_a_list_that_may_go_on_says_so_on_stderr(jobkeep: JobkeepCommand) -> None:
    finished = jobkeep("jobs", "--limit", "1")
    assert len(finished.out.splitlines()) == 2
    assert finished.err == "jobkeep: --limit 1 is reached; there may be more\n"


def test_nothing_is_an_empty_list(jobkeep: JobkeepCommand) -> None:
    assert jobkeep("jobs") == (0, "", "jobkeep: no job matches\n")
    assert jobkeep("jobs", "--json").document == []


@pytest.mark.usefixtures("nightly")
def test_show_is_about_what_needs_attention(jobkeep: JobkeepCommand) -> None:
    shown = jobkeep("show", "nightly").out
    assert "1 of 3 failed" in shown
    assert "3: 1 completed, 1 failed, 1 pending" in shown
    table = shown.split("\n\n")[1].splitlines()
    assert [line.split()[0] for line in table] == ["SHEET", "2"]
    assert "no space left" in table[1]


@pytest.mark.usefixtures("nightly")
def test_show_tells_for_how_long_a_sheet_is_worked_on(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    began = datetime.now(UTC) - timedelta(hours=2, minutes=5)
    working = SheetState(sheet_num=3, status=SheetStatus.IN_PROGRESS, started_at=began)
    client.save_sheet("nightly", working)

    *_, last = jobkeep("show", "nightly").out.splitlines()

    assert re.search(r" in_progress .* 2 h 5 min so far ", last)


@pytest.mark.usefixtures("nightly")
def test_show_as_json_is_the_whole_state(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    document = jobkeep("show", "nightly", "--json").document
    assert set(document) == set(CheckpointState.__struct_fields__)
    assert set(document["sheets"]["2"]) == set(SheetState.__struct_fields__)
    assert document["sheets"]["2"]["exit_code"] == 28
    kept = client.load("nightly")
    assert kept is not None
    assert datetime.fromisoformat(document["updated_at"]) == kept.updated_at


@pytest.mark.usefixtures("nightly")
def test_history_previews_and_shows_outputs_on_request(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    shown = jobkeep("history", "nightly").out.splitlines()
    assert [line.split()[0] for line in shown] == ["SHEET", "2", "1"]
    assert "no space left really" in shown[1]
    whole = jobkeep("history", "nightly", "--output").out
    assert "$ cp b\nno space left\nreally\n" in whole
    records = jobkeep("history", "nightly", "--json").document
    assert records == client.get_execution_history("nightly")


@pytest.mark.usefixtures("nightly")
def test_history_of_one_sheet(jobkeep: JobkeepCommand) -> None:
    records = jobkeep("history", "nightly", "--sheet", "1", "--json").document
    assert [record["sheet_num"] for record in records] == [1]
    assert jobkeep("history", "nightly", "--sheet", "3").status == 0


@pytest.mark.usefixtures("nightly")
def test_stats(jobkeep: JobkeepCommand, client: Client[CheckpointState]) -> None:
    assert jobkeep("stats", "nightly", "--json").document == client.get_job_statistics("nightly")
    assert "2, 1 with exit code 0" in jobkeep("stats", "nightly").out


def test_what_a_job_is_called_cannot_act_upon_the_terminal(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    job_id = "a\x1b[2J\nb/c 🎉"
    client.save(CheckpointState(job_id=job_id, total_sheets=1))
    assert "a\\x1b[2J\\nb/c 🎉" in jobkeep("jobs").out
    assert jobkeep("show", job_id, "--json").document["job_id"] == job_id


# -- backup -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("nightly")
def test_backup_writes_a_file_that_a_backend_opens(jobkeep: JobkeepCommand) -> None:
    finished = jobkeep("backup", "copy.db")

    copy = jobkeep.directory / "copy.db"
    assert (finished.status, finished.out) == (0, "")
    assert re.fullmatch(r"jobkeep: wrote \d+\.\d KiB to copy\.db\n", finished.err)
    with closing(sqlite3.connect(copy)) as opened:
        assert opened.execute("SELECT count(*) FROM jobs").fetchone() == (1,)


def test_backup_as_json(jobkeep: JobkeepCommand) -> None:
    document = jobkeep("backup", "copy.db", "--json").document
    assert document == {"file": "copy.db", "bytes": (jobkeep.directory / "copy.db").stat().st_size}


def test_backup_leaves_a_file_alone_that_is_there(jobkeep: JobkeepCommand) -> None:
    (jobkeep.directory / "copy.db").write_text("precious")

    finished = jobkeep("backup", "copy.db")

    assert (finished.status, finished.out) == (1, "")
    assert finished.err == "jobkeep: copy.db: there is a file of this name; give another one\n"
    assert (jobkeep.directory / "copy.db").read_text() == "precious"


# -- delete -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("nightly")
def test_delete_takes_the_job_away(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    finished = jobkeep("delete", "nightly", "--yes")
    assert finished == (0, "", "jobkeep: deleted job nightly with 3 sheets and 2 attempts\n")
    assert client.load("nightly") is None


@pytest.mark.usefixtures("nightly")
def test_delete_as_json(jobkeep: JobkeepCommand) -> None:
    document = jobkeep("delete", "nightly", "--yes", "--json").document
    assert document == {"job_id": "nightly", "deleted": True}


@pytest.mark.usefixtures("nightly")
def test_delete_without_a_terminal_needs_yes(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    finished = jobkeep("delete", "nightly")
    assert finished.status == 2
    assert "--yes" in finished.err
    assert client.load("nightly") is not None


# -- wait -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "expected"),
    [("completed", 0), ("failed", 1), ("cancelled", 1), ("paused", 1), ("paused_at_chain", 1)],
)
def test_the_exit_status_of_wait_is_the_outcome(
    jobkeep: JobkeepCommand, client: Client[CheckpointState], status: str, expected: int
) -> None:
    client.save(CheckpointState(job_id="job", total_sheets=1, status=JobStatus(status)))
    finished = jobkeep("wait", "job", "--json")
    assert finished.status == expected
    assert finished.document == {"job_id": "job", "status": status, "error_message": None}


def test_wait_waits_for_the_end(jobkeep: JobkeepCommand, client: Client[CheckpointState]) -> None:
    state = CheckpointState(job_id="job", total_sheets=1)
    client.save(state)
    waiting = jobkeep.start("wait", "job")
    wait_until(lambda: client.status().clients == 2)
    assert waiting.poll() is None
    client.mark_sheet_status("job", 1, "completed")
    assert jobkeep.end_of(waiting) == (0, "", "jobkeep: job job is completed\n")


def test_wait_gives_up(jobkeep: JobkeepCommand, client: Client[CheckpointState]) -> None:
    client.save(CheckpointState(job_id="job", total_sheets=1))
    finished = jobkeep("wait", "job", "--timeout", "50ms")
    assert finished.status == 124
    assert "still pending" in finished.err


def test_ctrl_c_ends_a_wait(jobkeep: JobkeepCommand, client: Client[CheckpointState]) -> None:
    client.save(CheckpointState(job_id="job", total_sheets=1))
    waiting = jobkeep.start("wait", "job")
    wait_until(lambda: client.status().clients == 2)
    waiting.send_signal(signal.SIGINT)
    assert jobkeep.end_of(waiting) == (130, "", "jobkeep: interrupted\n")


# -- what goes wrong --------------------------------------------------------------------------


def assert_one_line(err: str) -> None:
    assert err.startswith("jobkeep: ")
    assert len(err.splitlines()) == 1, err
    assert "Traceback" not in err


@pytest.mark.parametrize("name", [*READING_ONE, "delete"])
def test_an_unknown_job_is_4(jobkeep: JobkeepCommand, name: str) -> None:
    options = ["--yes"] if name == "delete" else []
    finished = jobkeep(name, "nobody", *options)
    assert (finished.status, finished.out) == (4, "")
    assert "'nobody'" in finished.err
    assert_one_line(finished.err)


@pytest.mark.parametrize("name", [*READING, *READING_ONE, "delete", "run"])
def test_no_daemon_is_3(tmp_path: Path, name: str) -> None:
    nowhere = tmp_path / "nowhere.sock"
    arguments = {
        "delete": ["job", "--yes"],
        "run": ["job", "--", "true", ":::", "a"],
        **{reading: [] for reading in READING},
        "similar": ["--code", "E1"],
    }.get(name, ["job"])
    finished = JobkeepCommand(nowhere, tmp_path)(name, *arguments)
    assert (finished.status, finished.out) == (3, "")
    assert f"jobkeepd --socket {nowhere}" in finished.err
    assert_one_line(finished.err)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "Missing command"),
        (["frobnicate"], "frobnicate"),
        (["jobs", "--frobnicate"], "--frobnicate"),
        (["jobs", "--limit", "many"], "many"),
        (["jobs", "--limit", "0"], "0 is not in the range x>=1"),
        (["jobs", "--status", "asleep"], "paused_at_chain"),
        (["jobs", "--since", "soon"], "--since is 'soon'"),
        (["show"], "JOB"),
        (["show", ""], "job_id is ''"),
        (["show", "x" * 513], "1 to 512 bytes"),
        (["history", "job", "--sheet", "0"], "sheet_num is 0"),
        (["wait", "job", "--timeout", "soon"], "--timeout is 'soon'"),
    ],
)
def test_wrong_arguments_are_2(jobkeep: JobkeepCommand, arguments: list[str], named: str) -> None:
    finished = jobkeep(*arguments)
    assert (finished.status, finished.out) == (2, "")
    assert named in finished.err
    assert_one_line(finished.err)


def test_a_reader_that_leaves_is_no_error(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    client.save(CheckpointState(job_id="job", total_sheets=1))
    client.record_execution("job", 1, 1, output="x" * 1_000_000)
    process = jobkeep.start("history", "job", "--output")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate()
    assert (process.returncode, err) == (128 + signal.SIGPIPE, b"")


@pytest.mark.usefixtures("nightly")
def test_an_output_that_cannot_be_written_is_1(jobkeep: JobkeepCommand) -> None:
    with Path("/dev/full").open("wb") as full:
        process = subprocess.run(
            [sys.executable, "-m", "jobkeep.cli", "--socket", str(jobkeep.socket), "jobs"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert process.returncode == 1
    assert_one_line(process.stderr.decode())


@pytest.mark.usefixtures("nightly")
def test_what_is_said_follows_what_was_printed_where_both_go_to_one_file(
    jobkeep: JobkeepCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    line = [*JOBKEEP, "--socket", str(jobkeep.socket), "jobs", "--limit", "1"]
    finished = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True)
    assert finished.stdout.decode().splitlines()[2:] == [
        "jobkeep: --limit 1 is reached; there may be more"
    ]


@pytest.mark.usefixtures("nightly")
def test_an_output_that_cannot_be_written_is_1_beside_what_is_said(jobkeep: JobkeepCommand) -> None:
    with Path("/dev/full").open("wb") as full:
        line = [*JOBKEEP, "--socket", str(jobkeep.socket), "jobs", "--limit", "1"]
        finished = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, check=False)
    assert finished.returncode == 1
    assert_one_line(finished.stderr.decode().splitlines(keepends=True)[-1])


# -- what is odd in a job ---------------------------------------------------------------------


def test_show_counts_a_sheet_beyond_the_total_and_no_missing_one_less(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    beyond = SheetState(sheet_num=7, status=SheetStatus.COMPLETED)
    failed = SheetState(sheet_num=1, status=SheetStatus.FAILED)
    client.save(CheckpointState(job_id="odd", total_sheets=1, sheets={7: beyond, 1: failed}))
    shown = jobkeep("show", "odd").out
    assert "1: 1 failed, 1 completed" in " ".join(shown.split())
    assert "-1" not in shown


# -- the whole --------------------------------------------------------------------------------


def test_the_socket_may_be_an_option(jobkeep: JobkeepCommand, tmp_path: Path) -> None:
    other = JobkeepCommand(tmp_path / "nowhere.sock", tmp_path)
    for form in (str(jobkeep.socket), f"unix://{jobkeep.socket}"):
        assert other("--socket", form, "status").status == 0


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help(jobkeep: JobkeepCommand, name: str) -> None:
    assert COMMANDS[name] in jobkeep("--help").out
    finished = jobkeep(name, "--help")
    assert finished.status == 0
    assert finished.out.startswith(f"Usage: jobkeep {name} ")
    assert "--json" in finished.out


def test_version(jobkeep: JobkeepCommand) -> None:
    from jobkeep import __version__

    assert jobkeep("--version") == (0, f"jobkeep {__version__}\n", "")


def test_a_missing_click_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise ImportError('no click here')")
    program = "import sys; sys.path.insert(0, sys.argv.pop()); from jobkeep.cli import main; main()"
    process = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, check=False
    )
    assert process.returncode == 1
    assert b"pip install 'jobkeep[cli]'" in process.stderr
    assert_one_line(process.stderr.decode())
