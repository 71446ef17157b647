"""What the system service cannot do, that it does all it has to all the same, and who gets in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support import wait_until
from tests.system.load import status
from tests.system.machine import Machine, python

SERVICE = "jobkeep.service"
DROP_IN = "/run/systemd/system/jobkeep.service.d/probe.conf"
FOUND = "/var/lib/jobkeep/found.json"

ELSEWHERE = ("/", "/etc", "/etc/jobkeep", "/usr", "/var", "/var/lib", "/run", "/run/jobkeep")

PROBE = f"""
import ctypes, errno, json, mmap, os, pathlib, socket

def outcome(attempt):
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"

libc = ctypes.CDLL(None, use_errno=True)

def syscall(*arguments):
    if libc.syscall(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "")

def write(path):
    return lambda: pathlib.Path(path, "probe").write_text("x")

def writable():
    for above, below, _ in os.walk("/"):
        if above == "/":
            below[:] = set(below) - {{"proc", "sys", "usr"}}
        if os.access(above, os.W_OK):
            yield above

found = {{
    "writable": sorted(writable()),
    "tmp": [outcome(write("/tmp")), outcome(write("/var/tmp"))],
    **{{path: outcome(write(path)) for path in {ELSEWHERE!r}}},
    "inet": outcome(lambda: socket.socket(socket.AF_INET)),
    "inet6": outcome(lambda: socket.socket(socket.AF_INET6)),
    "netlink": outcome(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
    "unix": outcome(lambda: socket.socket(socket.AF_UNIX)),
    "interfaces": [one.split(":")[0].strip() for one in open("/proc/self/net/dev") if ":" in one],
    "write and execute": outcome(lambda: mmap.mmap(-1, 4096, prot=7)),
    "sysctl": outcome(lambda: open("/proc/sys/kernel/hostname", "w")),
    "namespace": outcome(lambda: syscall(272, 0x10000000)),
    "io_uring": outcome(lambda: syscall(425, 1, 0)),
    "become root": outcome(lambda: os.setuid(0)),
    "priority": outcome(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5)),
    "clock": outcome(lambda: syscall(227, 0, 0)),
    "device": outcome(lambda: os.open("/dev/kmsg", os.O_RDONLY)),
}}
pathlib.Path({FOUND!r}).write_text(json.dumps(found))
"""


@pytest.fixture
def probe(machine: Machine) -> dict[str, Any]:
    """What becomes of attempts made in the sandbox of the service, before the daemon is started."""
    machine.write("/run/probe.py", PROBE)
    machine.run("rm", "-r", "/etc/jobkeep")  # so that it is systemd that makes it, for the daemon
    start = "ExecStartPre=/usr/lib/jobkeep/bin/python -I /run/probe.py"
    machine.write(DROP_IN, f"[Service]\n{start}\n")
    machine.run("systemctl", "daemon-reload")
    status(machine)
    found: dict[str, Any] = json.loads(machine.run("cat", FOUND))
    return found


def test_sandbox_is_in_force(machine: Machine, probe: dict[str, Any]) -> None:
    assert probe["writable"] == ["/tmp", "/var/lib/jobkeep", "/var/tmp"]
    assert {probe[path] for path in ELSEWHERE} == {"EROFS"}  # not only because they are another's
    assert probe["tmp"] == ["done", "done"]
    assert machine.run("sh", "-c", "ls /tmp/probe /var/tmp/probe 2>&1 || true").count("cannot") == 2
    assert probe["unix"] == "done"
    assert probe["interfaces"] == ["lo"]
    assert {probe["inet"], probe["inet6"], probe["netlink"]} == {"EAFNOSUPPORT"}
    assert {probe[name] for name in ("namespace", "io_uring", "become root", "clock")} == {"EPERM"}
    assert "done" not in {
        probe[name] for name in ("write and execute", "sysctl", "priority", "device")
    }


def test_daemon_itself_has_no_privileges_left(machine: Machine) -> None:
    pid = status(machine)["pid"]
    lines = machine.run("cat", f"/proc/{pid}/status").splitlines()
    found = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    assert {found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {
        "0" * 16
    }
    assert found["Uid"].split() == [machine.run("id", "-u", "jobkeep").strip()] * 4


def test_exposure_is_at_most_1(machine: Machine) -> None:
    machine.run("systemd-analyze", "security", "--threshold=10", "--offline=yes", SERVICE)


EVERYTHING = """
import asyncio, os
from jobkeep import AsyncClient, CheckpointState, SheetState

