"""What the service manager is told while the daemon runs.

What lives here: the regular sign of life, and the line that `systemctl status` shows. What may not:
how it is said (that is `systemd`).

A sign of life is given by the event loop, and only while the writer shows one too: should either
hang, the watchdog ends the daemon and starts another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from jobkeep_protocol.errors import JobkeepError
from jobkeep_protocol.messages import DaemonStatus
from jobkeepd.store.store import Store
from jobkeepd.systemd import ServiceManager

log = logging.getLogger(__name__)

STATUS_SECONDS = 10.0


class Reporter:
    """Tells the service manager how the daemon is, from `start` to `close`."""

    def __init__(
        self,
        manager: ServiceManager,
        store: Store,
        describe: Callable[[], Awaitable[DaemonStatus]],
    ) -> None:
        self._manager = manager
        self._store = store
        self._describe = describe
        self._tasks: list[asyncio.Task[None]] = []
        self._is_stopping = False

    async def start(self) -> None:
        """The daemon is ready."""
        self._manager.ready(await self._status())
        if self._manager.is_there:
            self._tasks.append(asyncio.create_task(self._tell_status()))
        if self._manager.watchdog_seconds is not None:
            pause = self._manager.watchdog_seconds / 3  # sd_watchdog_enabled(3): at most half of it
            self._tasks.append(asyncio.create_task(self._show_life(pause)))

    def stopping(self) -> None:
        """The daemon ends. The sign of life goes on."""
        self._is_stopping = True
        self._manager.stopping()

    async def close(self) -> None:
        """Tell nothing any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _show_life(self, pause: float) -> None:
        while True:
            if self._store.is_alive:
                self._manager.alive()
            else:
                log.error("the writer has done nothing for long: the watchdog is not fed")
            await asyncio.sleep(pause)

    async def _tell_status(self) -> None:
        while True:
            await asyncio.sleep(STATUS_SECONDS)
            if self._is_stopping:
                return
            self._manager.status(await self._status())

    async def _status(self) -> str:
        try:
            status = await self._describe()
        except JobkeepError as error:
            return str(error)
        return (
            f"{sum(status.jobs.values())} jobs ({status.jobs.get('running', 0)} running), "
            f"{status.clients} clients, {self._store.queued_writes} writes queued"
        )
