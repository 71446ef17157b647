"""What is read from a real daemon for the screen, and what is not read again."""

from __future__ import annotations

import os
import select
import subprocess
import sys

import pytest

from jobkeep import CheckpointState, Client, JobStatus
from jobkeep.cli.top.sample import Sample, Wanted
from jobkeep.cli.top.sampler import ATTEMPTS_READ, OUTPUT_TAIL, Reader, Sampler
from tests.support import PATIENCE, scaled

Kept = Client[CheckpointState]

WANTED = Wanted(visible=("job", "other"), opened="job")


@pytest.fixture
def job(client: Kept) -> CheckpointState:
    """A job that runs in this process, with a sheet that is worked on, beside another one."""
    client.save(CheckpointState(job_id="other", total_sheets=1))
    state = CheckpointState(job_id="job", total_sheets=3)
    state.set_running_pid()
    state.mark_sheet_started(2)
    client.save(state)
    return state


def requests(client: Kept, operation: str) -> int:
    """How often the daemon was asked for this."""
    figures = client.status().operations.get(operation)
    return 0 if figures is None else figures.requests


@pytest.mark.usefixtures("job")
def test_the_jobs_in_the_window_come_with_what_their_summaries_do_not_have(client: Kept) -> None:
    details = Reader(client).sample(Wanted(visible=("job", "gone"))).details

    assert set(details) == {"job"}
    one = details["job"]
    assert (one.pid, one.is_alive, one.in_progress) == (os.getpid(), True, (2,))


def test_a_process_that_is_gone_is_told(client: Kept) -> None:
    # That the job runs in a process without a number that is in use, the daemon is told by a client
    # of another program; the job is paused as soon as it looks.
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    state = CheckpointState(job_id="job", total_sheets=1, pid=ended.pid, status=JobStatus.PENDING)
    client.save(state)

    assert Reader(client).sample(Wanted(visible=("job",))).details["job"].is_alive is False


@pytest.mark.usefixtures("job")
def test_what_has_not_changed_is_not_read_again(client: Kept) -> None:
    client.record_execution("job", 2, 1, output="first")
    reader = Reader(client)
    first = reader.sample(WANTED)
    loads, reads = requests(client, "load"), requests(client, "get_execution_history")

    assert reader.sample(WANTED).opened == first.opened
    assert requests(client, "load") == loads
    assert requests(client, "get_execution_history") == reads

    client.mark_sheet_status("job", 2, "completed")
    client.record_execution("job", 2, 2, output="second")
    changed = reader.sample(WANTED)
    assert changed.details["job"].in_progress == ()
    assert changed.opened is not None
    assert [one["output"] for one in changed.opened.attempts] == ["second", "first"]
    assert requests(client, "load") == loads + 2
    assert requests(client, "get_execution_history") == reads + 2


@pytest.mark.usefixtures("job")
def test_the_newest_attempts_are_kept_and_of_each_output_its_end(client: Kept) -> None:
    for number in range(ATTEMPTS_READ + 5):
        client.record_execution("job", 1, number, output="x" * OUTPUT_TAIL + f"end {number}")
    opened = Reader(client).sample(WANTED).opened

    assert opened is not None
    assert opened.attempts_kept == ATTEMPTS_READ + 5
    assert [one["attempt_num"] for one in opened.attempts] == list(range(ATTEMPTS_READ + 4, 4, -1))
    output = opened.attempts[0]["output"]
    assert output is not None
    assert (len(output), output[-6:]) == (OUTPUT_TAIL, "end 14")


@pytest.mark.usefixtures("job")
def test_jobs_that_run_are_read_whatever_else_is_wanted(client: Kept) -> None:
    sample = Reader(client).sample(Wanted(statuses=("failed",), opened="never kept"))

    assert [one["id"] for one in sample.jobs] == ["job"]
    assert sample.opened is not None
    assert sample.opened.state is None


@pytest.mark.usefixtures("job")
def test_a_change_of_what_is_wanted_is_not_waited_for(client: Kept) -> None:
    with Sampler(client, interval=3600.0) as sampler:
        wait_for_sample(sampler)
        sampler.want(Wanted(clients=True))
        sample = wait_for_sample(sampler)

    assert isinstance(sample, Sample)
    assert os.getpid() in {one.pid for one in sample.clients or ()}


def test_a_fault_in_the_thread_is_raised_where_samples_are_collected(
    client: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(reader: Reader, wanted: Wanted) -> Sample:
        del reader, wanted
        raise RuntimeError("a fault")

    monkeypatch.setattr(Reader, "sample", fail)
    with Sampler(client, interval=0.1) as sampler, pytest.raises(RuntimeError, match="a fault"):
        wait_for_sample(sampler)


def wait_for_sample(sampler: Sampler) -> object:
    """The next thing that was taken."""
    ready, _, _ = select.select([sampler.ready], [], [], scaled(PATIENCE))
    assert ready, "nothing was taken"
    return sampler.collect()[-1]
