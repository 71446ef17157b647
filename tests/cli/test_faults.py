"""`jobkeep run` when processes die: nothing is lost, nothing is done twice, all can be resumed."""

from __future__ import annotations

import signal
import subprocess

import psutil
import pytest

from jobkeep import CheckpointState, Client, JobStatus, SheetStatus
from tests.cli.commands import JobkeepCommand, wait_for_lines, workers_of
from tests.daemon_process import DaemonProcess
from tests.support import PATIENCE, scaled, wait_until

GATED = [
    "sh",
    "-c",
    'echo "$0" >> begun; until [ -e open ]; do sleep 0.01; done; echo "$0" >> ended',
]
"""Notes the item, waits until the file `open` is there, and notes it again."""

ITEMS = ["a", "b", "c", "d", "e", "f"]

LINE = ("run", "job", "-j", "2", "--", *GATED, ":::", *ITEMS)


def begin(jobkeep: JobkeepCommand, *line: str) -> subprocess.Popen[bytes]:
    """A run whose two workers have begun their first items, and wait."""
    runner = jobkeep.start(*(line or LINE))
    wait_for_lines(jobkeep.directory / "begun", 2)
    return runner


def open_gate(jobkeep: JobkeepCommand) -> None:
    (jobkeep.directory / "open").touch()


def ended(jobkeep: JobkeepCommand) -> list[str]:
    return sorted((jobkeep.directory / "ended").read_text().split())


def load(client: Client[CheckpointState]) -> CheckpointState:
    state = client.load("job")
    assert state is not None
    return state


def processes_of(runner: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """All that a run has started."""
    return psutil.Process(runner.pid).children(recursive=True)


def wait_for_deaths(processes: list[psutil.Process]) -> None:
    wait_until(lambda: not any(is_alive(one) for one in processes))


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


# -- stopping ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_pauses_the_job_and_the_same_line_finishes_it(
    jobkeep: JobkeepCommand, client: Client[CheckpointState], signum: int, status: int
) -> None:
    runner = begin(jobkeep)
    processes = processes_of(runner)
    runner.send_signal(signum)
    finished = jobkeep.end_of(runner)
    assert finished.status == status
    assert "paused with 6 of 6 items to do; the same command line goes on" in finished.err
    wait_for_deaths(processes)
    state = load(client)
    assert (state.status, state.pid, state.current_sheet) == (JobStatus.PAUSED, None, None)
    assert {sheet.status for sheet in state.sheets.values()} == {SheetStatus.PENDING}
    stopped = client.get_execution_history("job")
    assert len(stopped) == 2
    assert all("stopped before its end" in str(record["output"]) for record in stopped)

    open_gate(jobkeep)
    assert jobkeep(*LINE).status == 0
    assert ended(jobkeep) == ITEMS
    assert load(client).status is JobStatus.COMPLETED


