"""The clients: what they write, and how far along each of them a database is.

What lives here: a script of writes for each client, what the database holds after each of them, and
the sending, with many requests in flight. What may not: the daemon's life, and cuts.

Each client has jobs of its own and its writes are applied in the order in which they were sent, so
what a database holds of a client is what some number of its writes make, or it is wrong: half a
write, one applied twice, one that is missing between others, and a damaged text would all show.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from jobkeep_protocol.codec import OK_BEGINS, decode_reply, open_envelope
from jobkeep_protocol.errors import StorageError
from jobkeep_protocol.framing import FrameReader
from jobkeep_protocol.messages import (
    HELLO_ID,
    SLOTS,
    Delete,
    MarkSheetStatus,
    RecordExecution,
    Save,
    SaveSheet,
)
from jobkeep_protocol.request import Write
from jobkeep_protocol.states import CheckpointState, SheetState, SheetStatus
from tests.daemon_process import DaemonProcess
from tests.faults.power_cut.fates import seeded
from tests.faults.power_cut.trace import Accepted, Event, Sent
from tests.wire import Wire

SHEETS = 3
KEPT_JOBS = 3
"""How many jobs of a client there are at once; older ones are deleted."""

SMALL, LARGE = 200, 30_000
"""Characters in an attempt's output; one in ten is large."""


# -- what is written ----------------------------------------------------------------------------


def script(client: int, length: int, chance: random.Random) -> list[Write[Any]]:
    """The writes of one client, in order. Each leaves something else behind than all before."""
    writes: list[Write[Any]] = []
    number = 0
    while len(writes) < length:
        writes += _job(f"{client}/{number}", chance)
        if number >= KEPT_JOBS:
            writes.append(Delete(f"{client}/{number - KEPT_JOBS}"))
        number += 1
    return writes[:length]


def _job(job_id: str, chance: random.Random) -> Iterator[Write[Any]]:
    """A job from its beginning to its end."""
    sheets: list[SheetState] = []
    yield _save(job_id, sheets)
    for number in range(1, SHEETS + 1):
        for attempt in range(1, chance.randint(2, 3)):
            yield MarkSheetStatus(job_id, number, SheetStatus.IN_PROGRESS, f"begin {attempt}")
            yield _record(job_id, number, attempt, chance)
            yield MarkSheetStatus(job_id, number, SheetStatus.FAILED, f"fail {attempt}")
        yield _record(job_id, number, attempt + 1, chance)
        sheet = SheetState(sheet_num=number, status=SheetStatus.COMPLETED, error_message="done")
        sheets.append(sheet)
        yield SaveSheet(job_id, sheet) if chance.random() < 0.5 else _save(job_id, sheets)
    yield _save(job_id, sheets[1:])


def _save(job_id: str, sheets: list[SheetState]) -> Save:
    return Save(CheckpointState(job_id=job_id, total_sheets=SHEETS), list(sheets))


