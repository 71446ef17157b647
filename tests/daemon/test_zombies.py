"""Jobs and sheets of dead processes: real processes, really killed."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from jobkeep_protocol.backend import JobSummary
from jobkeep_protocol.messages import (
    ClaimNextSheet,
    Delete,
    ListJobs,
    MarkSheetStatus,
    QueryJobs,
)
from jobkeep_protocol.states import CheckpointState, JobStatus, SheetStatus
from tests.daemon.workers import sleeper, worker
from tests.daemon_process import DaemonProcess
from tests.support import wait_until
from tests.wire import Wire

RUN = "wire.save(job(job_id='job', total_sheets=3, status='running', pid=os.getpid()))"
CREATE = "wire.save(job(job_id='job', total_sheets=3))"
CLAIM = "assert wire.ask(m.ClaimNextSheet('job'))"
NEW_PID_NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child")
needs_pid_namespaces = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root makes pid namespaces"
)


def summary(wire: Wire, job_id: str = "job") -> JobSummary:
    """What `query_jobs` says of a job, without loading it."""
    found = [one for one in wire.ask(QueryJobs()).jobs if one["id"] == job_id]
    return found[0]


def running(pid: int, job_id: str = "job") -> CheckpointState:
    """A job that says that this process runs it."""
    return CheckpointState(job_id=job_id, total_sheets=3, status=JobStatus.RUNNING, pid=pid)


# -- jobs ---------------------------------------------------------------------------------------


def test_job_of_a_killed_process_is_paused_without_anyone_loading_it(
    daemon: DaemonProcess,
) -> None:
    with Wire(daemon.socket) as wire, worker(daemon.socket, RUN) as process:
        assert summary(wire)["status"] == "running"

        process.kill()

        wait_until(lambda: summary(wire)["status"] == "paused")
        message = summary(wire)["error_message"]
        assert message is not None
        assert f"process {process.pid} is gone" in message
        state, _ = wire.load()
        assert (state.pid, state.completed_at) == (None, None)


def test_load_never_gives_a_zombie(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket) as wire, worker(daemon.socket, RUN) as process:
        process.kill()
        state, _ = wire.load()
        assert state.status is JobStatus.PAUSED


def test_process_that_is_dead_but_not_waited_for_is_dead(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket) as wire, sleeper() as process:
        wire.save(running(process.pid))
        process.kill()  # and not wait(): the process table still has it
        wait_until(lambda: summary(wire)["status"] == "paused")


def test_job_saved_with_the_pid_of_nobody_is_paused(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket) as wire:
        wire.save(running(2**22 + 1))  # above the largest pid_max of Linux
        state, _ = wire.load()
        assert state.status is JobStatus.PAUSED


@pytest.mark.parametrize("pid", [0, -1, -(2**40)])
def test_job_with_a_number_that_is_no_pid_is_left_alone(daemon: DaemonProcess, pid: int) -> None:
    with Wire(daemon.socket) as wire:
        wire.save(running(pid))
        state, _ = wire.load()
        assert (state.status, state.pid) == (JobStatus.RUNNING, pid)


def test_job_of_a_living_process_is_left_alone(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket) as wire, sleeper() as process:
        wire.save(running(process.pid))
        wire.save(running(os.getpid(), "ours"))
        daemon.restart()
    with Wire(daemon.socket) as wire:
        state, _ = wire.load("ours")
        assert (state.status, state.pid) == (JobStatus.RUNNING, os.getpid())


def test_error_message_that_is_there_is_kept(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket) as wire, sleeper() as process:
        state = running(process.pid)
        state.error_message = "the real cause"
        wire.save(state)
        process.kill()
        wait_until(lambda: summary(wire)["status"] == "paused")
        assert summary(wire)["error_message"] == "the real cause"


@pytest.mark.parametrize("status", [one for one in JobStatus if one is not JobStatus.RUNNING])
def test_job_that_is_not_running_is_left_alone(daemon: DaemonProcess, status: JobStatus) -> None:
    with Wire(daemon.socket) as wire, sleeper() as process:
        wire.save(running(process.pid))
        wire.save(running(process.pid, "witness"))
        state = running(process.pid)
        state.status = status
        wire.save(state)

        process.kill()

        wait_until(lambda: summary(wire, "witness")["status"] == "paused")
        kept, _ = wire.load()
        assert (kept.status, kept.pid) == (status, process.pid)
        assert kept.revision == 2


def test_all_jobs_of_a_process_are_paused_and_those_of_others_are_not(
    daemon: DaemonProcess,
) -> None:
    with Wire(daemon.socket) as wire, sleeper() as one, sleeper() as other:
        for number in range(5):
            wire.save(running(one.pid, f"one {number}"))
            wire.save(running(other.pid, f"other {number}"))

        one.kill()

        wait_until(lambda: len(wire.ask(QueryJobs(JobStatus.PAUSED)).jobs) == 5)
        left = wire.ask(QueryJobs(JobStatus.RUNNING)).jobs
        assert sorted(job["id"] for job in left) == [f"other {number}" for number in range(5)]


def test_job_taken_over_by_another_process_outlives_the_first(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket) as wire, sleeper() as first, sleeper() as second:
        wire.save(running(first.pid))
        wire.save(running(first.pid, "witness"))
        wire.save(running(second.pid))

        first.kill()

        wait_until(lambda: summary(wire, "witness")["status"] == "paused")
        assert summary(wire)["status"] == "running"


# -- claims -------------------------------------------------------------------------------------


def test_sheet_of_a_killed_worker_is_pending_again_and_can_be_claimed(
    daemon: DaemonProcess,
) -> None:
    with Wire(daemon.socket) as wire:
        wire.save(CheckpointState(job_id="job", total_sheets=2))
        with worker(daemon.socket, CLAIM) as process:
            assert wire.ask(ClaimNextSheet("job")) == 2
            assert wire.ask(ClaimNextSheet("job")) is None

            process.kill()

            wait_until(lambda: wire.load()[1][1].status is SheetStatus.PENDING)
        state, sheets = wire.load()
        assert sheets[2].status is SheetStatus.IN_PROGRESS
        assert (state.status, sheets[1].attempt_count) == (JobStatus.RUNNING, 1)
        assert wire.ask(ClaimNextSheet("job")) == 1
        assert wire.load()[1][1].attempt_count == 2


def test_job_without_a_process_is_paused_with_the_last_claim_of_the_dead(
    daemon: DaemonProcess,
) -> None:
    with Wire(daemon.socket) as wire:
        wire.save(CheckpointState(job_id="job", total_sheets=3))
        with worker(daemon.socket, CLAIM) as first, worker(daemon.socket, CLAIM) as second:
            first.kill()
            wait_until(lambda: wire.load()[1][1].status is SheetStatus.PENDING)
            assert summary(wire)["status"] == "running"

            second.kill()
            wait_until(lambda: summary(wire)["status"] == "paused")

        state, sheets = wire.load()
        assert [sheet.status for sheet in sheets.values()] == ["pending", "pending"]
        assert state.current_sheet is None
        assert state.error_message is not None
        assert f"process {second.pid} was the last that worked on it" in state.error_message


def test_job_without_a_process_is_paused_when_its_worker_dies_between_two_sheets(
    daemon: DaemonProcess,
) -> None:
    with Wire(daemon.socket) as wire:
        wire.save(CheckpointState(job_id="job", total_sheets=3))
        finish = f"{CLAIM}; wire.ask(m.MarkSheetStatus('job', 1, 'completed'))"
        with worker(daemon.socket, finish) as process:
            assert summary(wire)["status"] == "running"

            process.kill()

            wait_until(lambda: summary(wire)["status"] == "paused")
        assert wire.load()[1][1].status is SheetStatus.COMPLETED


def test_sheet_that_was_finished_before_the_death_stays_finished(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket) as wire:
        wire.save(CheckpointState(job_id="job", total_sheets=3))
        finish = f"{CLAIM}; wire.ask(m.MarkSheetStatus('job', 1, 'completed')); {CLAIM}"
        with worker(daemon.socket, finish) as process:
            process.kill()
            wait_until(lambda: wire.load()[1][2].status is SheetStatus.PENDING)
        assert wire.load()[1][1].status is SheetStatus.COMPLETED


def test_sheet_that_was_marked_by_another_stays_as_it_was_marked(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket) as wire:
        wire.save(CheckpointState(job_id="job", total_sheets=3))
        with worker(daemon.socket, f"{CLAIM}; {CLAIM}") as process:
            wire.ask(MarkSheetStatus("job", 1, SheetStatus.WAITING))
            process.kill()
            wait_until(lambda: wire.load()[1][2].status is SheetStatus.PENDING)
        assert wire.load()[1][1].status is SheetStatus.WAITING


def test_claim_in_a_deleted_job_is_no_claim_in_its_successor(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket) as wire:
        wire.save(CheckpointState(job_id="witness", total_sheets=3))
        wire.save(CheckpointState(job_id="job", total_sheets=3))
        claim_both = f"{CLAIM}; assert wire.ask(m.ClaimNextSheet('witness'))"
        with worker(daemon.socket, claim_both) as process:
            state, sheets = wire.load()
            wire.ask(Delete("job"))
            state.sheets = sheets
            wire.save(state)
            process.kill()
            wait_until(lambda: summary(wire, "witness")["status"] == "paused")
        assert wire.load()[1][1].status is SheetStatus.IN_PROGRESS


# -- over restarts ------------------------------------------------------------------------------


def test_deaths_while_no_daemon_ran_are_found_before_the_first_answer(
    daemon: DaemonProcess,
) -> None:
    with worker(daemon.socket, f"{CREATE}; {CLAIM}") as claimer, sleeper() as runner:
        with Wire(daemon.socket) as wire:
            wire.save(running(runner.pid, "running"))
        daemon.kill()
        claimer.kill()
        runner.kill()
        runner.wait()

    daemon.start()

    with Wire(daemon.socket) as wire:
        assert summary(wire, "running")["status"] == "paused"
        assert summary(wire)["status"] == "paused"
        assert wire.load()[1][1].status is SheetStatus.PENDING


def test_deaths_after_a_restart_are_noticed_too(daemon: DaemonProcess) -> None:
    with worker(daemon.socket, f"{CREATE}; {CLAIM}") as process:
        daemon.restart()
        with Wire(daemon.socket) as wire:
            assert summary(wire)["status"] == "running"
            process.kill()
            wait_until(lambda: summary(wire)["status"] == "paused")


@pytest.mark.parametrize(
    "change", ["process_start = process_start - 1", "boot_id = 'another boot'"]
)
def test_another_process_with_the_same_pid_is_found_out(daemon: DaemonProcess, change: str) -> None:
    with sleeper() as process:
        with Wire(daemon.socket) as wire:
            wire.save(running(process.pid))
            wire.save(running(process.pid, "same process"))
        daemon.stop()
        _change(daemon.database, f"UPDATE jobs SET {change} WHERE id = 'job'")  # noqa: S608

        daemon.start()

        with Wire(daemon.socket) as wire:
            assert summary(wire)["status"] == "paused"
            assert summary(wire, "same process")["status"] == "running"


def test_claim_of_an_earlier_boot_is_given_back(daemon: DaemonProcess) -> None:
    with Wire(daemon.socket) as wire:
        wire.save(CheckpointState(job_id="job", total_sheets=3))
        assert wire.ask(ClaimNextSheet("job")) == 1
    daemon.stop()
    _change(daemon.database, "UPDATE claims SET boot_id = 'another boot'")

    daemon.start()

    with Wire(daemon.socket) as wire:
        assert wire.load()[1][1].status is SheetStatus.PENDING


def _change(database: Path, statement: str) -> None:
    connection = sqlite3.connect(database)
    with connection:
        assert connection.execute(statement).rowcount == 1
    connection.close()


# -- other pid namespaces -----------------------------------------------------------------------


@needs_pid_namespaces
def test_pid_of_another_namespace_is_never_declared_dead(daemon: DaemonProcess) -> None:
    dead_here = RUN.replace("os.getpid()", str(2**22 + 1))
    with worker(daemon.socket, dead_here, *NEW_PID_NAMESPACE) as process:
        process.kill()
        with Wire(daemon.socket) as wire:
            assert wire.load()[0].status is JobStatus.RUNNING
    daemon.restart()
    with Wire(daemon.socket) as wire:
        assert wire.load()[0].status is JobStatus.RUNNING
        assert summary(wire)["error_message"] is None


@needs_pid_namespaces
def test_claim_from_a_namespace_below_ours_is_given_back(daemon: DaemonProcess) -> None:
    with (
        Wire(daemon.socket) as wire,
        worker(daemon.socket, f"{CREATE}; {CLAIM}", *NEW_PID_NAMESPACE) as process,
    ):
        assert wire.load()[1][1].status is SheetStatus.IN_PROGRESS
        process.kill()  # unshare takes its child along
        wait_until(lambda: wire.load()[1][1].status is SheetStatus.PENDING)


@needs_pid_namespaces
def test_daemon_in_a_namespace_leaves_alone_whom_it_cannot_see(
    daemon_process: DaemonProcess,
) -> None:
    daemon_process.wrapper = [*NEW_PID_NAMESPACE, "--mount-proc"]
    daemon_process.start("--unseen-peers", "allow")
    with worker(daemon_process.socket, f"{RUN}; {CLAIM}") as process:
        process.kill()
        with Wire(daemon_process.socket) as wire:
            state, sheets = wire.load()
            assert (state.status, sheets[1].status) == ("running", "in_progress")
            assert len(wire.ask(ListJobs()).states) == 1


def test_pid_that_was_saved_before_the_job_ran_is_watched_when_it_does(
    daemon: DaemonProcess,
) -> None:
    with Wire(daemon.socket) as wire, sleeper() as process:
        wire.save(CheckpointState(job_id="job", total_sheets=3, pid=process.pid))
        wire.ask(MarkSheetStatus("job", 1, SheetStatus.IN_PROGRESS))

        process.kill()

        wait_until(lambda: summary(wire)["status"] == "paused")


def test_pid_of_who_ran_a_job_before_does_not_hide_the_death_of_its_worker(
    daemon: DaemonProcess,
) -> None:
    with Wire(daemon.socket) as wire, sleeper() as former:
        state = running(former.pid)
        state.status = JobStatus.PAUSED
        wire.save(state)
        with worker(daemon.socket, CLAIM) as process:
            assert wire.load()[0].pid is None

            process.kill()

            wait_until(lambda: summary(wire)["status"] == "paused")
