"""What changed in a state since it was last seen.

What lives here: for each job last loaded or saved, its sequence and the encoded form of each
sheet, and the comparison that makes a save as small as the change. What may not: I/O.

Every save looks at every sheet, since nobody tells which were changed. So what is done for each of
them is left to C: encoding by `map`, comparing by `==` and `ne`.

The encoded form is kept rather than the objects, since callers change their states in place. It
is only ever used together with the sequence it was seen at: the daemon refuses a change that is
based on another one, so a forgotten or outdated entry costs a larger message and nothing else.
"""

from __future__ import annotations

import itertools
import operator
from collections import OrderedDict
from typing import Any, cast

import msgspec
from msgspec import Struct

from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.explain import UNENCODABLE, explain_unencodable
from jobkeep_protocol.messages import Save
from jobkeep_protocol.states import CheckpointState, SheetState
from jobkeep_protocol.values import refused

DEFAULT_CAPACITY = 64

_encoder = msgspec.msgpack.Encoder()
_unpacker = msgspec.msgpack.Decoder(dict[int, msgspec.Raw])


class EncodedSheets(Struct, frozen=True):
    """The sheets of a state as they go over the wire, in the order of the state."""

    numbers: list[int]
    encoded: list[bytes]


class SeenJob(Struct, frozen=True):
    """A job as it was last seen."""

    sequence: int
    sheets: EncodedSheets


class _LoadedJob(Struct, frozen=True):
    """The same before it is needed: all sheets in one piece, since most loads precede no save."""

    sequence: int
    packed: bytes

    def unpacked(self) -> SeenJob:
        sheets = _unpacker.decode(self.packed)
        encoded = [bytes(one) for one in sheets.values()]
        return SeenJob(self.sequence, EncodedSheets(list(sheets), encoded))


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
    try:
        encoded = list(map(_encoder.encode, state.sheets.values()))
    except UNENCODABLE:
        encoded = [_encode_checked(number, sheet) for number, sheet in state.sheets.items()]
    sheets = EncodedSheets(list(state.sheets), encoded)
    known = EncodedSheets([], []) if seen is None else seen.sheets
    for position in _different(sheets, known):
        number = sheets.numbers[position]
        encoded[position] = _encode_checked(number, state.sheets[number])
    return sheets


def _encode_checked(number: int, sheet: SheetState) -> bytes:
    name = f"sheets[{number!r}]"
    if type(sheet) is not SheetState:
        raise refused(name, sheet, "a SheetState")
    if number != sheet.sheet_num:
        raise refused(f"{name}.sheet_num", sheet.sheet_num, f"{number}, its key")
    try:
        sheet.check()  # before it is encoded: it turns times into UTC
    except InvalidRequest as error:
        raise InvalidRequest(f"{name}.{error}", error.data) from error
    try:
        return _encoder.encode(sheet)
    except UNENCODABLE as error:
        raise explain_unencodable(error, sheet, name) from error


def without_sheets(state: CheckpointState) -> CheckpointState:
    """A copy of the job, as it goes into a Save."""
    return msgspec.structs.replace(state, sheets={})


def whole(job: CheckpointState, sheets: EncodedSheets, if_revision: int | None) -> Save:
    """The request that sends all of a state: `job` comes without its sheets."""
    return Save(job, _raw(sheets.encoded), if_revision=if_revision)


def changed(
    job: CheckpointState, sheets: EncodedSheets, seen: SeenJob, if_revision: int | None
) -> Save:
    """The request that sends what differs from `seen`: `job` comes without its sheets."""
    different = [sheets.encoded[position] for position in _different(sheets, seen.sheets)]
    removed = []
    if sheets.numbers[: len(seen.sheets.numbers)] != seen.sheets.numbers:
        staying = set(sheets.numbers)
        removed = [number for number in seen.sheets.numbers if number not in staying]
    return Save(job, _raw(different), base=seen.sequence, removed=removed, if_revision=if_revision)


def _different(sheets: EncodedSheets, known: EncodedSheets) -> list[int]:
    """The positions of the sheets that are not as they were known."""
    numbers, encoded = sheets.numbers, sheets.encoded
    common = len(known.numbers)
    if numbers[:common] == known.numbers:
        differ = map(operator.ne, encoded, known.encoded)
        return [*itertools.compress(itertools.count(), differ), *range(common, len(numbers))]
    before = dict(zip(known.numbers, known.encoded, strict=True))
    together = zip(numbers, encoded, strict=True)
    return [place for place, (number, one) in enumerate(together) if before.get(number) != one]


def _raw(encoded: list[bytes]) -> list[SheetState]:
    # Already encoded, and so encoded once only; for the type checker they are what they encode.
    raw: list[Any] = [msgspec.Raw(one) for one in encoded]
    return cast("list[SheetState]", raw)
