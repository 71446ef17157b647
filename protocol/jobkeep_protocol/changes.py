"""What changed in a state since it was last seen.

What lives here: for each job last loaded or saved, its sequence and the encoded form of each
sheet, and the comparison that makes a save as small as the change. What may not: I/O.

The encoded form is kept rather than the objects, since callers change their states in place. It
is only ever used together with the sequence it was seen at: the daemon refuses a change that is
based on another one, so a forgotten or outdated entry costs a larger message and nothing else.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple, cast

import msgspec

from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.explain import UNENCODABLE, explain_unencodable
from jobkeep_protocol.messages import Save
from jobkeep_protocol.states import CheckpointState, SheetState
from jobkeep_protocol.values import refused

DEFAULT_CAPACITY = 64

EncodedSheets = dict[int, bytes]

_encoder = msgspec.msgpack.Encoder()
_unpacker = msgspec.msgpack.Decoder(dict[int, msgspec.Raw])


class SeenJob(NamedTuple):
    """A job as it was last seen."""

    sequence: int
    sheets: EncodedSheets


class _LoadedJob(NamedTuple):
    """The same before it is needed: all sheets in one piece, since most loads precede no save."""

    sequence: int
    packed: bytes

    def unpacked(self) -> SeenJob:
        sheets = _unpacker.decode(self.packed)
        return SeenJob(self.sequence, {number: bytes(one) for number, one in sheets.items()})


class SeenJobs:
    """The jobs last seen, the most recently used `capacity` of them. 0 keeps none."""

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self._capacity = capacity
        self._jobs: OrderedDict[str, SeenJob | _LoadedJob] = OrderedDict()

    def get(self, job_id: str) -> SeenJob | None:
        """The job as it was last seen, if that is still known."""
        found = self._jobs.get(job_id)
        if isinstance(found, _LoadedJob):
            found = self._jobs[job_id] = found.unpacked()
        return found

    def put(self, job_id: str, sequence: int, sheets: EncodedSheets) -> None:
        """The kept job is at this sequence, with these sheets."""
        self._keep(job_id, SeenJob(sequence, sheets))

    def put_loaded(self, sequence: int, state: CheckpointState) -> None:
        """The kept job is at this sequence, and is this state, which was just decoded."""
        self._keep(state.job_id, _LoadedJob(sequence, _encoder.encode(state.sheets)))

    def _keep(self, job_id: str, seen: SeenJob | _LoadedJob) -> None:
        self._jobs[job_id] = seen
        self._jobs.move_to_end(job_id)
        while len(self._jobs) > self._capacity:
            self._jobs.popitem(last=False)

    def clear(self) -> None:
        """Nothing is known any more, as after a new connection: the database may be another."""
        self._jobs.clear()


def encode_sheets(state: CheckpointState, seen: SeenJob | None = None) -> EncodedSheets:
    """Each sheet as it goes over the wire.

    What is encoded as it was seen before has been checked before. Raises InvalidRequest, naming
    the sheet and the field, for what is not allowed.
    """
    known = seen.sheets if seen is not None else {}
    encoded: EncodedSheets = {}
    for number, sheet in state.sheets.items():
        try:
            one = _encoder.encode(sheet)
        except UNENCODABLE as error:
            raise explain_unencodable(error, sheet, f"sheets[{number!r}]") from error
        encoded[number] = one if known.get(number) == one else _encode_checked(number, sheet)
    return encoded


def _encode_checked(number: int, sheet: SheetState) -> bytes:
    name = f"sheets[{number!r}]"
    if type(sheet) is not SheetState:
        raise refused(name, sheet, "a SheetState")
    if number != sheet.sheet_num:
        raise refused(f"{name}.sheet_num", sheet.sheet_num, f"{number}, its key")
    try:
        sheet.check()
    except InvalidRequest as error:
        raise InvalidRequest(f"{name}.{error}", error.data) from error
    return _encoder.encode(sheet)  # again: the check turns times into UTC


def without_sheets(state: CheckpointState) -> CheckpointState:
    """A copy of the job, as it goes into a Save."""
    return msgspec.structs.replace(state, sheets={})


def whole(job: CheckpointState, sheets: EncodedSheets, if_revision: int | None) -> Save:
    """The request that sends all of a state: `job` comes without its sheets."""
    return Save(job, _raw(list(sheets.values())), if_revision=if_revision)


def changed(
    job: CheckpointState, sheets: EncodedSheets, seen: SeenJob, if_revision: int | None
) -> Save:
    """The request that sends what differs from `seen`: `job` comes without its sheets."""
    different = [one for number, one in sheets.items() if seen.sheets.get(number) != one]
    removed = [number for number in seen.sheets if number not in sheets]
    return Save(job, _raw(different), base=seen.sequence, removed=removed, if_revision=if_revision)


def _raw(encoded: list[bytes]) -> list[SheetState]:
    # Already encoded, and so encoded once only; for the type checker they are what they encode.
    raw: list[Any] = [msgspec.Raw(one) for one in encoded]
    return cast("list[SheetState]", raw)
