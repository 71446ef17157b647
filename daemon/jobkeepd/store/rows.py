"""How a state becomes a row and a row becomes a state.

What lives here: the columns of `jobs` and `sheets` that hold a state, derived from the fields of
the state types, and the conversion of their values. What may not: statements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from types import UnionType
from typing import Any, get_args, get_origin

import msgspec

from jobkeep_protocol.errors import InvalidRequest, StorageError
from jobkeep_protocol.states import CheckpointState, JobStatus, SheetState, SheetStatus

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_COLUMN_NAMES = {"job_id": "id", "job_name": "name"}
"""Fields of the job whose column has another name."""


class RowCodec:
    """Converts between one state type and rows of some of its columns.

    `fields` are the names in the state, `columns` those in the table, in the order of the rows.
    """

    def __init__(self, kind: type[CheckpointState] | type[SheetState], fields: list[str]) -> None:
        types = {one.name: one.type for one in msgspec.structs.fields(kind)}
        self._kind = kind
        self.fields = fields
        self.columns = fields
        if kind is CheckpointState:
            self.columns = [_COLUMN_NAMES.get(name, name) for name in fields]
        self._values = attrgetter(*fields)
        self._to_row = _converters(_to_row, [types[name] for name in fields])
        self._from_row = _converters(_from_row, [types[name] for name in fields])

    def row(self, state: CheckpointState | SheetState) -> list[Any]:
        """The values of `columns` for this state."""
        values = list(self._values(state))
        for index, convert in self._to_row:
            if values[index] is not None:
                values[index] = convert(values[index])
        return values

    def state(self, row: Sequence[Any]) -> Any:
        """The state in a row of `columns`.

        Raises StorageError for what no state can hold.
        """
        values = list(row)
        try:
            for index, convert in self._from_row:
                if values[index] is not None:
                    values[index] = convert(values[index])
            return self._kind(**dict(zip(self.fields, values, strict=True)))
        except (InvalidRequest, ValueError, TypeError, msgspec.DecodeError) as error:
            raise StorageError(
                f"a row of the database holds what no {self._kind.__name__} can: {error} "
                f"(the row begins with {list(row[:3])!r}); was it changed by another program?"
            ) from error


SHEET_ENDED_AT = """coalesce(sheets.completed_at,
    CASE WHEN sheets.status IN ('failed', 'skipped') THEN jobs.updated_at END)"""
"""When a sheet ended, in a statement that has its job beside it: one that was saved as failed or
skipped may have no time, and ended at the last update of its job at the latest."""


def to_text(value: datetime) -> str:
    """A time as it is kept: ISO 8601, UTC, always with microseconds, so that text order is time
    order."""
    return value.isoformat(timespec="microseconds")


def sequence_at(moment: datetime) -> int:
    """The smallest sequence of what is updated at this moment: its microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def _converters(
    find: Callable[[Any], Callable[[Any], Any] | None], types: list[Any]
) -> list[tuple[int, Callable[[Any], Any]]]:
    """The positions that need converting, each with its function."""
    found = [(index, find(kind)) for index, kind in enumerate(types)]
    return [(index, convert) for index, convert in found if convert is not None]


def _to_row(kind: Any) -> Callable[[Any], Any] | None:
    types = _types(kind)
    if types & {list, dict}:
        return lambda value: msgspec.json.encode(value).decode()
    if datetime in types:
        return to_text
    if bool in types:
        return int
    if types & {JobStatus, SheetStatus}:
        return str
    return None


def _from_row(kind: Any) -> Callable[[Any], Any] | None:
    types = _types(kind)
    if types & {list, dict}:
        return msgspec.json.decode
    if datetime in types:
        return datetime.fromisoformat
    if bool in types:
        return bool
    return None


def _types(kind: Any) -> set[Any]:
    """`list[str] | None` -> {list, NoneType}."""
    alternatives = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    return {get_origin(one) or one for one in alternatives}


SHEETS = RowCodec(SheetState, [one.name for one in msgspec.structs.fields(SheetState)])
"""A whole sheet; `job_id` has a column of its own."""

_JOB_FIELDS = [one.name for one in msgspec.structs.fields(CheckpointState) if one.name != "sheets"]

JOBS = RowCodec(CheckpointState, _JOB_FIELDS)
"""A whole job."""

CHANGING = RowCodec(
    CheckpointState, [name for name in _JOB_FIELDS if name not in {"job_id", "created_at"}]
)
"""What a save may change in a job that is kept already."""

UNMOVED = RowCodec(
    CheckpointState, [name for name in CHANGING.fields if name not in {"status", "pid"}]
)
"""The same of a job whose status and process stay: SQLite writes the indexes of all columns it is
given."""

PROGRESS = RowCodec(
    CheckpointState,
    [
        "job_id",
        "status",
        "total_sheets",
        "last_completed_sheet",
        "current_sheet",
        "started_at",
        "completed_at",
        "updated_at",
        "pid",
        "error_message",
        "total_retry_count",
        "revision",
    ],
)
"""What transitions look at and change: never the parts of a job that can be large."""
