"""What a request is: its name, who may send it, and what its fields may hold.

What lives here: the base of all requests, the families that an operation derives from, and the
checks of fields by their names. What may not: any operation (those are in `messages`).

An operation is a frozen Struct that derives from `Read[Reply]`, `Stream[Reply]`, `Write[Reply]`,
`Admin[Reply]` or `Control[Reply]`. On the wire it is an array: its name in snake_case, then its
fields. New fields go at the end and have defaults, so that an older peer can still read it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial
from typing import Any, ClassVar, Generic, Literal, TypeVar, get_args

from msgspec import Struct
from msgspec.structs import replace

from jobkeep_protocol.errors import LimitExceeded
from jobkeep_protocol.states import CheckpointState
from jobkeep_protocol.values import (
    MAX_INTEGER,
    MIN_INTEGER,
    as_utc,
    check_integer,
    check_integers,
    check_job_id,
    check_json,
    check_number,
    is_integer,
    refused,
)

MAX_TEXT_BYTES = 16 * 1024 * 1024
"""The largest prompt or output of one record."""

MAX_WAIT_SECONDS = 60.0
"""How long a stream may be told to wait for something new."""

ReplyT = TypeVar("ReplyT")
Role = Literal["read", "write", "admin"]


def operation_name(class_name: str) -> str:
    """`QueryJobs` -> `query_jobs`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", class_name).lower()


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise refused(name, value, "text")
    if len(value) * 4 > MAX_TEXT_BYTES and len(value.encode(errors="replace")) > MAX_TEXT_BYTES:
        raise LimitExceeded(
            f"{name} has more than {MAX_TEXT_BYTES} bytes of UTF-8; keep its head and its tail",
            {"limit": name, "maximum": MAX_TEXT_BYTES},
        )


def _check_sheet_nums(name: str, values: list[int]) -> None:
    for index, value in enumerate(values):
        if not (is_integer(value) and 1 <= value <= MAX_INTEGER):
            check_integer(f"{name}[{index}]", value, 1)  # its name takes longer than all the rest


def _check_job_ids(_: str, values: list[str]) -> None:
    for value in values:
        check_job_id(value)


def _check_sheets_are_beside(name: str, state: CheckpointState) -> None:
    if state.sheets:
        raise refused(
            f"{name}.sheets",
            state.sheets,
            "no sheets here: they go into `sheets`, beside the state",
        )


def _check_attempts(name: str, attempts: list[Any]) -> None:
    """Attempts and failures that are imported: what a request of one attempt may hold."""
    for index, attempt in enumerate(attempts):
        place = f"{name}[{index}]"
        check_integer(f"{place}.sheet_num", attempt.sheet_num, 1)
        check_integer(f"{place}.attempt_num", attempt.attempt_num, 0)
        if getattr(attempt, "failure", None) is not None:
            _check_attempts(f"{place}.failure", [attempt.failure])
        for field in _IMPORTED.keys() & set(attempt.__struct_fields__):
            value = getattr(attempt, field)
            if value is not None:
                _IMPORTED[field](f"{place}.{field}", value)


_IMPORTED: dict[str, Callable[[str, Any], object]] = {
    "executed_at": as_utc,
    "failed_at": as_utc,
    "prompt": _check_text,
    "output": _check_text,
    "error_message": _check_text,
    "duration_seconds": partial(check_number, low=0),
    "extra": check_json,
}
"""What the fields of an attempt that is imported may hold."""

LEAST = {
    "sheet_num": 1,
    "max_attempts": 1,
    "attempt_num": 0,
    "limit": 0,
    "if_revision": 0,
    "before_id": MIN_INTEGER,
    "after": MIN_INTEGER,
    "after_sheet": MIN_INTEGER,
    "offset": 0,
    "exit_code": MIN_INTEGER,
    "after_execution_id": MIN_INTEGER,
    "after_failure_id": MIN_INTEGER,
    "connection_id": 1,
    "payloads": 0,
    "min_sheets": 1,
    "after_sheets": 0,
    "keep_last": 1,
    "max_bytes": 0,
}
"""The integers, in any request, and the least that each may be."""

