"""What a command does before it begins: what it imports, and what the garbage collector does.

Most of what a short command takes is its start. How long that is, the benchmarks measure; what
would make it long is held here, by name and without a clock.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any, NamedTuple

import msgspec
import pytest

from jobkeep import CheckpointState, Client
from jobkeep.cli.app import COMMANDS
from tests.cli.commands import JobkeepCommand

NEEDLESS = {
    "asyncio": "the blocking client has no event loop",
    "dataclasses": "only states that are dataclasses need it",
    "importlib.metadata": "the version is a constant",
    "jobkeep.async_client": "the blocking client does",
    "json": "only --json prints JSON",
    "pydantic": "only states that are pydantic models need it",
    "rich": "what is no terminal has no colours and no width",
    "signal": "the numbers of two signals are no reason to make its enums",
    "sqlite3": "only the daemon opens the database",
    "subprocess": "only `jobkeep run` starts processes",
}
"""What commands that look at jobs have no use for, and why."""

SPY = """
import gc, sys
from jobkeep.cli import main

collections = 0

def count(phase, info):
    global collections
    collections += phase == "start" and not gc.get_freeze_count()

gc.callbacks.append(count)
try:
    main()
finally:
    seen = (sorted(sys.modules), collections, gc.isenabled(), gc.get_freeze_count())
    import msgspec
    print(msgspec.json.encode(seen).decode(), file=sys.stderr)
"""
"""Is the `jobkeep` command, and says at its end, on standard error, what it was like inside."""


class Start(NamedTuple):
    """What the spy has seen."""

    modules: set[str]
    collections_before_the_command: int
    collects: bool
    frozen: int


def start_of(jobkeep: JobkeepCommand, *arguments: str) -> Start:
    """Run a command that succeeds to its end; gives what it was like inside."""
    process = subprocess.run(
        [sys.executable, "-c", SPY, "--socket", str(jobkeep.socket), *arguments],
        capture_output=True,
        check=True,
    )
    return msgspec.json.decode(process.stderr.splitlines()[-1], type=Start)


def command_modules(start: Start) -> set[str]:
    """The commands that were imported."""
    return {name for name in COMMANDS if f"jobkeep.cli.{name}" in start.modules}


@pytest.fixture(autouse=True)
def job(client: Client[CheckpointState]) -> str:
    """A job to look at, with an attempt in its history."""
    client.save(CheckpointState(job_id="nightly", total_sheets=3))
    client.record_execution("nightly", 1, 1, "cp a", "copied\n", 0, 1.5)
    return "nightly"


LOOKING: list[Any] = [
    pytest.param(arguments, id=arguments[0])
    for arguments in (
        ["status"],
        ["call", "status"],
        ["jobs"],
        ["show", "nightly"],
        ["history", "nightly"],
        ["stats", "nightly"],
    )
]


@pytest.mark.parametrize("arguments", LOOKING)
def test_looking_at_jobs_imports_nothing_that_it_does_not_need(
    jobkeep: JobkeepCommand, arguments: list[str]
) -> None:
    start = start_of(jobkeep, *arguments)

    needless = {name: why for name, why in NEEDLESS.items() if name in start.modules}
    assert needless == {}
    assert command_modules(start) == {arguments[0]}


def test_help_imports_neither_a_command_nor_the_client(jobkeep: JobkeepCommand) -> None:
    start = start_of(jobkeep, "--help")

    assert command_modules(start) == set()
    assert not start.modules & {*NEEDLESS, "jobkeep.client", "msgspec"}


def test_no_garbage_is_looked_for_while_a_command_is_imported(jobkeep: JobkeepCommand) -> None:
    assert start_of(jobkeep, "status").collections_before_the_command == 0


def test_garbage_is_collected_while_a_command_runs_but_not_among_what_was_imported(
    jobkeep: JobkeepCommand,
) -> None:
    start = start_of(jobkeep, "run", "other", "--dry-run", "--", "true", ":::", "item")

    assert start.collects
    assert start.frozen > 0
