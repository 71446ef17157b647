"""Looking inside a live daemon: monitor, clients, slowlog, call and introspect."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobkeep import CheckpointState, Client
from jobkeep.cli.app import EXIT_INTERRUPTED
from jobkeep.cli.served import COLUMNS
from jobkeep_protocol.messages import ServedRequest
from tests.cli.commands import JobkeepCommand
from tests.daemon_process import DaemonProcess
from tests.support import wait_until
from tests.wire import Wire


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One daemon for all of these tests, which only look.

    A copy of its database has several pieces, and its log is larger than it is told to accept."""
    process = DaemonProcess(tmp_path_factory.mktemp("inspected"))
    process.start("--wal-alarm-bytes", "1")
    with Client(process.socket) as client:
        client.save(CheckpointState(job_id="nightly", total_sheets=3))
        client.record_execution("nightly", 1, 1, output="x" * 3_000_000)
    yield process
    process.clean_up()


@pytest.fixture
def daemon(shared: DaemonProcess) -> DaemonProcess:
    """The daemon of the command and of the client."""
    return shared


def lines_of(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """What a command prints, a line at a time, as it prints it."""
    assert process.stdout is not None, "it is a pipe"
    return (line.decode().rstrip() for line in process.stdout)


def start_watching(
    jobkeep: JobkeepCommand, client: Client[CheckpointState], *arguments: str
) -> subprocess.Popen[bytes]:
    """Start a command that monitors, and wait until the daemon keeps requests for it."""

    def monitored() -> int:
        figures = client.status().operations.get("monitor")
        return figures.requests if figures is not None else 0

    before = monitored()
    process = jobkeep.start(*arguments)
    wait_until(lambda: monitored() > before)
    return process


# -- monitor ----------------------------------------------------------------------------------


def test_monitor_shows_what_passes_its_filters_and_sums_up_after_ctrl_c(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    watching = jobkeep.start("monitor", "--job", "nightly", "--method", "GetNextSheet")
    lines = lines_of(watching)
    assert next(lines).split()[:3] == ["TIME", "CLIENT", "UID"]

    client.load("nightly")
    client.get_next_sheet("other")
    client.get_next_sheet("nightly")

    shown = next(lines).split()
    assert "get_next_sheet" in shown
    assert shown[-2:] == ["ok", "nightly"]
    watching.send_signal(signal.SIGINT)
    status, out, err = jobkeep.end_of(watching)
    assert (status, err) == (EXIT_INTERRUPTED, "jobkeep: interrupted\n")
    assert "1 request in " in out
    assert "0 errors, 0 missed" in out
    assert out.splitlines()[-1].split()[:3] == ["get_next_sheet", "1", "0"]


def test_monitor_as_json_is_an_object_a_line_with_payloads_on_request(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    options = ("--json", "--payloads=30", "--method", "get_next_sheet")
    watching = start_watching(jobkeep, client, "monitor", *options)

    client.get_next_sheet("nightly")
    client.get_next_sheet("nightly")

    seen = json.loads(next(lines_of(watching)))
    assert seen["operation"] == "get_next_sheet"
    assert seen["request"] == '{"job_id":"nightly"}'
    assert seen["reply"] == "1"
    assert set(seen) <= set(ServedRequest.__struct_fields__)
    watching.send_signal(signal.SIGINT)
    finished = jobkeep.end_of(watching)
    assert all(line.startswith("{") for line in finished.out.splitlines())
    assert "2 requests in " in finished.err


def test_monitor_ends_after_as_long_as_it_is_told_to(jobkeep: JobkeepCommand) -> None:
    finished = jobkeep("monitor", "--for", "1ms", "--errors", "--slower-than", "5ms")

    assert (finished.status, finished.err) == (0, "")
    assert "0 requests in " in finished.out


# -- status -----------------------------------------------------------------------------------


def test_a_worry_stands_out_on_a_terminal_with_what_to_do(jobkeep: JobkeepCommand) -> None:
    status, shown = jobkeep.on_terminal("status")

    assert status == 0
    assert "\x1b[1;33m! the write-ahead log has " in shown
    assert "end long queries" in shown


# -- clients and slowlog ----------------------------------------------------------------------


def test_a_client_is_shown_and_its_connection_ended(
    jobkeep: JobkeepCommand, shared: DaemonProcess
) -> None:
    with Wire(shared.socket) as wire:
        wire.load("nightly")
        shown = jobkeep("clients", "--json").document
        (other,) = (one for one in shown if one["last_operation"] == "load")
        rows = [line.split() for line in jobkeep("clients").out.splitlines()]
        finished = jobkeep("clients", "--kill", str(other["connection_id"]))

        client = f"{other['command']}[{other['pid']}]"
        assert [client, other["user"], "admin"] in [row[1:4] for row in rows]
        assert finished.status == 0
        assert f"ended connection {other['connection_id']} of {other['command']}[" in finished.err
        wait_until(lambda: wire.is_closed)


def test_ending_a_connection_that_is_not_there_is_4(jobkeep: JobkeepCommand) -> None:
    finished = jobkeep("clients", "--kill", "999999")

    assert (finished.status, finished.out) == (4, "")
    assert finished.err == (
        "jobkeep: there is no connection 999999; `jobkeep clients` lists them\n"
    )


def test_no_column_falls_off_the_edge_of_a_terminal(jobkeep: JobkeepCommand) -> None:
    _, shown = jobkeep.on_terminal("clients")  # it has 120 columns, and these need more

    assert shown.splitlines()[0].split()[-2:] == ["CLAIMS", "LAST"]
    assert "list_clients" in shown


def test_slowlog_has_the_slowest_first(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    client.load("nightly")

    kept = jobkeep("slowlog", "--json").document
    table = jobkeep("slowlog", "--limit", "1").out.splitlines()

    durations = [one["duration_seconds"] for one in kept]
    assert durations == sorted(durations, reverse=True)
    assert len(table) == 2
    assert table[0].split() == list(COLUMNS)


# -- call and introspect ----------------------------------------------------------------------


def test_any_operation_can_be_called(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    by_keys = jobkeep("call", "get_job_statistics", "job_id=nightly")
    by_object = jobkeep("call", "org.jobkeep.GetJobStatistics", "-", stdin=b'{"job_id":"nightly"}')
    on_one_line = jobkeep("call", "GetNextSheet", '{"job_id":"nightly"}', "--json")

    assert by_keys.document == {"result": client.get_job_statistics("nightly")}
    assert by_keys == by_object
    assert on_one_line == (0, '{"result":1}\n', "")


def test_what_the_daemon_refuses_ends_a_call_as_it_ends_every_command(
    jobkeep: JobkeepCommand,
) -> None:
    finished = jobkeep("call", "claim_next_sheet", "job_id=nobody")

    assert (finished.status, finished.out) == (4, "")
    assert "'nobody'" in finished.err


def test_more_gives_a_page_a_line_to_the_last(jobkeep: JobkeepCommand) -> None:
    started = jobkeep("call", "start_backup").document["result"]

    finished = jobkeep("call", "read_backup", f"backup_id={started}", "--more")

    pages = [json.loads(line) for line in finished.out.splitlines()]
    assert [page["more"] for page in pages] == [True] * (len(pages) - 1) + [False]
    assert len(pages) > 1


def test_a_stream_goes_on_without_its_empty_pages(
    jobkeep: JobkeepCommand, client: Client[CheckpointState]
) -> None:
    arguments = ("monitor", 'methods=["load"]', "wait_seconds=0.01", "--more")
    watching = start_watching(jobkeep, client, "call", *arguments)
    lines = lines_of(watching)
    pages = []

    for _ in range(2):
        client.load("nightly")
        pages.append(json.loads(next(lines)))

    watching.send_signal(signal.SIGINT)
    assert jobkeep.end_of(watching).status == EXIT_INTERRUPTED
    assert all(page["requests"] for page in pages)


def test_introspect_needs_no_daemon_and_tells_what_call_takes(tmp_path: Path) -> None:
    jobkeep = JobkeepCommand(tmp_path / "none", tmp_path)

    every = jobkeep("introspect").out
    one = jobkeep("introspect", "QueryJobs").out

    assert "query_jobs" in every
    assert "Summaries of the jobs that match, last updated first" in every
    assert "jobkeep call query_jobs [status=JobStatus]" in one
    assert "    limit: int = 50\n" in one
    assert "paused_at_chain" in one


def test_introspect_as_json_has_names(jobkeep: JobkeepCommand) -> None:
    described = jobkeep("introspect", "load", "--json").document

    assert described["method"] == "org.jobkeep.Load"
    assert [field["name"] for field in described["fields"]] == ["job_id", "after_sheet"]
    assert {"load", "watch"} <= {one["name"] for one in jobkeep("introspect", "--json").document}