CHECKS: dict[str, Callable[[str, Any], object]] = {
    "job_id": lambda _name, value: check_job_id(value),
    "state": _check_sheets_are_beside,
    "removed": _check_sheet_nums,
    "duration_seconds": partial(check_number, low=0),
    "slower_than_seconds": partial(check_number, low=0),
    "wait_seconds": partial(check_number, low=0, high=MAX_WAIT_SECONDS),
    "since": as_utc,
    "until": as_utc,
    "before": as_utc,
    "prompt": _check_text,
    "output": _check_text,
    "pattern": _check_text,
    "after_pattern": _check_text,
    "error_category": _check_text,
    "error_code": _check_text,
    "text": _check_text,
    "query": _check_text,
    "after_rank": check_number,
    "job_ids": _check_job_ids,
    "after_job": lambda _name, value: check_job_id(value),
    "executions": _check_attempts,
    "failures": _check_attempts,
}
"""What any other field of this name may hold. None is for the type of the field to judge."""


class Request(Struct, Generic[ReplyT], frozen=True, array_like=True, tag=operation_name):
    """Base of all requests; `ReplyT` is what the answer holds.

    Raises InvalidRequest or LimitExceeded for a value that is not allowed.
    """

    role: ClassVar[Role]
    """Who may send this: a reader, a writer or an administrator."""

    @property
    def role_needed(self) -> Role:
        """Who may send this very request."""
        return self.role

    def following(self, reply: ReplyT) -> Request[ReplyT] | None:
        """The request for what comes after this reply, if the reply was a page and not the last."""
        del reply
        return None

    def __post_init__(self) -> None:
        integers, checks = _checks_of(type(self))
        check_integers(self, integers, may_be_none=True)
        for name, check in checks:
            value = getattr(self, name)
            if value is not None:
                check(name, value)


@cache
def _checks_of(
    operation: type[Request[Any]],
) -> tuple[dict[str, int], list[tuple[str, Callable[[str, Any], object]]]]:
    fields = operation.__struct_fields__
    integers = {name: LEAST[name] for name in fields if name in LEAST}
    return integers, [(name, CHECKS[name]) for name in fields if name in CHECKS]


class Read(Request[ReplyT], frozen=True):
    """An operation that changes nothing and may be sent again freely."""

    role: ClassVar[Role] = "read"


class Stream(Read[ReplyT], frozen=True):
    """A read that waits until there is something new, and has no last page.

    It has the fields `after`, where the page begins (null: now), and `wait_seconds`, after which
    the page is empty. Its reply is a page, whose first field has what is new, and whose `next` is
    the `after` of the request that follows.
    """

    def following(self, reply: Any) -> Request[ReplyT] | None:
        return replace(self, after=reply.next)

    @staticmethod
    def is_empty(reply: Any) -> bool:
        """Whether a page has nothing new."""
        return not getattr(reply, reply.__struct_fields__[0])


class Write(Request[ReplyT], frozen=True):
    """An operation that changes the database, applied once for each request id."""

    role: ClassVar[Role] = "write"


class Admin(Write[ReplyT], frozen=True):
    """A write that takes away what others may rely on."""

    role: ClassVar[Role] = "admin"


class Control(Read[ReplyT], frozen=True):
    """An operation on the daemon as a whole, which changes no job and may be sent again freely."""

    role: ClassVar[Role] = "admin"


def name_of(operation: type[Request[Any]]) -> str:
    """The name of an operation on the wire, as it was declared."""
    return str(operation.__struct_config__.tag)


@cache
def reply_type(operation: type[Request[Any]]) -> Any:
    """The type that the answer to this operation holds."""
    (declared,) = get_args(operation.__orig_bases__[0])  # type: ignore[attr-defined] # set by typing for each class with a parametrised base
    return declared
