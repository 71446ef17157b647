"""Named points of the daemon's way where a test can make it fail. Off unless a variable names some:

    JOBKEEPD_FAILPOINTS='after commit=kill:3, before checkpoint=hang'

What lives here: the points, and what can happen at one. What may not: anything that a daemon does
when the variable is not set, and any use of it but to test.

At the N-th time that it is passed (the first, unless said otherwise), a point may

- `kill` the process, as kill -9 would;
- `hang` the thread that passes it, for ever;
- fail with an `error`, as a disk would: OSError, EIO.

Points of a transaction are passed on the event loop or on the writer's thread, as `writer` decides.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator

from jobkeep_protocol.errors import InvalidRequest

log = logging.getLogger(__name__)

VARIABLE = "JOBKEEPD_FAILPOINTS"

POINTS = (
    "before commit",
    "after commit",
    "before acknowledgement",
    "before checkpoint",
    "after checkpoint",
    "after failure",
    "in migration copy",
    "after migration copy",
    "after migration statement",
    "after migration",
)
"""`in migration copy` the file is there and empty; all statements of a migration, its last one
included, pass the same point; `after failure` nothing is written any more."""


def reached(point: str) -> None:
    """This point is passed now. Costs next to nothing while none is set."""
    if _armed:
        _pass(point)


def arm(text: str) -> None:
    """Set the points that the variable's text names, instead of those set before, and say so.

    Raises InvalidRequest, naming what cannot be understood and what is allowed.
    """
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    armed = dict(_parse(part) for part in parts)
    _armed.clear()
    _armed.update(armed)
    if armed:
        log.warning("%s is set: this daemon is made to fail (%s)", VARIABLE, ", ".join(parts))


class _Failure:
    """What happens at a point, and when."""

    def __init__(self, action: Callable[[str], None], at: int) -> None:
        self.action = action
        self.at = at
        self.passes: Iterator[int] = itertools.count(1)


_armed: dict[str, _Failure] = {}


def _pass(point: str) -> None:
    assert point in POINTS, point
    failure = _armed.get(point)
    if failure is not None and next(failure.passes) == failure.at:
        failure.action(point)


def _parse(part: str) -> tuple[str, _Failure]:
    point, _, what = part.partition("=")
    name, _, count = what.partition(":")
    if point not in POINTS or name not in _ACTIONS or not (count or "1").isdecimal():
        raise _misunderstood(part)
    at = int(count or "1")
    if at == 0:
        raise _misunderstood(part)
    return point, _Failure(_ACTIONS[name], at)


def _misunderstood(part: str) -> InvalidRequest:
    return InvalidRequest(
        f"{VARIABLE} has {part!r}; expected POINT=ACTION or POINT=ACTION:N, separated by commas, "
        f"with one of the points {', '.join(POINTS)}, one of the actions {', '.join(_ACTIONS)}, "
        "and N from 1"
    )


def _kill(_: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang(_: str) -> None:
    threading.Event().wait()


def _error(point: str) -> None:
    raise OSError(errno.EIO, f"failpoint {point!r}")


_ACTIONS: dict[str, Callable[[str], None]] = {"kill": _kill, "hang": _hang, "error": _error}
