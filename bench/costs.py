"""What single operations of jobkeep cost, beside what they are to be compared with.

What lives here: one request at a time on a real daemon, and the start of its client. What may not:
load (that is `trial`), and judging (that is `budgets`).

Things that are compared take turns, so that what else the machine does slows both.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import uvloop

from bench.daemon import running_daemon
from bench.echo import EchoClient, running_echo
from bench.fill import job_of
from bench.turns import TIMES, WARM_UP, in_turns
from bench.wire import Wire, save_of_first_sheet
from bench.yardsticks import importing, whole_process
from jobkeep import AsyncClient
from jobkeep_protocol.changes import encode_sheets, whole, without_sheets
from jobkeep_protocol.states import CheckpointState

SMALL, LARGE = 10, 10_000
"""Sheets of a small job and of a large one."""

LARGE_SAVES = 20
STARTS = 5


def round_trips(directory: Path) -> dict[str, float]:
    """One client, one request at a time: an echo, and the read of a small job."""

    async def measure(socket_path: Path, echo_path: Path) -> dict[str, float]:
        loop = asyncio.get_running_loop()
        _, echo = await loop.create_unix_connection(EchoClient, str(echo_path))
        async with AsyncClient(socket_path) as client:
            await client.save(job(SMALL))
            seconds = await in_turns(
                {
                    "echo": lambda: echo.ask((1, ("load", f"job-{SMALL}"))),
                    "read of a small job": lambda: client.load(f"job-{SMALL}"),
                },
                TIMES,
            )
        echo.close()
        return seconds

    with running_daemon(directory) as socket_path, running_echo(directory) as echo_path:
        return uvloop.run(measure(socket_path, echo_path))


def client_saves(directory: Path) -> dict[str, float]:
    """Saving after one sheet changed, as a caller of AsyncClient sees it."""
    small, large = job(SMALL), job(LARGE)

    async def change_and_save(client: AsyncClient[CheckpointState], state: CheckpointState) -> None:
        state.sheets[1].attempt_count += 1
        await client.save(state)

    async def measure(socket_path: Path) -> dict[str, float]:
        async with AsyncClient(socket_path) as client:
            return await in_turns(
                {
                    "client saves 1 of 10 sheets": lambda: change_and_save(client, small),
                    "client saves 1 of 10,000 sheets": lambda: change_and_save(client, large),
                },
                LARGE_SAVES,
            )

    with running_daemon(directory) as socket_path:
        return uvloop.run(measure(socket_path))


def daemon_saves(directory: Path) -> dict[str, float]:
    """The same in the daemon: from a request that is ready to be sent, to its reply."""
    names = {"daemon saves 1 of 10 sheets": SMALL, "daemon saves 1 of 10,000 sheets": LARGE}
    with running_daemon(directory) as socket_path, Wire(socket_path) as wire:
        states = {name: job(sheets) for name, sheets in names.items()}
        sequences = {
            name: wire.ask(whole(without_sheets(state), encode_sheets(state), None))[0].sequence
            for name, state in states.items()
        }
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for number in range(WARM_UP + TIMES):
            for name, state in states.items():
                state.sheets[1].attempt_count = number
                request = save_of_first_sheet(state, sequences[name])
                saved, taken = wire.ask(request)
                sequences[name] = saved.sequence
                seconds[name].append(taken)
    return {name: statistics.median(taken[WARM_UP:]) for name, taken in seconds.items()}


def starts(directory: Path) -> dict[str, float]:
    """What a process pays before jobkeep does anything for it."""
    scripts = Path(sysconfig.get_path("scripts"))
    with running_daemon(directory) as socket_path:
        status = [str(scripts / "jobkeep"), "--socket", str(socket_path), "status"]
        functions: dict[str, Callable[[], float]] = {
            "import msgspec": lambda: importing("import msgspec"),
            "import jobkeep": lambda: importing("import jobkeep"),
            "from jobkeep import Client": lambda: importing("from jobkeep import Client"),
            "from jobkeep import AsyncClient": lambda: importing("from jobkeep import AsyncClient"),
            "python -c pass": lambda: whole_process([sys.executable, "-c", "pass"]),
            "jobkeep status": lambda: whole_process(status),
        }
        taken = [{name: run() for name, run in functions.items()} for _ in range(STARTS + 1)]
    # The first of each may have had to compile, or to read from the disk.
    return {name: statistics.median(one[name] for one in taken[1:]) for name in functions}


def job(sheets: int) -> CheckpointState:
    """A job with this many sheets, all there."""
    return job_of(f"job-{sheets}", sheets)