def test_what_was_finished_before_the_signal_stays_finished(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    script = 'echo "$0" >> begun; [ "$0" = a ] || until [ -e open ]; do sleep 0.01; done'
    line = ("run", "job", "-j", "1", "--", "sh", "-c", script, ":::", "a", "b")
    runner = begin(jobkeep, *line)
    runner.send_signal(signal.SIGINT)
    assert "1 of 2 items to do" in jobkeep.end_of(runner).err
    open_gate(jobkeep)
    assert jobkeep(*line).status == 0
    assert (jobkeep.directory / "begun").read_text().split() == ["a", "b", "b"]
    records = client.get_execution_history("job", 2)
    assert [record["attempt_num"] for record in records] == [2, 1]


def test_a_second_signal_kills_what_does_not_stop(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    script = 'trap "echo stubborn >> asked" TERM; echo >> begun; while :; do sleep 0.01; done'
    runner = begin(jobkeep, "run", "job", "-j", "2", "--", "sh", "-c", script, ":::", "a", "b")
    processes = processes_of(runner)
    runner.send_signal(signal.SIGINT)
    wait_for_lines(jobkeep.directory / "asked", 2)
    runner.send_signal(signal.SIGINT)
    finished = jobkeep.end_of(runner)
    assert finished.status == 130
    assert "killing what still runs" in finished.err
    wait_for_deaths(processes)
    state = load(client)
    assert state.status is JobStatus.PAUSED
    assert {sheet.status for sheet in state.sheets.values()} == {SheetStatus.PENDING}


# -- workers that die -------------------------------------------------------------------------


def test_the_sheet_of_a_killed_worker_is_done_by_another(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    runner = begin(jobkeep)
    victim = workers_of(runner)[0]
    left_behind = victim.children()
    victim.kill()
    wait_for_deaths(left_behind)
    wait_for_lines(jobkeep.directory / "begun", 3)
    open_gate(jobkeep)
    finished = jobkeep.end_of(runner)
    assert finished.status == 0, finished.err
    assert f"worker {victim.pid} was killed by SIGKILL with sheet " in finished.err
    assert ended(jobkeep) == ITEMS
    state = load(client)
    assert state.status is JobStatus.COMPLETED
    (lost,) = [sheet for sheet in state.sheets.values() if sheet.attempt_count == 2]
    last, first = client.get_execution_history("job", lost.sheet_num)
    assert (first["attempt_num"], first["exit_code"]) == (1, None)
    assert f"worker {victim.pid} was killed by SIGKILL" in str(first["output"])
    assert (last["attempt_num"], last["exit_code"]) == (2, 0)


def test_an_item_that_kills_its_worker_every_time_is_failed(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    script = '[ "$0" != b ] || kill -9 $PPID'
    finished = jobkeep("run", "job", "--json", "--", "sh", "-c", script, ":::", "a", "b", "c")
    assert finished.status == 1
    assert finished.document["workers_lost"] == 3
    (failed,) = finished.document["failed_items"]
    assert failed["item"] == "b"
    assert failed["error_message"].startswith("3 workers died with this item")
    assert load(client).sheets[3].status is SheetStatus.COMPLETED
    assert client.get_execution_history_count("job", 2) == 3


# -- a runner that dies -----------------------------------------------------------------------


def test_a_killed_runner_leaves_nothing_behind_and_the_same_line_finishes_the_job(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    runner = begin(jobkeep)
    processes = processes_of(runner)
    runner.kill()
    wait_for_deaths(processes)
    wait_until(lambda: client.query_jobs()[0]["status"] == "paused")
    wait_until(
        lambda: {one.status for one in load(client).sheets.values()} == {SheetStatus.PENDING}
    )
    open_gate(jobkeep)
    assert jobkeep(*LINE).status == 0
    assert ended(jobkeep) == ITEMS


def test_the_next_run_waits_for_the_workers_of_a_killed_runner(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    waiting = "until [ -e open ]; do sleep 0.01; done"
    script = f'echo >> begun; trap "echo >> asked; {waiting}; exit" TERM; {waiting}; echo >> ended'
    line = ("run", "job", "-j", "2", "--", "sh", "-c", script, ":::", "a", "b")
    runner = begin(jobkeep, *line)
    runner.kill()
    runner.wait()
    wait_for_lines(jobkeep.directory / "asked", 2)
    following = jobkeep.start(*line)
    wait_until(lambda: client.status().clients == 4)  # ours, its, and two old workers'
    assert load(client).status is JobStatus.PAUSED
    open_gate(jobkeep)
    assert jobkeep.end_of(following).status == 0
    assert len(wait_for_lines(jobkeep.directory / "begun", 4)) == 4
    assert len(wait_for_lines(jobkeep.directory / "ended", 2)) == 2


# -- the daemon, and other people ---------------------------------------------------------------


def test_a_run_outlives_a_restart_of_the_daemon(
    jobkeep: JobkeepCommand, daemon: DaemonProcess, client: Client[CheckpointState]
) -> None:
    runner = begin(jobkeep)
    daemon.restart()
    open_gate(jobkeep)
    finished = jobkeep.end_of(runner)
    assert finished.status == 0, finished.err
    assert ended(jobkeep) == ITEMS
    assert load(client).status is JobStatus.COMPLETED
    assert client.get_execution_history_count("job") == len(ITEMS)


def test_a_job_that_is_deleted_meanwhile_ends_its_run(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    runner = begin(jobkeep)
    client.delete("job")
    open_gate(jobkeep)
    finished = jobkeep.end_of(runner)
    assert finished.status == 4
    assert finished.err.splitlines()[-1].startswith("jobkeep: No state found for job 'job'")
    assert client.load("job") is None


def test_a_job_that_is_cancelled_meanwhile_stays_so(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    runner = begin(jobkeep)
    state = load(client)
    state.mark_job_cancelled()
    client.save(state, if_revision=state.revision)
    open_gate(jobkeep)
    finished = jobkeep.end_of(runner)
    assert finished.status == 1
    assert "job job was set to cancelled by another program, with 4 of 6 items" in finished.err
    assert load(client).status is JobStatus.CANCELLED
    assert ended(jobkeep) == ["a", "b"]


def test_a_sheet_that_no_run_has_made_ends_the_run(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    runner = begin(jobkeep)
    state = load(client)
    state.total_sheets += 1
    client.save(state, if_revision=state.revision)
    open_gate(jobkeep)
    finished = jobkeep.end_of(runner)
    assert finished.status == 1
    assert "another program has changed job 'job': sheet 7 has no item" in finished.err
    assert load(client).status is JobStatus.PAUSED
    assert jobkeep(*LINE).status == 0


def test_a_sheet_that_is_taken_away_ends_the_run(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    runner = begin(jobkeep)
    state = load(client)
    del state.sheets[6]
    state.total_sheets = 5
    client.save(state, if_revision=state.revision)
    open_gate(jobkeep)
    finished = jobkeep.end_of(runner)
    assert finished.status == 1
    assert "another program has changed job 'job': sheet 6 is gone" in finished.err


def test_nobody_needs_to_read_what_a_run_says(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    script = 'echo "$0" >> begun; until [ -e open ]; do sleep 0.01; done; exit 1'
    runner = begin(jobkeep, "run", "job", "-j", "2", "--", "sh", "-c", script, ":::", *ITEMS)
    assert runner.stderr is not None
    runner.stderr.close()
    open_gate(jobkeep)
    assert runner.wait(scaled(PATIENCE)) == 1
    assert load(client).error_message == "6 of 6 items failed"


def test_without_a_daemon_a_third_signal_ends_the_runner_and_the_job_can_be_resumed(
    jobkeep: JobkeepCommand, daemon: DaemonProcess, client: Client[CheckpointState]
) -> None:
    runner = begin(jobkeep)
    processes = processes_of(runner)
    commands = [command for worker in workers_of(runner) for command in worker.children()]
    daemon.kill()
    runner.send_signal(signal.SIGINT)
    wait_for_deaths(commands)
    runner.send_signal(signal.SIGINT)
    wait_for_deaths(processes)
    runner.send_signal(signal.SIGINT)
    assert runner.wait(scaled(PATIENCE)) == 130
    daemon.start()
    assert load(client).status is JobStatus.PAUSED
    open_gate(jobkeep)
    assert jobkeep(*LINE).status == 0
    assert ended(jobkeep) == ITEMS
