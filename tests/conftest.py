"""What all tests share: the event loops they run on, and a daemon to talk to."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.daemon_process import DaemonProcess
from tests.support import new_debug_loop, new_uvloop, scaled, unhandled_exceptions

if TYPE_CHECKING:
    import asyncio

settings.register_profile("jobkeep", deadline=None, derandomize=True)
settings.load_profile("jobkeep")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every asyncio test runs on both kinds of loop."""
    del config, item
    return {"uvloop": new_uvloop, "asyncio": new_debug_loop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The time limit of a test scales like every other timeout."""
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(scaled(120)))


def pytest_collection_finish() -> None:
    """Leave what is loaded by now out of every later garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_unhandled_exceptions() -> Iterator[None]:
    """An exception that a loop had to handle fails the test that caused it."""
    unhandled_exceptions.take()
    yield
    if unhandled_exceptions.loops:
        gc.collect(1)  # a task or future that failed unseen says so when it is collected
    contexts = unhandled_exceptions.take()
    assert not contexts, contexts


@pytest.fixture
def daemon_process(tmp_path: Path) -> Iterator[DaemonProcess]:
    """A daemon that is not started yet."""
    process = DaemonProcess(tmp_path)
    yield process
    process.clean_up()


@pytest.fixture
def daemon(daemon_process: DaemonProcess) -> DaemonProcess:
    """A daemon that is ready."""
    daemon_process.start()
    return daemon_process
