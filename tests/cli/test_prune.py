"""`jobkeep prune`: asks, tells, and goes on where it was interrupted."""

from __future__ import annotations

import signal

import pytest

from jobkeep import CheckpointState, Client, JobStatus
from jobkeep.cli.prune import parse_size
from jobkeep_protocol.errors import InvalidRequest
from tests.cli.commands import JobkeepCommand
from tests.support import wait_until


@pytest.fixture
def worked(client: Client[CheckpointState]) -> None:
    """Two jobs that are done, with attempts."""
    for job_id in ("monday", "tuesday"):
        client.save(CheckpointState(job_id=job_id, total_sheets=1, status=JobStatus.COMPLETED))
        for attempt in (1, 2, 3):
            client.record_execution(job_id, 1, attempt, output="x" * 1024, exit_code=1)


@pytest.mark.usefixtures("worked")
def test_dry_run_lists_what_would_go_and_removes_nothing(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    finished = jobkeep("prune", "--keep-last", "1", "--dry-run")

    lines = [line.split() for line in finished.out.splitlines()]
    assert lines == [
        ["JOB", "JOB", "ITSELF", "ATTEMPTS", "FAILURES", "TEXTS"],
        ["monday", "-", "2", "2", "2.0", "KiB"],
        ["tuesday", "-", "2", "2", "2.0", "KiB"],
    ]
    assert finished.err == (
        "jobkeep: would be pruned: 4 attempts with 4.0 KiB of prompts and outputs, 4 failures\n"
    )
    assert client.get_execution_history_count("monday") == 3


@pytest.mark.usefixtures("worked")
def test_prune_tells_what_went(jobkeep: JobkeepCommand, client: Client[CheckpointState]) -> None:
    finished = jobkeep("prune", "--older-than", "0s", "--status", "completed", "--yes")

    said = "jobkeep: pruned: 2 jobs, 6 attempts with 6.0 KiB of prompts and outputs, 6 failures"
    assert (finished.status, finished.out) == (0, "")
    assert finished.err.startswith(said)
    assert client.query_jobs() == []


@pytest.mark.usefixtures("worked")
def test_prune_as_json_is_what_the_method_gives(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    expected = client.prune(max_bytes=0, dry_run=True)

    document = jobkeep("prune", "--max-bytes", "0", "--yes", "--json").document

    assert document.pop("freed_bytes") >= 0
    assert document.pop("listed") == [
        {"job_id": one.job_id, "whole": False, "attempts": 3, "failures": 0, "bytes": 3072}
        for one in expected.listed
    ]
    assert document == {"jobs": 0, "attempts": 6, "failures": 0, "bytes": 6144}


@pytest.mark.parametrize(("answer", "left"), [(b"y\n", 0), (b"n\n", 3), (b"\n", 3)])
@pytest.mark.usefixtures("worked")
def test_prune_asks(
    jobkeep: JobkeepCommand, client: Client[CheckpointState], answer: bytes, left: int
) -> None:
    ended, shown = jobkeep.on_terminal("prune", "--older-than", "0s", typed=answer)

    assert "Remove 6 attempts with 6.0 KiB of prompts and outputs, 6 failures? [y/N]" in shown
    assert ended == (1 if left else 0)
    assert client.get_execution_history_count("monday") == left


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--yes"], "nothing says what to prune"),
        (["--keep-last", "1"], "there is no terminal to ask on; give --yes to prune"),
        (["--older-than", "soon", "--yes"], "--older-than is 'soon'"),
        (["--max-bytes", "much", "--yes"], "--max-bytes is 'much'; expected a size such as 500M"),
    ],
)
def test_wrong_arguments_remove_nothing(
    jobkeep: JobkeepCommand, arguments: list[str], message: str
) -> None:
    finished = jobkeep("prune", *arguments)

    assert finished.status == 2
    assert message in finished.err


def test_interrupted_prune_says_how_far_it_came_and_goes_on_when_called_again(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    for number in range(3):
        job_id = f"job {number}"
        client.save(CheckpointState(job_id=job_id, total_sheets=1, status=JobStatus.COMPLETED))
        for attempt in range(60):
            client.record_execution(job_id, 1, attempt, output="line\n" * 20_000)
    started = jobkeep.start("prune", "--older-than", "0s", "--yes")
    wait_until(lambda: client.get_execution_history_count("job 0") < 60)

    started.send_signal(signal.SIGINT)
    interrupted = jobkeep.end_of(started)

    assert interrupted.status == 130
    assert "jobkeep: not finished: " in interrupted.err
    assert " removed so far; the rest is as it was" in interrupted.err
    assert jobkeep("prune", "--older-than", "0s", "--yes").status == 0
    assert [client.get_execution_history_count(f"job {number}") for number in range(3)] == [0] * 3


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1000", 1000), ("2k", 2048), ("500M", 500 * 1024**2), ("2 GiB", 2 * 1024**3)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size("--max-bytes", text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5G", "10X"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="expected a size such as 500M"):
        parse_size("--max-bytes", text)
