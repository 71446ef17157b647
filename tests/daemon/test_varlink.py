"""Clients that nobody here wrote speak Varlink with a live daemon, and people speak JSON with it.

The `varlink` package reads the interface from the daemon and does what it says; `asyncvarlink` has
declarations of its own, and refuses what differs from them by as much as a field. For what needs
no package there are nc and socat.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import varlink
from asyncvarlink import (
    VarlinkClientProtocol,
    connect_unix_varlink,
)
from asyncvarlink.message import VarlinkMethodCall
from asyncvarlink.serviceinterface import InterfaceNotFound, VarlinkServiceInterface

from jobkeep_protocol.messages import ListClients
from jobkeep_protocol.states import CheckpointState, SheetState
from jobkeep_protocol.varlink import METHODS
from jobkeep_protocol.version import __version__
from tests.daemon.varlink_interface import Jobkeep, JobNotFound
from tests.daemon_process import DaemonProcess
from tests.support import PATIENCE, scaled, wait_until
from tests.users import effective_user, needs_root, public_directory
from tests.wire import Wire

OTHER_USER = 54_321
INTERFACES = ["org.varlink.service", "org.jobkeep"]
STATE = {"job_id": "job", "total_sheets": 3}
LOAD = '{"method":"org.jobkeep.Load","parameters":{"job_id":"job"}}'
NEXT_SHEET = '{"method":"org.jobkeep.GetNextSheet","parameters":{"job_id":"job"}}'


@pytest.fixture
def job(daemon: DaemonProcess) -> DaemonProcess:
    """A daemon that keeps one job with two sheets."""
    sheets = {number: SheetState(sheet_num=number) for number in (1, 2)}
    with Wire(daemon.socket) as wire:
        wire.save(CheckpointState(job_id="job", total_sheets=3, sheets=sheets))
    return daemon


@pytest.fixture
def jobkeep(job: DaemonProcess) -> Iterator[Any]:
    """What the varlink package makes of the interface."""
    with varlink.Client(f"unix:{job.socket}") as client, client.open("org.jobkeep") as connection:
        yield connection


# -- the varlink package --------------------------------------------------------------------------


def test_tool_that_knows_nothing_learns_every_method_from_the_daemon(daemon: DaemonProcess) -> None:
    with varlink.Client(f"unix:{daemon.socket}") as client:
        with client.open("org.varlink.service") as service:
            info = service.GetInfo()
        interface = client.get_interface("org.jobkeep")

    assert (info["product"], info["version"], info["interfaces"]) == (
        "jobkeepd",
        __version__,
        INTERFACES,
    )
    assert all(interface.get_method(name).doc for name in METHODS)


def test_job_is_saved_worked_on_and_loaded_by_what_the_interface_says(jobkeep: Any) -> None:
    assert jobkeep.Save({"job_id": "new", "total_sheets": 2}, [{"sheet_num": 1}])["result"]
    assert jobkeep.ClaimNextSheet(job_id="new") == {"result": 1}
    jobkeep.MarkSheetStatus("new", 1, "completed")
    record = {"job_id": "new", "sheet_num": 1, "attempt_num": 1, "output": "done ✓"}
    assert jobkeep.RecordExecution(**record)["result"] > 0

    loaded = jobkeep.Load("new")["result"]
    assert loaded["state"]["last_completed_sheet"] == 1
    assert loaded["sheets"][0]["status"] == "completed"
    assert jobkeep.GetExecutionHistory("new")["records"][0]["output"] == "done ✓"
    assert [job["id"] for job in jobkeep.QueryJobs()["jobs"]] == ["new", "job"]
    assert jobkeep.Status()["jobs"] == {"pending": 1, "running": 1}
    assert [client["dialect"] for client in jobkeep.ListClients()["result"]] == ["json"]


def test_error_has_a_name_that_a_client_knows(jobkeep: Any) -> None:
    sheet = {"sheet_num": 4, "status": "ready"}
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("MarkSheetStatus", {"job_id": "unknown", **sheet}, "org.jobkeep.JobNotFound"),
        ("Save", {"state": STATE, "sheets": [], "if_revision": 7}, "org.jobkeep.RevisionConflict"),
        ("MarkSheetStatus", {"job_id": "job", **sheet}, "org.varlink.service.InvalidParameter"),
        ("Load", {"job_id": ""}, "org.varlink.service.InvalidParameter"),
    ]
    for method, parameters, error in wrong:
        with pytest.raises(varlink.VarlinkError) as refused:
            getattr(jobkeep, method)(**parameters)
        assert refused.value.error() == error
        if error.startswith("org.jobkeep."):  # of the others the package keeps the standard's part
            assert refused.value.parameters().keys() == {"message", "data"}


def test_call_with_more_goes_from_page_to_page(jobkeep: Any) -> None:
    output = {"prompt": "x" * 1_000_000}
    jobkeep.RecordExecution(job_id="job", sheet_num=1, attempt_num=1, **output)
    backup_id = jobkeep.StartBackup()["result"]

    pages = list(jobkeep.ReadBackup(backup_id, _more=True))

    assert [page["more"] for page in pages] == [True] * (len(pages) - 1) + [False]
    pieces = [base64.b64decode(page["data"]) for page in pages if page["data"]]
    assert len(pieces) > 1
    assert pieces[0].startswith(b"SQLite format 3\0")
    assert len(b"".join(pieces)) > 1_000_000


def test_watching_goes_on_as_long_as_somebody_listens(job: DaemonProcess, jobkeep: Any) -> None:
    watching = jobkeep.Watch(job_id="job", after=0, _more=True)
    first = next(watching)

    with Wire(job.socket) as wire:
        wire.save(CheckpointState(job_id="other", total_sheets=1))
        wire.save(CheckpointState(job_id="job", total_sheets=4))
        second = next(watching)

    assert {event["job_id"] for event in first["events"] + second["events"]} == {"job"}
    assert [event["total_sheets"] for event in second["events"] if event["kind"] == "job"] == [4]
    assert first["next"] < second["next"]


@pytest.mark.parametrize("half_closes", [False, True], ids=["at once", "after its end of file"])
def test_watcher_that_is_gone_is_forgotten_though_nothing_happens(
    job: DaemonProcess, half_closes: bool
) -> None:
    watch = b'{"method":"org.jobkeep.Watch","parameters":{"wait_seconds":0.05},"more":true}\n'
    with socket.socket(socket.AF_UNIX) as watcher, Wire(job.socket) as wire:
        watcher.connect(str(job.socket))
        watcher.sendall(watch)
        wait_until(lambda: len(wire.ask(ListClients())) == 2)
        if half_closes:
            watcher.shutdown(socket.SHUT_WR)
        watcher.close()

        wait_until(lambda: len(wire.ask(ListClients())) == 1)


def test_call_that_wants_no_reply_gets_none_and_is_done(jobkeep: Any) -> None:
    assert jobkeep.MarkSheetStatus("job", 1, "skipped", _oneway=True) is None
    assert jobkeep.MarkSheetStatus("unknown", 1, "skipped", _oneway=True) is None
    assert jobkeep.Load("job")["result"]["sheets"][0]["status"] == "skipped"


# -- the asyncvarlink package ---------------------------------------------------------------------


@asynccontextmanager
async def connected(daemon: DaemonProcess) -> AsyncIterator[VarlinkClientProtocol]:
    """A connection, which is closed in any case."""
    transport, protocol = await connect_unix_varlink(VarlinkClientProtocol, daemon.socket)
    try:
        yield protocol
    finally:
        transport.close()
        await asyncio.sleep(0)  # it closes its socket on the next turn of the loop


async def test_client_with_declarations_of_its_own_gets_what_they_say(job: DaemonProcess) -> None:
    async with connected(job) as protocol:
        jobkeep = protocol.make_proxy(Jobkeep)

        assert await jobkeep.GetNextSheet(job_id="job") == {"result": 1}
        assert await jobkeep.ClaimNextSheet(job_id="job") == {"result": 1}
        assert await jobkeep.ClaimNextSheet.oneway(job_id="job") is None
        assert await jobkeep.ClaimNextSheet(job_id="job", max_attempts=None) == {"result": 3}
        assert await jobkeep.ClaimNextSheet(job_id="job") == {"result": None}
        pages = [page async for page in jobkeep.GetExecutionHistory(job_id="job")]
        assert pages == [{"records": [], "more": False}]
        with pytest.raises(JobNotFound) as refused:
            await jobkeep.ClaimNextSheet(job_id="unknown")
        assert refused.value.parameters["data"] == {"job_id": "unknown"}


async def test_service_is_what_the_standard_says_to_the_letter(daemon: DaemonProcess) -> None:
    async with connected(daemon) as protocol:
        service = protocol.make_proxy(VarlinkServiceInterface)

        assert (await service.GetInfo())["interfaces"] == INTERFACES
        told = await service.GetInterfaceDescription(interface="org.varlink.service")
        assert told["description"].startswith("# The Varlink Service Interface")
        with pytest.raises(InterfaceNotFound) as refused:
            await service.GetInterfaceDescription(interface="org.example")
        assert refused.value.parameters == {"interface": "org.example"}


async def test_calls_that_are_sent_at_once_are_answered_in_their_order(job: DaemonProcess) -> None:
    names = ["GetNextSheet", "ClaimNextSheet", "ClaimNextSheet", "Nope", "GetNextSheet"]
    calls = [VarlinkMethodCall(f"org.jobkeep.{name}", {"job_id": "job"}) for name in names]
    async with connected(job) as protocol:
        answers = await asyncio.gather(*map(protocol.call, calls))

    replies = [answer[0] for answer in answers if answer is not None]
    assert [reply.parameters.get("result", reply.error) for reply in replies] == [
        *(1, 1, 2),
        "org.varlink.service.MethodNotFound",
        2,
    ]


# -- people ---------------------------------------------------------------------------------------


def run(command: list[str], typed: str) -> str:
    """What a program prints when this is typed into it."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    ran = subprocess.run(
        command, input=typed.encode(), capture_output=True, timeout=scaled(PATIENCE), check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.decode()


