"""`jobkeep patterns` and `jobkeep similar`: what they print."""

from __future__ import annotations

import msgspec
import pytest

from jobkeep import CheckpointState, Client
from tests.cli.commands import JobkeepCommand


@pytest.fixture
def learned(client: Client[CheckpointState]) -> None:
    """Two jobs: in both something failed, and in one it went well at the second try."""
    for job_id in ("monday", "tuesday"):
        state = CheckpointState(job_id=job_id, total_sheets=2)
        state.mark_sheet_started(1)
        state.mark_sheet_failed(1, "no answer from db-7\nafter 30 s", "timeout", exit_code=75)
        state.sheets[1].learned_patterns = ["retry on timeout", f"seen on {job_id}"]
        state.sheets[1].confidence_score = 0.5
        state.mark_sheet_completed(2)
        client.save(state)
    client.mark_sheet_status("monday", 1, "in_progress")
    client.mark_sheet_status("monday", 1, "completed")


@pytest.mark.usefixtures("learned")
def test_patterns_of_most_sheets_come_first(jobkeep: JobkeepCommand) -> None:
    head, first, *others = jobkeep("patterns").out.splitlines()

    assert head.split() == [
        "PATTERN",
        "SHEETS",
        "JOBS",
        "SUCCESS",
        "WITHOUT",
        "CONFIDENCE",
        "FIRST",
        "LAST",
    ]
    assert first.startswith("retry on timeout  2       2     50.0 %   100.0 %  0.50        ")
    assert [one.split("  ")[0] for one in others] == ["seen on monday", "seen on tuesday"]


@pytest.mark.usefixtures("learned")
def test_patterns_can_be_selected(jobkeep: JobkeepCommand, client: Client[CheckpointState]) -> None:
    document = jobkeep("patterns", "seen *", "--limit", "1", "--json").document

    (found,) = client.get_learned_patterns("seen *", limit=1)
    times = {name: getattr(found, name).isoformat() for name in ("first_seen_at", "last_seen_at")}
    assert document == [msgspec.to_builtins(found) | times]
    assert jobkeep("patterns", "--min-sheets", "3") == (0, "", "jobkeep: no pattern matches\n")
    more = jobkeep("patterns", "--limit", "1").err
    assert more == "jobkeep: --limit 1 is reached; there may be more\n"


@pytest.mark.usefixtures("learned")
def test_similar_says_what_happened_next(jobkeep: JobkeepCommand) -> None:
    head, *rows = jobkeep("similar", "--category", "timeout", "--exit-code", "75").out.splitlines()

    assert head.split() == [
        *("JOB", "SHEET", "ATTEMPT", "FAILED", "CATEGORY", "CODE", "EXIT", "NEXT", "TRIES", "ERROR")
    ]
    assert [row.split()[0] for row in rows] == ["tuesday", "monday"]
    assert rows[0].endswith("  75    failed     0      no answer from db-7 after 30 s")
    assert rows[1].endswith("  75    completed  1      no answer from db-7 after 30 s")


@pytest.mark.usefixtures("learned")
def test_similar_as_json_is_what_the_method_gives(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    document = jobkeep("similar", "--category", "timeout", "--limit", "1", "--json").document

    (found,) = client.find_similar_outcomes("timeout", limit=1)
    assert document == [msgspec.to_builtins(found) | {"failed_at": found.failed_at.isoformat()}]
    assert jobkeep("similar", "--code", "E7") == (0, "", "jobkeep: no attempt matches\n")


def test_similar_to_nothing_is_wrong_usage(jobkeep: JobkeepCommand) -> None:
    finished = jobkeep("similar")

    assert (finished.status, finished.out) == (2, "")
    assert finished.err.startswith("jobkeep: give one or more of --category, --code, ")
