"""What a runner and its workers say to each other: one JSON value a line, over the worker's pipes.

What lives here: the messages, and their lines. What may not: processes and pipes.

    the runner, on the worker's standard input      the worker, on its standard output
    Parameters, once
                                                    Claimed
    the sheet (a SheetState), for each Claimed
                                                    Retrying, any number of times
                                                    Done or Failed
                                                    … Claimed again, or the end; or Broken

The end of the worker's standard input means that it is to stop, or that the runner is gone; the
end of the worker's standard output means that it has ended. So neither can outlive the other by
much, however it ends.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec
from msgspec import Struct

from jobkeep_protocol.states import SheetState

PATIENCE_SECONDS = 60.0
"""How long a run waits for a daemon that was there and is not: time for it to be restarted."""


class Parameters(Struct, frozen=True):
    """What a worker needs to know. `attempts` is how often it tries a sheet."""

    socket: str
    job_id: str
    command: list[str]
    attempts: int


class Claimed(Struct, frozen=True, tag=True):
    """The worker has claimed a sheet, and waits for it."""

    sheet_num: int


class Retrying(Struct, frozen=True, tag=True):
    """An attempt failed; the worker tries the sheet again."""

    sheet_num: int
    message: str


class Done(Struct, frozen=True, tag=True):
    """The sheet is completed."""

    sheet_num: int


class Failed(Struct, frozen=True, tag=True):
    """The sheet is failed."""

    sheet_num: int
    message: str


class Broken(Struct, frozen=True, tag=True):
    """The worker cannot go on: an error of jobkeep, as it goes over the wire."""

    code: str
    message: str


Event: TypeAlias = Claimed | Retrying | Done | Failed | Broken

_encoder = msgspec.json.Encoder()
_events: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_parameters = msgspec.json.Decoder(Parameters)
_sheets = msgspec.json.Decoder(SheetState)


def line(message: Parameters | SheetState | Event) -> bytes:
    """A message as it is sent."""
    return _encoder.encode(message) + b"\n"


def read_event(received: bytes) -> Event:
    """What a worker said."""
    return _events.decode(received)


def read_parameters(received: bytes) -> Parameters:
    """The first thing that a runner says."""
    return _parameters.decode(received)


def read_sheet(received: bytes) -> SheetState:
    """The answer to Claimed."""
    return _sheets.decode(received)
