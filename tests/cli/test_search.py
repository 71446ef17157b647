"""`jobkeep search`."""

from __future__ import annotations

import pytest

from jobkeep import CheckpointState, Client
from tests.cli.commands import JobkeepCommand
from tests.daemon_process import DaemonProcess


@pytest.fixture
def recorded(client: Client[CheckpointState]) -> None:
    """Two jobs, with an attempt each, and a failure."""
    for job_id, output in (("one", "a needle\n\tin \x1b[31m hay"), ("two", "nothing but straw")):
        client.save(CheckpointState(job_id=job_id, total_sheets=3))
        client.record_execution(job_id, 2, 1, output=output, exit_code=7)
    client.mark_sheet_status("two", 3, "failed", "no needle was found")


@pytest.mark.usefixtures("recorded")
def test_each_hit_is_a_line_about_the_attempt_and_one_with_the_words(
    jobkeep: JobkeepCommand,
) -> None:
    found = jobkeep("search", "--job", "one", "needle", "hay")

    about, shown = found.out.splitlines()
    assert about.startswith("one  sheet 2, attempt 1, ")
    assert about.endswith(", exit 7, output")
    assert shown == "    a needle  in \\x1b[31m hay"
    assert (found.status, found.err) == (0, "")


@pytest.mark.usefixtures("recorded")
def test_words_are_highlighted_on_a_terminal_only(jobkeep: JobkeepCommand) -> None:
    _, shown = jobkeep.on_terminal("search", "straw")

    assert "nothing but \x1b[1;31mstraw\x1b[0m" in shown
    assert "\x1b" not in jobkeep("search", "straw").out


@pytest.mark.usefixtures("recorded")
def test_search_is_one_document_with_json(jobkeep: JobkeepCommand) -> None:
    page = jobkeep("search", "needle", "--json").document

    assert (page["complete"], page["more"]) == (True, False)
    assert {hit["job_id"]: hit["field"] for hit in page["hits"]} == {
        "one": "output",
        "two": "error_message",
    }
    assert page["hits"][0]["marks"][0].keys() == {"start", "end"}


@pytest.mark.usefixtures("recorded")
def test_search_says_what_it_does_not_show(jobkeep: JobkeepCommand) -> None:
    assert "--limit 1 is reached" in jobkeep("search", "needle", "--limit", "1").err
    assert jobkeep("search", "camel").err == "jobkeep: nothing matches\n"
    refused = jobkeep("search", "--", "-needle")
    assert refused.status == 2
    assert "expected a word to look for" in refused.err


def test_search_that_is_off_is_refused(daemon: DaemonProcess, jobkeep: JobkeepCommand) -> None:
    daemon.stop()
    daemon.start("--search", "off")

    refused = jobkeep("search", "needle")

    assert refused.status == 2
    assert "--search on" in refused.err