@pytest.mark.parametrize(
    "command", [["nc", "-N", "-U", "{}"], ["socat", "-", "UNIX-CONNECT:{}"]], ids=["nc", "socat"]
)
def test_line_that_is_typed_is_answered_with_a_line(job: DaemonProcess, command: list[str]) -> None:
    command = [part.format(job.socket) for part in command]
    pretty = json.dumps(json.loads(LOAD), indent=2)

    answered = run(command, f"{NEXT_SHEET}\n\n{pretty}\n{NEXT_SHEET}\0")

    first, second, third = answered.splitlines()
    assert first == '{"parameters":{"result":1}}'
    assert json.loads(second)["parameters"]["result"]["state"]["job_id"] == "job"
    assert third == first + "\0"


def test_call_that_ends_with_what_is_sent_is_answered(job: DaemonProcess) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(scaled(PATIENCE))
        connection.connect(str(job.socket))
        connection.sendall(NEXT_SHEET.encode())
        connection.shutdown(socket.SHUT_WR)

        answer = connection.makefile("rb").read()

    assert json.loads(answer) == {"parameters": {"result": 1}}


def test_typing_error_is_told_and_ends_the_conversation(job: DaemonProcess) -> None:
    answered = run(["nc", "-N", "-U", str(job.socket)], f'{{"method": Load}}\n{NEXT_SHEET}\n')

    told = json.loads(answered)
    assert told["error"] == "org.jobkeep.ProtocolError"
    assert "a message is no call: JSON is malformed" in told["parameters"]["message"]


