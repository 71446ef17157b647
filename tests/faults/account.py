"""What a client was told about its writes, held against what is kept in the end.

What lives here: a client that writes until the daemon goes away, sends again what was not answered,
and an account of both. What may not: how the daemon is made to fail.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from jobkeep_protocol.codec import decode_reply
from jobkeep_protocol.errors import StorageError
from jobkeep_protocol.messages import SLOTS, RecordExecution, Save
from jobkeep_protocol.request import Request
from jobkeep_protocol.states import CheckpointState, SheetState
from tests.daemon.counters import assert_counters_are_right
from tests.wire import Wire

JOB_ID = "job"
SMALL, LARGE = 1_000, 3_000_000
"""A write that is committed on the daemon's event loop, and one that goes to a thread and is larger
than SQLite's cache, so that it spills into the log before the commit."""


class Ledger:
    """The writes of one client, each with a request id of its own.

    `acknowledged` are those that were answered well, `refused` those that were answered with
    nothing having been written, `unanswered` the rest: of those nobody knows. Each write but the
    first, which makes the job, is an attempt that has its request id as its number.
    """

    def __init__(self) -> None:
        self.acknowledged: set[int] = set()
        self.refused: dict[int, StorageError] = {}
        self.unanswered: dict[int, Request[Any]] = {}
        self._client_id = os.urandom(16)
        self._sequence = 0

    def write(self, socket: Path, sizes: list[int]) -> None:
        """Make the job and record attempts of these sizes, one after the other; then eight at once.

        Returns early when the daemon goes away.
        """
        with suppress(EOFError, ConnectionError), Wire(socket, self._client_id) as wire:
            if not self._sequence:
                job = CheckpointState(job_id=JOB_ID, total_sheets=3)
                self._send(wire, Save(job, [SheetState(sheet_num=1)]))
                self._receive(wire)
            for size in sizes:
                self._record(wire, size)
                self._receive(wire)
            for _ in range(8):
                self._record(wire, SMALL)
            for _ in range(8):
                self._receive(wire)

    def send_again(self, socket: Path) -> None:
        """Send what was not answered under the ids it had; all of it must go well now."""
        if not self.unanswered:
            return
        with Wire(socket, self._client_id) as wire:
            for request_id, request in sorted(self.unanswered.items()):
                wire.ask(request, request_id)
                self.acknowledged.add(request_id)
        self.unanswered.clear()

    def assert_is_kept_by(self, database: Path) -> None:
        """Every acknowledged write is there once, no other is, and the file is in order."""
        assert not self.unanswered, "send them again first"
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
            assert_counters_are_right(connection)
            jobs = connection.execute("SELECT id FROM jobs").fetchall()
            rows = connection.execute("SELECT attempt_num FROM execution_history").fetchall()
        kept = sorted(number for (number,) in rows)
        first = next(self._ids_from(0))
        assert jobs == ([(JOB_ID,)] if first in self.acknowledged else [])
        assert kept == sorted(self.acknowledged - {first})

    # -- inside -------------------------------------------------------------------------------

    @staticmethod
    def _ids_from(sequence: int) -> Iterator[int]:
        """Request ids in turn in all slots, as `jobkeep_protocol.messages` wants them."""
        while True:
            yield (sequence // SLOTS + 1) * SLOTS + sequence % SLOTS
            sequence += 1

    def _record(self, wire: Wire, size: int) -> None:
        request_id = next(self._ids_from(self._sequence))
        self._send(wire, RecordExecution(JOB_ID, 1, request_id, output="x" * size))

    def _send(self, wire: Wire, request: Request[Any]) -> None:
        request_id = next(self._ids_from(self._sequence))
        self._sequence += 1
        self.unanswered[request_id] = request
        wire.send(request, request_id)

    def _receive(self, wire: Wire) -> None:
        request_id, message = wire.receive()
        try:
            reply = decode_reply(type(self.unanswered[request_id]), message)
        except StorageError as error:
            if error.data.get("outcome") == "unknown":
                return
            self.refused[request_id] = error
        else:
            assert reply is not None, "the job was acknowledged"
            self.acknowledged.add(request_id)
        del self.unanswered[request_id]
