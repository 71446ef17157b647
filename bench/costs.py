"""What single operations of jobkeep cost, beside what they are to be compared with.

What lives here: one request at a time on a real daemon, and the start of its client. What may not:
load (that is `trial`), and judging (that is `budgets`).

Things that are compared take turns, so that what else the machine does slows both.
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import sys
import sysconfig
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import uvloop

from bench.daemon import running_daemon
from bench.echo import EchoClient, running_echo
from bench.yardsticks import importing, whole_process
from jobkeep import AsyncClient
from jobkeep.core import Pipeline
from jobkeep_protocol.changes import EncodedSheets, SeenJob, changed, encode_sheets, whole
from jobkeep_protocol.messages import Request
from jobkeep_protocol.states import CheckpointState, SheetState

SMALL, LARGE = 10, 10_000
"""Sheets of a small job and of a large one."""

TIMES = 200
WARM_UP = 20
LARGE_SAVES = 20
STARTS = 5
READ_BYTES = 256 * 1024


def round_trips(directory: Path) -> dict[str, float]:
    """One client, one request at a time: an echo, and the read of a small job."""

    async def measure(socket_path: Path, echo_path: Path) -> dict[str, float]:
        loop = asyncio.get_running_loop()
        _, echo = await loop.create_unix_connection(EchoClient, str(echo_path))
        async with AsyncClient(socket_path) as client:
            await client.save(job(SMALL))
            seconds = await _in_turns(
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
            return await _in_turns(
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
    with running_daemon(directory) as socket_path, _Wire(socket_path) as wire:
        states = {name: job(sheets) for name, sheets in names.items()}
        sequences = {
            name: wire.ask(whole(state, encode_sheets(state), None))[0].sequence
            for name, state in states.items()
        }
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for number in range(WARM_UP + TIMES):
            for name, state in states.items():
                state.sheets[1].attempt_count = number
                request = _save_of_first_sheet(state, sequences[name])
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
    return CheckpointState(
        job_id=f"job-{sheets}",
        total_sheets=sheets,
        sheets={number: SheetState(sheet_num=number) for number in range(1, sheets + 1)},
    )


async def _in_turns(
    operations: Mapping[str, Callable[[], Awaitable[object]]], times: int
) -> dict[str, float]:
    """The median time of each operation, run by turns after a warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in operations}
    warm_up = min(WARM_UP, times)
    for _ in range(warm_up + times):
        for name, operation in operations.items():
            began = time.perf_counter()
            await operation()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(taken[warm_up:]) for name, taken in seconds.items()}


def _save_of_first_sheet(state: CheckpointState, sequence: int) -> Request[Any]:
    first = CheckpointState(
        job_id=state.job_id, total_sheets=state.total_sheets, sheets={1: state.sheets[1]}
    )
    return changed(first, encode_sheets(first), SeenJob(sequence, EncodedSheets([], [])), None)


class _Wire:
    """A connection without a client: the time of an exchange is the daemon's and the socket's."""

    def __init__(self, path: Path) -> None:
        self._pipeline = Pipeline()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._socket.sendall(self._pipeline.connection_made())

    def __enter__(self) -> _Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, request: Request[Any]) -> tuple[Any, float]:
        """The reply to a request, and the seconds from sending it until it was there."""
        ticket = self._pipeline.start(request)
        began = time.perf_counter()
        self._socket.sendall(ticket.frame)
        while not ticket.is_done:
            self._pipeline.receive_data(self._socket.recv(READ_BYTES))
        taken = time.perf_counter() - began
        return ticket.result(), taken
