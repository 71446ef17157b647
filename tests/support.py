"""Waiting for conditions, and the loops that asyncio tests run on.

What lives here: helpers without fixtures. Every timeout goes through `scaled`, so that a slow
machine needs one variable: JOBKEEP_TEST_TIMEOUT_SCALE=5.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

TIMEOUT_SCALE = float(os.environ.get("JOBKEEP_TEST_TIMEOUT_SCALE", "1"))
PATIENCE = 20.0
"""Seconds after which what has not happened will not happen."""

_POLL_SECONDS = 0.005


def scaled(seconds: float) -> float:
    """A timeout for this machine."""
    return seconds * TIMEOUT_SCALE


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Return as soon as `condition()` is true; fail when it never is."""
    deadline = time.monotonic() + scaled(seconds)
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {scaled(seconds):g} seconds: {condition}")
        time.sleep(_POLL_SECONDS)


async def wait_until_async(
    condition: Callable[[], Awaitable[object]], seconds: float = PATIENCE
) -> None:
    """Return as soon as what `condition()` gives is true; fail when it never is."""
    async with asyncio.timeout(scaled(seconds)):
        while not await condition():  # noqa: ASYNC110 # what it waits for has no event
            await asyncio.sleep(_POLL_SECONDS)


class UnhandledExceptions:
    """What event loops had to handle because nobody else did."""

    def __init__(self) -> None:
        self.contexts: list[dict[str, Any]] = []
        self.loops = 0

    def watch(self, loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
        """Collect what this loop has to handle."""
        self.loops += 1
        loop.set_exception_handler(lambda _, context: self.contexts.append(context))
        return loop

    def take(self) -> list[dict[str, Any]]:
        """What was collected since the last time."""
        contexts, self.contexts = self.contexts, []
        self.loops = 0
        return contexts


unhandled_exceptions = UnhandledExceptions()


class DebugLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, in debug mode whatever it is told."""

    def set_debug(self, enabled: bool) -> None:
        del enabled
        super().set_debug(True)


def new_uvloop() -> asyncio.AbstractEventLoop:
    """A loop of the kind the daemon runs on."""
    return unhandled_exceptions.watch(uvloop.new_event_loop())


def new_debug_loop() -> asyncio.AbstractEventLoop:
    """A loop that complains about what asyncio forbids."""
    return unhandled_exceptions.watch(DebugLoop())
