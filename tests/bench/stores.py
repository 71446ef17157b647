"""Systems that behave badly in a known way. Workers are other processes, so all is importable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.systems import plain
from bench.trial import System
from bench.workload import Connect
from jobkeep_protocol.states import CheckpointState


class BrokenError(Exception):
    """What the systems here raise."""


class RefusesSaves(plain.PlainStore):
    """Raises at every save."""

    async def save(self, state: CheckpointState) -> None:
        raise BrokenError(f"no save of {state.job_id}")


class FailsOnce(plain.PlainStore):
    """Raises at the first save of each worker."""

    has_failed = False

    async def save(self, state: CheckpointState) -> None:
        if not self.has_failed:
            self.has_failed = True
            raise BrokenError("once")
        await super().save(state)


class ForgetsSaves(plain.PlainStore):
    """Says it has saved, and has not."""

    async def save(self, state: CheckpointState) -> None:
        del state


class CannotConnect(plain.PlainStore):
    """Raises when a worker connects; not when the outcome is looked at."""

    async def __aenter__(self) -> CannotConnect:
        if not self._path.with_name("refused").exists():
            self._path.with_name("refused").touch()
            raise BrokenError("no connection")
        return self


def system(store: type[plain.PlainStore]) -> System:
    """A system of these stores."""
    return System(store.__name__, partial(_serve, store))


@contextmanager
def _serve(store: type[plain.PlainStore], directory: Path) -> Iterator[Connect]:
    with plain.serve(directory):
        yield partial(store, directory / "state.db")
