"""States in the caller's own type: pydantic models, dataclasses and msgspec Structs.

What lives here: turning such a state into a CheckpointState and back. What may not: sending one.

The rules:

- A field that jobkeep has goes to that field; any other goes into `extra`, at both levels, and
  comes back from there.
- A state is given only the fields its type has. What the kept job holds beyond them (its
  *remainder*) is kept in mind when it is loaded and is there again when it is saved, so that a
  program which knows less of a job does not take away from it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.explain import explain
from jobkeep_protocol.states import CheckpointState, SheetState
from jobkeep_protocol.values import refused

StateT = TypeVar("StateT")

_JOB_FIELDS = frozenset(CheckpointState.__struct_fields__)
_SHEET_FIELDS = frozenset(SheetState.__struct_fields__)
_SET_BY_SAVE = ("revision", "updated_at")


class Remainder(msgspec.Struct):
    """What a kept job holds and the caller's type does not."""

    job: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    sheets: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
    """By sheet number: fields, and keys of its `extra`."""


class Adapter(Generic[StateT]):
    """Converts between `state_type` and CheckpointState.

    `knows_all` says that there never is a remainder. Raises InvalidRequest for a type that is no
    pydantic model, dataclass or Struct.
    """

    def __init__(self, state_type: type[StateT]) -> None:
        self.state_type = state_type
        self.is_native = state_type is CheckpointState
        if self.is_native:
            self.knows_all = True
            return
        self._dump, self._restore = _converters(state_type)
        _prepare(CheckpointState)
        if not _is_pydantic(state_type):
            _prepare(state_type)
        self._fields = _field_types(state_type)
        missing = {"job_id", "total_sheets"} - set(self._fields)
        if missing:
            raise refused("state_type", state_type, f"a type with the field {missing.pop()}")
        sheets = _without_none(self._fields.get("sheets", dict))
        if not issubclass(get_origin(sheets) or sheets, Mapping):
            raise refused("state_type", state_type, "`sheets` as a dict from number to sheet")
        self._takes_any = _takes_any_field(state_type)
        sheet_type = _value_type(self._fields.get("sheets"))
        self._sheet_fields = _field_types(sheet_type) if sheet_type is not None else None
        self._sheet_takes_any = "sheets" in self._fields and (
            self._sheet_fields is None or _takes_any_field(sheet_type)
        )
        self.knows_all = False

    def check_type(self, value: StateT) -> None:
        """Refuse a state that is no `state_type`."""
        is_derived = self.is_native and type(value) is not CheckpointState
        if not isinstance(value, self.state_type) or is_derived:
            raise refused("state", value, f"a {self.state_type.__name__}, the client's state_type")

    def to_state(self, value: StateT, remainder: Remainder) -> CheckpointState:
        """The state that `value` stands for.

        Raises InvalidRequest, naming the field, for what no state can hold.
        """
        self.check_type(value)
        if isinstance(value, CheckpointState) and self.is_native:
            return value
        job, extra = _split(self._dumped(value), _JOB_FIELDS)
        sheets = job.pop("sheets", None) or {}
        if "sheets" not in self._fields:
            sheets = {number: {"sheet_num": number} for number in remainder.sheets}
        job = {**remainder.job, **job}
        job["extra"] = {**remainder.extra, **extra}
        job["sheets"] = {
            int(number): self._sheet(
                f"sheets[{number}].", sheet, remainder.sheets.get(int(number), ({}, {}))
            )
            for number, sheet in sheets.items()
        }
        state: CheckpointState = _convert("", job, CheckpointState)
        return state

    def to_sheet(self, sheet: Any, kept: SheetState | None = None) -> SheetState:
        """The SheetState for a sheet of the caller's type, with what `kept` has beyond that."""
        if type(sheet) is SheetState:
            return sheet
        dump, _ = _converters(type(sheet))
        beyond: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        if kept is not None:
            beyond = _beyond(kept, _field_types(type(sheet)), _takes_any_field(type(sheet)))
        return self._sheet("sheet.", dump(sheet), beyond)

    def from_state(self, state: CheckpointState) -> StateT:
        """The state in the caller's type.

        Raises InvalidRequest when the kept state does not fit that type.
        """
        if self.is_native:
            return state  # type: ignore[return-value] # is_native: StateT is CheckpointState
        data = _merged(state, self._fields, self._takes_any)
        if "sheets" in self._fields:
            data["sheets"] = {
                number: _merged(sheet, self._sheet_fields, self._sheet_takes_any)
                for number, sheet in state.sheets.items()
            }
        try:
            restored: StateT = self._restore(data)
        except ValueError as error:  # pydantic's and msgspec's validation errors are ValueErrors
            raise InvalidRequest(
                f"the kept state of job {state.job_id!r} does not fit "
                f"{self.state_type.__name__}: {error}"
            ) from error
        return restored

    def remainder(self, state: CheckpointState | None) -> Remainder:
        """What `state` holds beyond the fields of the caller's type."""
        if state is None or self.knows_all:
            return Remainder()
        job, extra = _beyond(state, self._fields, self._takes_any)
        job.pop("sheets", None)
        sheet_fields = self._sheet_fields if "sheets" in self._fields else {}
        beyond = {
            number: _beyond(sheet, sheet_fields, self._sheet_takes_any)
            for number, sheet in state.sheets.items()
        }
        return Remainder(job, extra, {number: one for number, one in beyond.items() if any(one)})

    def was_saved(self, value: StateT, facts: Mapping[str, Any]) -> None:
        """Set what a save has set, where the type has the field and lets it be set."""
        for name in _SET_BY_SAVE:
            if self.is_native or name in self._fields:
                try:
                    setattr(value, name, facts[name])
                except (AttributeError, TypeError, ValueError):
                    return  # a frozen state: the revision is what save returns

    def _dumped(self, value: Any) -> dict[str, Any]:
        try:
            dumped: dict[str, Any] = self._dump(value)
        except (TypeError, ValueError) as error:
            raise InvalidRequest(f"the state cannot be encoded: {error}") from error
        return dumped

    def _sheet(
        self, name: str, sheet: Mapping[str, Any], beyond: tuple[dict[str, Any], dict[str, Any]]
    ) -> SheetState:
        known, extra = _split(sheet, _SHEET_FIELDS)
        data = {**beyond[0], **known, "extra": {**beyond[1], **extra}}
        state: SheetState = _convert(name, data, SheetState)
        return state


