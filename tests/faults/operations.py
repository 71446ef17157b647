"""What clients did, as they saw it: one line in a log when an operation begins, one when it ends.

What lives here: the log of a client process and how it is read. What may not: what is done, and
whether it was right.

A line is written with one write(2) before the operation begins, or after it has ended, so that a
client killed in between leaves an operation of which nobody knows whether it took effect. Times are
nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
from msgspec import Struct

from jobkeep import DaemonUnavailable, JobkeepError, RequestTimeout

T = TypeVar("T")

REFUSED = "refused"
"""In the result of an operation that the daemon refused, before the error's code."""

READS = frozenset({"load", "get_execution_history_count"})
"""Operations that change nothing."""


class Operation(Struct, kw_only=True):
    """One operation on one job.

    `returned` and `result` are None for an operation without a known end: it may have taken effect
    at any time after `invoked`, may do so yet, or never.
    """

    by: str
    job_id: str
    name: str
    arguments: list[Any]
    invoked: int
    returned: int | None = None
    result: Any = None

    @property
    def is_write(self) -> bool:
        """Whether it may change something."""
        return self.name not in READS

    @property
    def is_acknowledged(self) -> bool:
        """Whether it has an end that was no refusal."""
        refused = isinstance(self.result, list) and self.result[:1] == [REFUSED]
        return self.returned is not None and not refused


class _Begun(Struct, array_like=True, tag="begun"):
    number: int
    by: str
    job_id: str
    name: str
    arguments: list[Any]
    invoked: int


class _Ended(Struct, array_like=True, tag="ended"):
    number: int
    returned: int
    result: Any


class OperationLost(Exception):
    """Nobody knows whether the operation took effect, or will."""


class OperationLog:
    """The log of one process; `begun` is how many operations it has."""

    def __init__(self, path: Path) -> None:
        self.begun = 0
        self._file = path.open("ab", buffering=0)
        self._encoder = msgspec.json.Encoder()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()

    async def record(
        self,
        by: str,
        job_id: str,
        name: str,
        arguments: list[Any],
        call: Awaitable[T],
        shown: Callable[[T], Any] = lambda result: result,
    ) -> T:
        """Await a call that has not begun; gives what it gives, and logs what is `shown` of it.

        Raises OperationLost when there was no answer; a refusal is kept as a result and raised.
        """
        number = self.begun
        self.begun += 1
        self._write(_Begun(number, by, job_id, name, arguments, time.monotonic_ns()))
        try:
            result = await call
        except (DaemonUnavailable, RequestTimeout) as error:
            raise OperationLost(str(error)) from error
        except JobkeepError as error:
            self._write(_Ended(number, time.monotonic_ns(), [REFUSED, error.code, error.data]))
            raise
        self._write(_Ended(number, time.monotonic_ns(), shown(result)))
        return result

    def _write(self, line: _Begun | _Ended) -> None:
        self._file.write(self._encoder.encode(line) + b"\n")


def read_log(path: Path) -> list[Operation]:
    """The operations of a process, in the order of their beginnings."""
    decoder = msgspec.json.Decoder(_Begun | _Ended)
    operations: dict[int, Operation] = {}
    lines = path.read_bytes().split(b"\n")
    for text in lines[:-1]:  # what follows the last line's end is a line cut short by a kill
        line = decoder.decode(text)
        if isinstance(line, _Ended):
            operations[line.number].returned = line.returned
            operations[line.number].result = line.result
        else:
            operations[line.number] = Operation(
                by=line.by,
                job_id=line.job_id,
                name=line.name,
                arguments=line.arguments,
                invoked=line.invoked,
            )
    return list(operations.values())


def logged_bytes(paths: Iterable[Path]) -> int:
    """How much is in these logs: a measure of how far their clients are."""
    return sum(path.stat().st_size for path in paths if path.exists())