def _record(job_id: str, number: int, attempt: int, chance: random.Random) -> RecordExecution:
    size = chance.randint(1, LARGE if chance.random() < 0.1 else SMALL)
    output = chance.randbytes(size // 2).hex()
    return RecordExecution(job_id, number, attempt, f"attempt {attempt}", output, 0)


# -- what is kept -------------------------------------------------------------------------------


class Job(NamedTuple):
    """What is compared of a job."""

    job_id: str
    revision: int
    executions: int
    sheets: tuple[tuple[int, str, str | None], ...]
    records: tuple[tuple[int, str | None, str | None], ...]


Kept = tuple[Job, ...]
"""What is kept of one client, in the order of the jobs' ids."""


def after(kept: Kept, write: Write[Any]) -> Kept:
    """What a write makes of what is kept."""
    jobs = {job.job_id: job for job in kept}
    job_id = write.state.job_id if isinstance(write, Save) else write.job_id  # type: ignore[attr-defined] # every write here has one
    job = jobs.pop(job_id, Job(job_id, 0, 0, (), ()))
    match write:
        case Delete():
            return tuple(sorted(jobs.values()))
        case RecordExecution():
            record = (write.sheet_num, write.prompt, write.output)
            job = job._replace(executions=job.executions + 1, records=(*job.records, record))
        case Save():
            job = _with_sheets(job._replace(sheets=()), write.sheets)
        case SaveSheet():
            job = _with_sheets(job, [write.sheet])
        case MarkSheetStatus():
            sheet = SheetState(
                sheet_num=write.sheet_num, status=write.status, error_message=write.error_message
            )
            job = _with_sheets(job, [sheet])
    return tuple(sorted((*jobs.values(), job)))


def _with_sheets(job: Job, changed: list[SheetState]) -> Job:
    sheets = {number: (number, status, message) for number, status, message in job.sheets}
    for sheet in changed:
        row = (sheet.sheet_num, sheet.status.value, sheet.error_message)
        sheets[sheet.sheet_num] = row
    return job._replace(revision=job.revision + 1, sheets=tuple(sorted(sheets.values())))


def kept_in(connection: sqlite3.Connection, clients: int) -> list[Kept]:
    """What a database holds of each client."""
    sheets: dict[str, list[Any]] = {}
    for job_id, *sheet in connection.execute(
        "SELECT job_id, sheet_num, status, error_message FROM sheets ORDER BY job_id, sheet_num"
    ):
        sheets.setdefault(job_id, []).append(tuple(sheet))
    records: dict[str, list[Any]] = {}
    for job_id, *record in connection.execute(
        "SELECT job_id, sheet_num, prompt, output FROM execution_history ORDER BY id"
    ):
        records.setdefault(job_id, []).append(tuple(record))
    kept: list[list[Job]] = [[] for _ in range(clients)]
    for job_id, revision, executions in connection.execute(
        "SELECT id, revision, executions FROM jobs ORDER BY id"
    ):
        job = (tuple(of.pop(job_id, ())) for of in (sheets, records))
        kept[int(job_id.split("/")[0])].append(Job(job_id, revision, executions, *job))
    return [tuple(jobs) for jobs in kept]


class Scripts:
    """What all clients write, and what is kept after each number of their writes."""

    def __init__(self, clients: int, length: int, seed: int = 0) -> None:
        chance = seeded(seed)
        self.scripts = [script(client, length, chance) for client in range(clients)]
        self._written: list[dict[Kept, int]] = []
        for writes in self.scripts:
            kept: Kept = ()
            written = {kept: 0}
            for write in writes:
                kept = after(kept, write)
                assert kept not in written, f"{write} leaves nothing new"
                written[kept] = len(written)
            self._written.append(written)

    @property
    def nothing(self) -> list[int]:
        """How many writes of each client are in a database that is not there."""
        return [0 for _ in self.scripts]

    def written(self, kept: list[Kept]) -> list[int] | str:
        """How many writes of each client make what is kept of it; or why no number does."""
        written = [of.get(one) for of, one in zip(self._written, kept, strict=True)]
        numbers = [number for number in written if number is not None]
        if len(numbers) < len(written):
            client = written.index(None)
            return f"what is kept of client {client} was never so: {kept[client]!r:.1000}"
        return numbers


# -- sending ------------------------------------------------------------------------------------


class Clients:
    """Sends the scripts to a daemon, over all its lives, with many requests of each client on their
    way.

    As real clients do, they send what is unanswered again on the next connection, under the same
    ids. `answered` is how many of each have been answered already, none by default.
    """

    def __init__(
        self,
        daemon: DaemonProcess,
        scripts: Scripts,
        answered: Sequence[int] | None = None,
    ) -> None:
        self._daemon = daemon
        self._scripts = scripts.scripts
        self._chance = seeded(0)
        self._wires: list[Wire] = []
        self._sent = [0 for _ in self._scripts]
        self._answered = list(answered or self._sent)

    @property
    def answered(self) -> int:
        """How many writes have been answered, of all clients."""
        return sum(self._answered)

    @property
    def are_done(self) -> bool:
        """Whether all is written."""
        return self.answered == sum(len(writes) for writes in self._scripts)

    def write(self, count: float, in_flight: int) -> None:
        """Connect, and write, with up to `in_flight` requests of each client on their way, until so
        many more are answered, everything is, or the daemon is gone; then hang up."""
        assert in_flight <= SLOTS, "a client has a request in each slot at the most"
        goal = self.answered + count
        try:
            for client in range(len(self._scripts)):
                self._wires.append(Wire(self._daemon.socket, _client_id(client)))
            self._sent = list(self._answered)
            while self.answered < goal and not self.are_done:
                for client in range(len(self._scripts)):
                    self._send(client, in_flight)
                for client in range(len(self._scripts)):
                    self._receive(client)
        except (EOFError, ConnectionError):
            pass  # it is up to the caller whether the daemon may be gone
        except StorageError as error:
            if error.data.get("outcome") != "unknown":
                raise
        for wire in self._wires:
            wire.close()
        self._wires.clear()

    def _send(self, client: int, in_flight: int) -> None:
        writes = self._scripts[client]
        until = min(self._answered[client] + self._chance.randint(1, in_flight), len(writes))
        for index in range(self._sent[client], until):
            self._wires[client].send(writes[index], _request_id(client, index, len(self._scripts)))
            self._sent[client] = index + 1

    def _receive(self, client: int) -> None:
        index = self._answered[client]
        if index < self._sent[client]:
            request_id, message = self._wires[client].receive()
            assert request_id == _request_id(client, index, len(self._scripts)), "out of order"
            decode_reply(type(self._scripts[client][index]), message)
            self._answered[client] = index + 1


class Acknowledged:
    """How many writes of each client have been acknowledged, by what was sent to them."""

    def __init__(self, clients: int) -> None:
        self.writes = [0] * clients
        self._frames: dict[str, FrameReader] = {}

    def take(self, event: Event) -> None:
        """Learn from one event of a trace."""
        if isinstance(event, Accepted):
            self._frames[event.stream] = FrameReader()
        elif isinstance(event, Sent):
            for body in self._frames[event.stream].receive_data(event.data):
                request_id, message = open_envelope(body)
                if request_id != HELLO_ID and bytes(message).startswith(OK_BEGINS):
                    client, index = _written_by(request_id, len(self.writes))
                    self.writes[client] = max(self.writes[client], index + 1)


def _client_id(client: int) -> bytes:
    return b"client %9d" % client


def _request_id(client: int, index: int, clients: int) -> int:
    """An id that no two clients share, and that grows in each slot."""
    return ((index // SLOTS + 1) * clients + client) * SLOTS + index % SLOTS


def _written_by(request_id: int, clients: int) -> tuple[int, int]:
    """The client and the index of its write, by the id of the request."""
    sequence, slot = divmod(request_id, SLOTS)
    return sequence % clients, (sequence // clients - 1) * SLOTS + slot
