"""The commands for reports: what they print, how they are filtered, and when they are refused."""

from __future__ import annotations

import pytest

from jobkeep import CheckpointState, Client, SheetState, SheetStatus
from tests.cli.commands import JobkeepCommand

COMMANDS = ["overview", "durations", "errors", "validations", "outcomes", "timeline"]


@pytest.fixture
def jobs(client: Client[CheckpointState]) -> None:
    """Two jobs of which one did well, each with an attempt at its first sheet."""
    for job_id, exit_code, seconds in (("good", 0, 1.5), ("bad", 28, 40.0)):
        state = CheckpointState(job_id=job_id, job_name=f"the {job_id} one", total_sheets=2)
        client.save(state)
        client.record_execution(job_id, 1, 1, "cp", "x", exit_code, seconds)
        failed = exit_code != 0
        sheet = SheetState(
            sheet_num=1,
            status=SheetStatus.FAILED if failed else SheetStatus.COMPLETED,
            attempt_count=1,
            error_message="no space\nleft" if failed else None,
            error_category="disk" if failed else None,
            passed_validations=["fits"] if not failed else [],
            failed_validations=["fits"] if failed else [],
            outcome_category="clean" if not failed else "broken",
            success_without_retry=not failed,
            estimated_cost=0.25,
        )
        client.save_sheet(job_id, sheet)


@pytest.mark.usefixtures("jobs")
@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("overview", ["2 pending", "1 completed, 1 failed, 0 skipped", "50.0 %", "0.50"]),
        ("durations", ["P95", "42 s", "bad", "LONGEST", "40 s"]),
        ("errors", ["disk", "28", "bad 1", "no space left"]),
        ("validations", ["50.0 %", "fits"]),
        ("outcomes", ["clean", "broken"]),
        ("timeline", ["UTC", "x", "="]),
    ],
)
def test_report_is_for_people(jobkeep: JobkeepCommand, command: str, shown: list[str]) -> None:
    finished = jobkeep(command)
    assert (finished.status, finished.err) == (0, "")
    for text in shown:
        assert text in finished.out


@pytest.mark.usefixtures("jobs")
def test_report_has_one_document_with_the_keys_of_the_method(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    for command in COMMANDS:
        document = jobkeep(command, "--json").document
        report = getattr(client, f"get_{command}")()
        assert list(document) == list(report.__struct_fields__)
    (group,) = jobkeep("errors", "--json").document["groups"]
    assert group["example"]["error_message"] == "no space\nleft"


@pytest.mark.usefixtures("jobs")
def test_report_is_about_what_was_asked_for(jobkeep: JobkeepCommand) -> None:
    def executions(*options: str) -> int:
        found: int = jobkeep("overview", "--json", *options).document["executions"]
        return found

    assert executions() == 2
    assert executions("--job", "good") == 1
    assert executions("--name", "the b*") == 1
    assert executions("--name", "the B*") == 0
    assert executions("--since", "1h") == 2
    assert executions("--until", "1h ago") == 0
    assert len(jobkeep("durations", "--limit", "1", "--json").document["jobs"]) == 1


@pytest.mark.usefixtures("jobs")
@pytest.mark.parametrize("command", COMMANDS)
def test_report_on_a_job_that_there_is_not_is_not_found(
    jobkeep: JobkeepCommand, command: str
) -> None:
    finished = jobkeep(command, "--job", "nobody")
    assert finished.status == 4
    assert "nobody" in finished.err


def test_report_on_nothing_says_so(jobkeep: JobkeepCommand) -> None:
    for command in COMMANDS[1:]:
        finished = jobkeep(command)
        assert (finished.status, finished.out) == (0, "")
        assert "nothing matches" in finished.err
    assert "none" in jobkeep("overview").out


def test_time_that_is_none_is_wrong_usage(jobkeep: JobkeepCommand) -> None:
    finished = jobkeep("timeline", "--until", "soon")
    assert finished.status == 2
    assert "--until is 'soon'; expected" in finished.err


def test_times_that_nothing_lies_between_are_wrong_usage(jobkeep: JobkeepCommand) -> None:
    finished = jobkeep("overview", "--since", "2026-03-02", "--until", "2026-03-01")
    assert finished.status == 2
    assert (
        "--until is '2026-03-01'; expected a time after --since, 2026-03-02 00:00" in finished.err
    )
