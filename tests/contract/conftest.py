"""The three backends that the contract is tested against."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from jobkeep_protocol import calls
from jobkeep_protocol.backend import StateBackend
from jobkeep_protocol.states import CheckpointState
from jobkeepd.limits import Limits
from jobkeepd.store import pruning, readers, reads, transaction, writes
from tests.contract.clock import Clock
from tests.contract.implementations import IMPLEMENTATIONS
from tests.support import new_debug_loop


@pytest.fixture(params=IMPLEMENTATIONS)
async def backend(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[StateBackend[CheckpointState]]:
    """One implementation, on an empty database."""
    async with IMPLEMENTATIONS[request.param](tmp_path) as implementation:
        yield implementation


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """For the daemons too, which run in this process."""
    clock = Clock()
    for module in (transaction, writes, calls, pruning):
        monkeypatch.setattr(module, "utc_now", clock)
    return clock


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies that fill a page soon: after 10 rows, 4 kB or 5 jobs."""
    make = readers.Readers.__init__

    def make_with_small_pages(self: readers.Readers, database: Path, limits: Limits) -> None:
        make(self, database, msgspec.structs.replace(limits, max_page_rows=10))

    monkeypatch.setattr(readers.Readers, "__init__", make_with_small_pages)
    monkeypatch.setattr(readers, "PAGE_BYTES", 4_096)
    monkeypatch.setattr(readers, "STATE_BYTES", 4_096)
    monkeypatch.setattr(readers, "FIRST_ROWS", 3)
    monkeypatch.setattr(reads, "JOBS_A_PAGE", 5)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The blocking client has no loop: it is tested against a daemon on one kind, not on both."""
    redundant = [item for item in items if _is_redundant(item)]
    config.hook.pytest_deselected(items=redundant)
    items[:] = [item for item in items if item not in set(redundant)]


def _is_redundant(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)  # which only a parametrised test has
    parameters = {} if callspec is None else callspec.params
    return (
        parameters.get("backend") == "client"
        and parameters.get("_asyncio_loop_factory") is new_debug_loop
    )