async def main():
    async with AsyncClient() as jobs:
        state = CheckpointState(job_id="all", total_sheets=3)
        await jobs.save(state)
        state.mark_sheet_started(1)
        await jobs.save(state)
        await jobs.save_sheet("all", SheetState(sheet_num=2))
        await jobs.mark_sheet_status("all", 3, "failed", "so it goes")
        assert await jobs.claim_next_sheet("all") == 2
        assert await jobs.record_execution("all", 1, 1, output="x" * 1_000_000)
        assert len(await jobs.get_execution_history("all")) == 1
        assert await jobs.get_execution_history_count("all") == 1
        assert (await jobs.get_job_statistics("all"))["total_executions"] == 1
        assert [job["id"] for job in await jobs.query_jobs()] == ["all"]
        assert [job.job_id for job in await jobs.list_jobs()] == ["all"]
        assert await jobs.get_next_sheet("all")
        assert (await jobs.load("all")).sheets[3].error_message == "so it goes"

asyncio.run(main())
"""


def test_all_functions_work_inside(machine: Machine) -> None:
    machine.run(*python(EVERYTHING), user="alice")

    machine.run("jobkeep", "backup", "/run/copy.db")
    machine.run("jobkeep", "delete", "--yes", "all")
    assert "SQLite format 3" in machine.run("head", "-c", "15", "/run/copy.db")
    assert json.loads(machine.run("jobkeep", "jobs", "--json")) == []


SLEEPER = """
import os, signal
from jobkeep import CheckpointState, Client
with Client() as jobs:
    state = CheckpointState(job_id="job", total_sheets=2)
    state.mark_sheet_started(1)
    state.set_running_pid()
    jobs.save(state)
    other = CheckpointState(job_id="claimed", total_sheets=2)
    jobs.save(other)
    jobs.claim_next_sheet("claimed")
    print(os.getpid(), flush=True)
    signal.pause()
"""


def test_death_of_another_users_worker_is_noticed_at_once(machine: Machine) -> None:
    worker = machine.start(*python(SLEEPER), user="alice")
    assert worker.stdout is not None, "it is a pipe"
    pid = worker.stdout.readline().strip()

    machine.run("kill", "-KILL", pid)

    # It is the journal that tells: a load would have looked for the process by itself.
    wait_until(lambda: f"its process {pid} is gone" in machine.journal("JOBKEEP_JOB=job"))
    wait_until(lambda: "is pending again" in machine.journal("JOBKEEP_JOB=claimed"))
    job = json.loads(machine.run("jobkeep", "show", "--json", "job", user="alice"))
    assert (job["status"], job["pid"]) == ("paused", None)
    claimed = json.loads(machine.run("jobkeep", "show", "--json", "claimed", user="alice"))
    assert claimed["sheets"]["1"]["status"] == "pending"


def test_who_is_in_the_group_gets_in_and_others_do_not(machine: Machine) -> None:
    machine.run("jobkeep", "run", "work", "--", "true", "{}", ":::", "1", user="alice")

    refused, words = machine.try_to("jobkeep", "jobs", user="bob")

    assert "Permission denied" in words
    assert refused == 1
    assert machine.try_to("cat", "/var/lib/jobkeep/state.db", user="alice")[0] == 1
