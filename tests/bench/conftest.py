"""What the tests of the benchmark share: a place for the data of servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import postgres_server, redis_server
from bench.places import data_directory
from bench.trial import System


@pytest.fixture
def data() -> Iterator[Path]:
    """A directory as the benchmark uses it: `tmp_path` is closed to the user that PostgreSQL runs
    as when the tests run as root."""
    with data_directory() as directory:
        yield directory


@pytest.fixture
def system(request: pytest.FixtureRequest, data: Path) -> System:
    """The system of the parameter, where this machine can run it."""
    found: System = request.param
    skip_if(found.lacks(data))
    return found


@pytest.fixture
def redis_is_here(data: Path) -> None:
    """Skips where there is no Redis."""
    skip_if(redis_server.lacks(data))


@pytest.fixture
def postgres_is_here(data: Path) -> None:
    """Skips where there is no PostgreSQL."""
    skip_if(postgres_server.lacks(data))


def skip_if(reason: str | None) -> None:
    """Skip for this reason, if there is one: it names the package."""
    if reason is not None:
        pytest.skip(reason)