def _split(
    dumped: Mapping[str, Any], known_fields: frozenset[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields that jobkeep has, and the others."""
    known = {name: value for name, value in dumped.items() if name in known_fields}
    extra = {name: value for name, value in dumped.items() if name not in known_fields}
    own_extra = known.pop("extra", None) or {}
    return known, {**own_extra, **extra}


def _merged(
    state: CheckpointState | SheetState, fields: Mapping[str, Any] | None, takes_any: bool
) -> dict[str, Any]:
    """The fields of a state that the caller's type has, and those from its `extra`."""
    data: dict[str, Any] = {
        name: getattr(state, name)
        for name in state.__struct_fields__
        if name not in {"sheets", "extra"} and (fields is None or name in fields)
    }
    if "status" in data:
        data["status"] = str(state.status)
    leftover = {}
    for name, value in state.extra.items():
        if takes_any or (fields is not None and name in fields):
            data[name] = value
        else:
            leftover[name] = value
    if fields is not None and "extra" in fields:
        data["extra"] = leftover
    return data


def _beyond(
    state: CheckpointState | SheetState, fields: Mapping[str, Any] | None, takes_any: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields, and the keys of `extra`, that the caller's type does not have."""
    if fields is None:
        return {}, {}
    job = {
        name: getattr(state, name)
        for name in state.__struct_fields__
        if name not in fields and name not in {"extra", *_SET_BY_SAVE}
    }
    keeps_extra = takes_any or "extra" in fields
    extra = {} if keeps_extra else {k: v for k, v in state.extra.items() if k not in fields}
    return job, extra


def _convert(name: str, data: dict[str, Any], kind: Any) -> Any:
    """The state in `data`. Raises InvalidRequest, naming the field after `name`."""
    try:
        return msgspec.convert(data, kind, strict=False)
    except ValueError as error:
        raise InvalidRequest(name + explain(str(error), error.__cause__, kind, data)) from error


def _converters(kind: Any) -> tuple[Callable[[Any], dict[str, Any]], Callable[[Any], Any]]:
    """How a value of this type becomes a dict of JSON values, and how it is made from one."""
    if _is_pydantic(kind):
        return (
            lambda value: value.model_dump(mode="json", by_alias=False),
            lambda data: kind.model_validate(_under_input_keys(kind, data), strict=False),
        )
    if _is_dataclass(kind) or issubclass(kind, msgspec.Struct):
        return msgspec.to_builtins, lambda data: msgspec.convert(data, kind, strict=False)
    raise refused("state_type", kind, "a pydantic model, a dataclass or a msgspec Struct")


def _prepare(kind: Any) -> None:
    """Let msgspec find out all about a type now, and not when two threads need it first: then one
    of them may use what the other has found only half of, which ends the process."""
    with _preparing, contextlib.suppress(TypeError):  # which is raised again by what needs it
        msgspec.msgpack.Decoder(kind)


_preparing = threading.RLock()
"""Reentrant, since a signal handler may make a client while another one is being made."""


def _field_types(kind: Any) -> dict[str, Any]:
    """The fields of a type, with their annotations."""
    if _is_pydantic(kind):
        return {name: one.annotation for name, one in kind.model_fields.items()}
    if _is_dataclass(kind):
        from dataclasses import fields  # there already, since there is a dataclass

        hints = get_type_hints(kind)
        return {one.name: hints[one.name] for one in fields(kind)}
    return {one.name: one.type for one in msgspec.structs.fields(kind)}


def _without_none(annotation: Any) -> Any:
    """`dict[int, Sheet] | None` -> `dict[int, Sheet]`."""
    alternatives = [one for one in get_args(annotation) if one is not type(None)]
    is_optional = type(None) in get_args(annotation) and len(alternatives) == 1
    return alternatives[0] if is_optional else annotation


def _value_type(annotation: Any) -> Any:
    """`dict[int, Sheet]`, or that or None, -> Sheet, where Sheet has fields."""
    arguments = get_args(_without_none(annotation))
    if len(arguments) != 2:
        return None
    kind = arguments[1]
    is_struct = isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    has_fields = _is_pydantic(kind) or _is_dataclass(kind) or is_struct
    return kind if has_fields else None


def _is_pydantic(kind: Any) -> bool:
    # Known by its methods: importing pydantic to ask would make it a dependency.
    return isinstance(kind, type) and hasattr(kind, "model_validate")


def _is_dataclass(kind: Any) -> bool:
    # As dataclasses.is_dataclass has it; importing that takes long, and most clients have no use
    # for it.
    return isinstance(kind, type) and hasattr(kind, "__dataclass_fields__")


def _takes_any_field(kind: Any) -> bool:
    """Whether a type keeps fields it does not declare, as pydantic's extra="allow"."""
    return _is_pydantic(kind) and kind.model_config.get("extra") == "allow"


def _under_input_keys(kind: Any, data: dict[str, Any]) -> dict[str, Any]:
    """`data` with each field, of the job and of its sheets, under the key it is read from."""
    keys = _pydantic_input_keys(kind)
    sheet = _value_type(kind.model_fields["sheets"].annotation) if "sheets" in data else None
    if _is_pydantic(sheet):
        sheets = {n: _under_input_keys(sheet, one) for n, one in data["sheets"].items()}
        data = {**data, "sheets": sheets}
    return {keys.get(name, name): value for name, value in data.items()}


def _pydantic_input_keys(kind: Any) -> dict[str, str]:
    """The key under which each field with an alias is read."""
    if kind.model_config.get("populate_by_name") or kind.model_config.get("validate_by_name"):
        return {}
    aliases = {name: one.validation_alias or one.alias for name, one in kind.model_fields.items()}
    return {name: alias for name, alias in aliases.items() if isinstance(alias, str)}
