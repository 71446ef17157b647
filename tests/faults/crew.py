"""Several client processes that work at the same time.

What lives here: starting, waiting for, replacing and ending all of them. What may not: what one of
them does (that is the module they run), and the daemon.
"""

from __future__ import annotations

import itertools
from pathlib import Path

from tests.faults.client_process import FACES, ClientProcess, Order
from tests.faults.operations import logged_bytes
from tests.support import PATIENCE, scaled, wait_until


class Crew:
    """Clients that run one module, of both kinds in turn. `members` are all there ever were.

    Their names begin with `name`, from which a client may take its random choices.
    """

    def __init__(self, module: str, socket: Path, name: str = "client") -> None:
        self.members: list[ClientProcess] = []
        self._module = module
        self._socket = socket
        self._name = name
        self._faces = itertools.cycle(FACES)

    @property
    def living(self) -> list[ClientProcess]:
        """Those that were not killed."""
        return [one for one in self.members if one.died_at is None]

    def hire(self, number: int, timeout: float | None = None) -> None:
        """Start so many more; returns when they work. Without a timeout they wait for a daemon as
        long as it may take to come back."""
        if timeout is None:
            timeout = scaled(PATIENCE)
        hired = [
            ClientProcess(
                self._module,
                next(self._faces),
                f"{self._name}-{len(self.members) + place}",
                self._socket,
                timeout,
            )
            for place in range(number)
        ]
        self.members += hired
        for one in hired:
            one.wait_for("ready")

    def wait_until_logged(self, more: int) -> None:
        """Return when they have logged so many bytes more."""
        goal = self._logged() + more
        wait_until(lambda: self._logged() >= goal)

    def order(self, order: Order) -> None:
        """Give an order to all, and wait until all have carried it out."""
        for one in self.living:
            one.order(order)
        for one in self.living:
            one.wait_for(order)

    def leave(self) -> None:
        """Let all end, and hold them to an exit status of 0."""
        for one in self.living:
            one.leave()

    def clean_up(self) -> None:
        """Leave nothing behind, whatever the test did."""
        for one in self.members:
            one.clean_up()

    def _logged(self) -> int:
        for one in self.living:
            assert one.failure is None, one.failure
        return logged_bytes(one.log for one in self.members)