# -- who may --------------------------------------------------------------------------------------


@needs_root
def test_role_is_the_same_as_in_the_binary_dialect() -> None:
    with public_directory() as directory:
        daemon = DaemonProcess(directory)
        daemon.start("--socket-mode", "0666", "--readers", f"uid:{OTHER_USER}")
        try:
            with effective_user(OTHER_USER):
                refused_or_not(daemon.socket)
        finally:
            daemon.clean_up()


def refused_or_not(path: Path) -> None:
    """A reader may read, and is told which role the rest needs."""
    with varlink.Client(f"unix:{path}") as client, client.open("org.jobkeep") as jobkeep:
        assert jobkeep.Load("job") == {}
        with pytest.raises(varlink.VarlinkError) as refused:
            jobkeep.Delete("job")
    assert refused.value.error() == "org.varlink.service.PermissionDenied"
    assert "admin" in refused.value.parameters()["message"]


# -- varlinkctl -----------------------------------------------------------------------------------

needs_varlinkctl = pytest.mark.skipif(
    shutil.which("varlinkctl") is None, reason="varlinkctl comes with systemd 255 or newer"
)


@needs_varlinkctl
def test_varlinkctl_lists_describes_and_calls(job: DaemonProcess) -> None:
    address = f"unix:{job.socket}"

    assert "Product: jobkeepd" in run(["varlinkctl", "info", address], "")
    assert "method QueryJobs" in run(["varlinkctl", "introspect", address, "org.jobkeep"], "")
    called = run(
        ["varlinkctl", "call", address, "org.jobkeep.GetNextSheet", '{"job_id":"job"}'], ""
    )
    assert json.loads(called) == {"result": 1}
