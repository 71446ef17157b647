"""Retention: what the daemon prunes by itself, by the settings.

What lives here: when it is due, and in which steps it is done. What may not: what goes (that is
`store.pruning`).

It looks at the start, every hour, and when the settings were read again. What may go is found on a
reader's connection, and removed in batches between the writes of others (`store.own_writes`).
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import Any

from jobkeep_protocol import calls
from jobkeep_protocol.errors import JobkeepError
from jobkeep_protocol.request import Read, Request
from jobkeepd.settings import Settings
from jobkeepd.store.failures import DatabaseFailed
from jobkeepd.store.own_writes import between_writes
from jobkeepd.store.store import Store

log = logging.getLogger(__name__)

EVERY_SECONDS = 3_600.0

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_LONGEST = 1_000 * 365 * 86_400


class Retention:
    """Prunes what the settings say, from `start` to `close`. Belongs to the loop of the store."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._rules = rules_of(settings)
        self._is_due = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._is_due.set()
        self._task = asyncio.get_running_loop().create_task(self._prune_for_ever())

    def reconfigure(self, settings: Settings) -> None:
        """Go by these settings from the next look on, which is now if they say something else."""
        rules = rules_of(settings)
        if rules != self._rules:
            self._rules = rules
            self._is_due.set()

    async def close(self) -> None:
        """Begin no further batch."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _prune_for_ever(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_SECONDS):  # `wait_for` may lose a cancellation
                    await self._is_due.wait()
            self._is_due.clear()
            try:
                await self._prune()
            except DatabaseFailed:
                return  # the daemon ends, and has said why
            except JobkeepError as error:
                log.error("pruning failed, and is tried again in an hour: %s", error)

    async def _prune(self) -> None:
        pruned = calls.Pruned()
        for rule in self._rules:
            await calls.run(calls.prune(**rule, pruned=pruned), self._exchange)
        if pruned.jobs or pruned.attempts or pruned.failures:
            log.info(
                "pruned %d jobs, %d attempts with %d bytes of prompts and outputs, and %d "
                "failures; the file is to be %d bytes shorter",
                pruned.jobs,
                pruned.attempts,
                pruned.bytes,
                pruned.failures,
                pruned.freed_bytes,
            )

    async def _exchange(self, request: Request[Any]) -> Any:
        """Read what may go, or apply a batch between other writes."""
        if isinstance(request, Read):
            return await self._store.read_for_itself(request)
        return await between_writes(self._store.drain, partial(self._store.apply, request))


def rules_of(settings: Settings) -> list[dict[str, Any]]:
    """What is pruned by these settings, each as `calls.prune` takes it."""
    rules: list[dict[str, Any]] = []
    for one in settings.prune_jobs:
        status, _, age = one.partition(":")
        rules.append({"status": status, "older_than": _age(age)})
    if settings.prune_attempts_older_than or settings.prune_keep_last:
        older_than = settings.prune_attempts_older_than
        rules.append(
            {
                "older_than": _age(older_than) if older_than else None,
                "keep_last": settings.prune_keep_last or None,
            }
        )
    if settings.prune_max_bytes:
        rules.append({"max_bytes": settings.prune_max_bytes})
    return rules


def _age(text: str) -> float:
    """Seconds in `30d`; an age beyond all that is kept where it is longer."""
    return float(min(int(text[:-1]) * _SECONDS[text[-1]], _LONGEST))
