"""`jobkeep watch`, and `jobkeep wait`, which watches too."""

from __future__ import annotations

import json
import signal
import subprocess

from jobkeep import CheckpointState, Client
from jobkeep_protocol.messages import ListClients
from tests.cli.commands import JobkeepCommand
from tests.daemon_process import DaemonProcess
from tests.support import scaled, wait_until

Jobs = Client[CheckpointState]


def next_line(process: subprocess.Popen[bytes]) -> str:
    """The next line that a command prints."""
    assert process.stdout is not None, "it is a pipe"
    return process.stdout.readline().decode()


def wait_until_watching(client: Jobs, count: int = 1) -> None:
    """Wait until so many connections wait for something new."""

    def watching() -> int:
        clients = client.call(ListClients())
        return sum((one.last_operation, one.in_flight) == ("watch", 1) for one in clients)

    wait_until(lambda: watching() == count)


def test_each_event_is_a_line_as_it_happens(jobkeep: JobkeepCommand, client: Jobs) -> None:
    watching = jobkeep.start("watch")
    wait_until_watching(client)
    client.save(CheckpointState(job_id="night\nly", total_sheets=2))
    client.record_execution("night\nly", 1, 1, exit_code=3, duration_seconds=1.5)
    client.mark_sheet_status("night\nly", 1, "failed", "it broke")
    client.delete("night\nly")

    lines = [next_line(watching).split("  ", 1)[1] for _ in range(4)]

    assert lines == [
        "night\\nly  pending (0/2)\n",
        "night\\nly  sheet 1, attempt 1 recorded: exit code 3, 1.5 s\n",
        "night\\nly  sheet 1 failed (0/2): it broke\n",
        "night\\nly  deleted\n",
    ]
    watching.send_signal(signal.SIGINT)
    assert jobkeep.end_of(watching) == (130, "", "jobkeep: interrupted\n")


def test_what_is_kept_can_be_read_as_json_up_to_a_time(
    jobkeep: JobkeepCommand, client: Jobs
) -> None:
    for job_id in ("a", "b", "a"):
        client.save(CheckpointState(job_id=job_id, total_sheets=2))

    finished = jobkeep("watch", "a", "--after", "0", "--for", "0s", "--json")
    one = jobkeep("watch", "a", "--after", "0", "--count", "1", "--json")

    assert (finished.status, finished.err) == (0, "")
    events = [json.loads(line) for line in finished.out.splitlines()]
    assert [(event["kind"], event["job_id"], event["revision"]) for event in events] == [
        ("job", "a", 1),
        ("job", "a", 2),
    ]
    assert (one.status, one.out) == (0, finished.out.splitlines(keepends=True)[0])


def test_job_that_is_not_there_is_watched_for(jobkeep: JobkeepCommand, client: Jobs) -> None:
    watching = jobkeep.start("watch", "later")
    wait_until_watching(client)
    client.save(CheckpointState(job_id="later", total_sheets=1))

    assert "later  pending (0/1)" in next_line(watching)
    watching.send_signal(signal.SIGINT)
    assert "there is no job later yet" in jobkeep.end_of(watching).err


def test_wait_and_watch_go_on_over_a_restart_of_the_daemon(
    jobkeep: JobkeepCommand, client: Jobs, daemon: DaemonProcess
) -> None:
    client.save(CheckpointState(job_id="job", total_sheets=1))
    waiting, watching = jobkeep.start("wait", "job"), jobkeep.start("watch", "--after", "0")
    next_line(watching)
    wait_until_watching(client, 2)
    daemon.kill()
    daemon.start()
    client.mark_sheet_status("job", 1, "completed")

    assert jobkeep.end_of(waiting) == (0, "", "jobkeep: job job is completed\n")
    assert "missed: what happened between event" in next_line(watching)
    assert "sheet 1 completed (1/1)" in next_line(watching)


def test_wait_for_a_job_that_is_deleted_meanwhile(jobkeep: JobkeepCommand, client: Jobs) -> None:
    client.save(CheckpointState(job_id="job", total_sheets=1))
    waiting = jobkeep.start("wait", "job")
    wait_until_watching(client)

    client.delete("job")

    assert jobkeep.end_of(waiting).status == 4


def test_wait_looks_at_the_job_only_when_it_may_have_ended(
    jobkeep: JobkeepCommand, client: Jobs
) -> None:
    client.save(CheckpointState(job_id="job", total_sheets=3))
    waiting = jobkeep.start("wait", "job")
    wait_until_watching(client)

    for number in (1, 2, 3):
        client.mark_sheet_status("job", number, "in_progress")
        client.record_execution("job", number, 1)
        client.mark_sheet_status("job", number, "completed")

    assert jobkeep.end_of(waiting).status == 0
    assert client.status().operations["load"].requests == 2


def test_wait_finds_an_end_that_nobody_has_kept(
    jobkeep: JobkeepCommand, client: Jobs, daemon: DaemonProcess
) -> None:
    """The daemon that was told of it is gone too when the wait goes on."""
    client.save(CheckpointState(job_id="job", total_sheets=1))
    waiting = jobkeep.start("wait", "job")
    wait_until_watching(client)

    waiting.send_signal(signal.SIGSTOP)
    daemon.restart()
    client.mark_sheet_status("job", 1, "completed")
    daemon.restart()
    waiting.send_signal(signal.SIGCONT)

    assert jobkeep.end_of(waiting) == (0, "", "jobkeep: job job is completed\n")


def test_wait_ends_at_its_timeout_although_the_daemon_is_gone(
    jobkeep: JobkeepCommand, client: Jobs, daemon: DaemonProcess
) -> None:
    client.save(CheckpointState(job_id="job", total_sheets=1))
    waiting = jobkeep.start("wait", "job", "--timeout", f"{scaled(1)}s")
    wait_until_watching(client)

    daemon.kill()

    wait_until(lambda: waiting.poll() is not None, 5)  # not after all the patience of a client
    finished = jobkeep.end_of(waiting)
    assert (finished.status, finished.out) == (124, "")
    assert "still pending" in finished.err
