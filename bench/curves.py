"""What operations cost as the data grows: sheets of a job, records of its history, jobs.

What lives here: the sizes, the operations, and the table and picture of what they take. What may
not: other clients; here one asks, one request at a time.

For each size there is a daemon of its own (for sheets: a job of its own), all of them filled before
anything is measured, and an operation takes turns over all sizes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import uvloop
from msgspec import Struct

from bench.daemon import running_daemon
from bench.fill import job_of, record, together
from bench.machine import Machine
from bench.picture import Curves, curves
from bench.progress import say
from bench.turns import in_turns
from jobkeep import AsyncClient, CheckpointState, JobStatus, SheetStatus

Subject = TypeVar("Subject")
Client: TypeAlias = AsyncClient[CheckpointState]
Operation: TypeAlias = Callable[[], Awaitable[object]]

TIMES = 60
TIMEOUT = 120.0
"""Seconds for a request, also for the first save of the largest job."""

RARE_JOBS = 10
"""Jobs that failed, the oldest of all: what a list by status must find among the others."""


class Curve(Struct, frozen=True):
    """The median seconds of an operation, by the size of the data."""

    operation: str
    seconds: dict[int, float]

    @property
    def relative(self) -> dict[int, float]:
        """The same as multiples of what the smallest size takes."""
        first = self.seconds[min(self.seconds)]
        return {size: taken / first for size, taken in self.seconds.items()}


class Sizes(Struct, frozen=True):
    """What is measured at."""

    sheets: list[int]
    records: list[int]
    jobs: list[int]


QUICK = Sizes([10, 100, 1_000, 10_000], [1_000, 10_000, 100_000], [10, 100, 1_000, 10_000])
FULL = Sizes([*QUICK.sheets, 100_000], [*QUICK.records, 1_000_000], [*QUICK.jobs, 100_000])


class Panel(Struct, frozen=True):
    """All curves over one kind of size."""

    size: str
    curves: list[Curve]


def measure(sizes: Sizes, directory: Path) -> list[Panel]:
    """All three."""
    found = []
    for size, measure_one, wanted in (
        ("sheets of the job", _sheets, sizes.sheets),
        ("records of the job", _records, sizes.records),
        ("jobs", _jobs, sizes.jobs),
    ):
        say(f"{size}: up to {wanted[-1]:,}")
        place = directory / size.split()[0]
        place.mkdir()
        found.append(Panel(size, measure_one(wanted, place)))
    return found


def text(panels: Sequence[Panel]) -> str:
    """The curves for people: the smallest size in µs, the others as multiples of it."""
    return "\n".join(line for panel in panels for line in _table(panel))


def picture(panels: Sequence[Panel], machine: Machine) -> str:
    """The curves as SVG."""
    return curves(
        "What operations take as the data grows",
        f"median of {TIMES}, as a multiple of what the smallest size takes; {machine.cpu}, "
        f"{machine.cores} cores, {machine.file_system}",
        [
            Curves(
                panel.size,
                "times the smallest",
                {one.operation: list(one.relative.items()) for one in panel.curves},
            )
            for panel in panels
        ],
    )


def _sheets(sizes: Sequence[int], directory: Path) -> list[Curve]:
    """Jobs of which the first half is completed, so that what looks for the next sheet has
    something to pass by."""

    async def run(socket: Path) -> list[Curve]:
        async with AsyncClient(socket, timeout=TIMEOUT) as client:
            states = {size: job_of(f"job-{size}", size, completed=size // 2) for size in sizes}
            for state in states.values():
                await client.save(state)
            numbers = count(1)
            found = [
                await _curve("save, one sheet changed", states, lambda one: _save(client, one)),
                await _curve("save_sheet", states, lambda one: _save_sheet(client, one)),
                await _curve("mark_sheet_status", states, lambda one: _mark(client, one, numbers)),
                await _curve("get_next_sheet", states, lambda one: _next(client, one)),
            ]
            return [*found, await _claims(client, states)]

    with running_daemon(directory) as socket:
        return uvloop.run(run(socket))


def _save(client: Client, state: CheckpointState) -> Operation:
    async def save() -> None:
        state.sheets[1].attempt_count += 1
        await client.save(state)

    return save


def _save_sheet(client: Client, state: CheckpointState) -> Operation:
    async def save() -> None:
        state.sheets[2].attempt_count += 1
        await client.save_sheet(state.job_id, state.sheets[2])

    return save


def _mark(client: Client, state: CheckpointState, numbers: Iterator[int]) -> Operation:
    async def mark() -> None:
        status = SheetStatus.SKIPPED if next(numbers) % 2 else SheetStatus.READY
        await client.mark_sheet_status(state.job_id, state.total_sheets, status)

    return mark


def _next(client: Client, state: CheckpointState) -> Operation:
    return lambda: client.get_next_sheet(state.job_id)


async def _claims(client: Client, states: Mapping[int, CheckpointState]) -> Curve:
    """Each claim is undone before the next, outside of what is measured: a claim of every size is
    one turn, and so is what undoes it."""

    def claim(state: CheckpointState) -> Operation:
        return lambda: client.claim_next_sheet(state.job_id)

    def undo(state: CheckpointState) -> Operation:
        number = state.total_sheets // 2 + 1
        return lambda: client.mark_sheet_status(state.job_id, number, SheetStatus.PENDING)

    operations = {(size, True): claim(state) for size, state in states.items()}
    operations |= {(size, False): undo(state) for size, state in states.items()}
    seconds = await in_turns(operations, TIMES)
    return Curve("claim_next_sheet", {size: seconds[size, True] for size in states})


def _records(sizes: Sequence[int], directory: Path) -> list[Curve]:
    async def run(sockets: Mapping[int, Path]) -> list[Curve]:
        async with AsyncExitStack() as stack:
            clients = await _connect(stack, sockets)
            middles = {}
            for size, client in clients.items():
                await client.save(job_of("job", 100))
                await record(client, "job", size)
                (newest,) = await client.get_execution_history("job", limit=1)
                middles[client] = newest["id"] - size // 2
            numbers = count(1)
            operations: dict[str, Callable[[Client], Operation]] = {
                "record_execution": lambda client: (
                    lambda: client.record_execution("job", 1, next(numbers), "do", "done")
                ),
                "get_execution_history_count": lambda client: (
                    lambda: client.get_execution_history_count("job")
                ),
                "… of one sheet": lambda client: (
                    lambda: client.get_execution_history_count("job", 1)
                ),
                "get_job_statistics": lambda client: lambda: client.get_job_statistics("job"),
                "get_execution_history, newest 100": lambda client: (
                    lambda: client.get_execution_history("job")
                ),
                "… 100 from the middle": lambda client: (
                    lambda: client.get_execution_history("job", before_id=middles[client])
                ),
                "… newest 10 of one sheet": lambda client: (
                    lambda: client.get_execution_history("job", 1, limit=10)
                ),
            }
            return [await _curve(name, clients, one) for name, one in operations.items()]

    return _with_daemons(sizes, directory, run)


def _jobs(sizes: Sequence[int], directory: Path) -> list[Curve]:
    async def run(sockets: Mapping[int, Path]) -> list[Curve]:
        async with AsyncExitStack() as stack:
            clients = await _connect(stack, sockets)
            states = {}
            for size, client in clients.items():
                await together(size, partial(_save_numbered, client))
                states[client] = _numbered(size // 2)
                await client.save(states[client])
            newest = states[clients[sizes[0]]].updated_at
            since = newest - timedelta(seconds=1)
            operations: dict[str, Callable[[Client], Operation]] = {
                "query_jobs, first page": lambda client: lambda: client.query_jobs(limit=10),
                "query_jobs, since": lambda client: (
                    lambda: client.query_jobs(since=since, limit=10)
                ),
                "query_jobs, a rare status": lambda client: (
                    lambda: client.query_jobs(status=JobStatus.FAILED, limit=10)
                ),
                "query_jobs, a status of none": lambda client: (
                    lambda: client.query_jobs(status=JobStatus.CANCELLED, limit=10)
                ),
                "save": lambda client: lambda: client.save(states[client]),
                "load": lambda client: lambda: client.load(states[client].job_id),
            }
            return [await _curve(name, clients, one) for name, one in operations.items()]

    return _with_daemons(sizes, directory, run)


async def _save_numbered(client: Client, number: int) -> None:
    await client.save(_numbered(number))


def _numbered(number: int) -> CheckpointState:
    state = job_of(f"job-{number}", 1)
    if number < RARE_JOBS:
        state.mark_job_failed("it was one of the first")
    return state


async def _curve(
    operation: str,
    subjects: Mapping[int, Subject],
    of: Callable[[Subject], Operation],
) -> Curve:
    """An operation on the subject of each size."""
    operations = {size: of(subject) for size, subject in subjects.items()}
    return Curve(operation, await in_turns(operations, TIMES))


def _with_daemons(
    sizes: Sequence[int],
    directory: Path,
    run: Callable[[Mapping[int, Path]], Coroutine[Any, Any, list[Curve]]],
) -> list[Curve]:
    """Run something with an empty daemon for each size."""
    with ExitStack() as stack:
        sockets = {}
        for size in sizes:
            place = directory / str(size)
            place.mkdir()
            sockets[size] = stack.enter_context(running_daemon(place))
        return uvloop.run(run(sockets))


async def _connect(stack: AsyncExitStack, sockets: Mapping[int, Path]) -> dict[int, Client]:
    return {
        size: await stack.enter_async_context(AsyncClient(socket, timeout=TIMEOUT))
        for size, socket in sockets.items()
    }


def _table(panel: Panel) -> Iterator[str]:
    first, *others = panel.curves[0].seconds
    yield f"{panel.size + ':':<36} {first:>10,} " + " ".join(f"{size:>11,}" for size in others)
    for one in panel.curves:
        multiples = " ".join(f"{one.relative[size]:>9.2f} x" for size in others)
        yield f"  {one.operation:<34} {one.seconds[first] * 1e6:>7.0f} µs {multiples}"
    yield ""
