"""A connection to a daemon without a client: the time of an exchange is the daemon's and the
socket's.

What lives here: that connection, and a request that is ready to be sent. What may not: measuring
more than one exchange.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

from jobkeep.core import Pipeline
from jobkeep_protocol.changes import EncodedSheets, SeenJob, changed, encode_sheets, without_sheets
from jobkeep_protocol.request import Request
from jobkeep_protocol.states import CheckpointState

READ_BYTES = 256 * 1024


class Wire:
    """One request at a time."""

    def __init__(self, path: Path) -> None:
        self._pipeline = Pipeline()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._socket.sendall(self._pipeline.connection_made())

    def __enter__(self) -> Wire:
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


def save_of_first_sheet(state: CheckpointState, sequence: int) -> Request[Any]:
    """The request that saves sheet 1 of a job which is kept with this sequence."""
    first = CheckpointState(
        job_id=state.job_id, total_sheets=state.total_sheets, sheets={1: state.sheets[1]}
    )
    sheets = encode_sheets(first)
    return changed(without_sheets(first), sheets, SeenJob(sequence, EncodedSheets([], [])), None)
