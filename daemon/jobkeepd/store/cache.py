"""The states that were read last, as they go out.

What lives here: a bounded cache of encoded replies to Load, and what keeps it true. What may not:
reading the database, and knowing what a request changes (that is `store`).

The daemon is the only writer, so a state that was read stays true until one of its own writes
changes it. A write is reported after its commit and before it is acknowledged, and so is never
followed by an older state. Belongs to the event loop.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

DEFAULT_CACHE_BYTES = 32 * 1024 * 1024

ENTRY_BYTES = 700
"""What an entry takes beyond its content: measured with tracemalloc on CPython 3.11."""


class Reading:
    """A state that is being read. `is_outdated` once it has changed since the reading began."""

    def __init__(self) -> None:
        self.is_outdated = False


class StateCache:
    """Encoded states by job, the most recently used that fit in `max_bytes`. 0 keeps none."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._states: OrderedDict[str, msgspec.Raw] = OrderedDict()
        self._readings: dict[str, set[Reading]] = {}
        self.bytes = 0

    def get(self, job_id: str) -> msgspec.Raw | None:
        """The state of a job, if it is known."""
        state = self._states.get(job_id)
        if state is not None:
            self._states.move_to_end(job_id)
        return state

    @contextmanager
    def reading(self, job_id: str) -> Iterator[Reading]:
        """Read a state out of the database: only what did not change meanwhile may be kept."""
        reading = Reading()
        readings = self._readings.setdefault(job_id, set())
        readings.add(reading)
        try:
            yield reading
        finally:
            readings.discard(reading)
            if not readings:
                self._readings.pop(job_id, None)

    def put(self, job_id: str, state: msgspec.Raw, reading: Reading) -> None:
        """Keep a state, if it is still what `reading` found."""
        if reading.is_outdated:
            return
        self._forget(job_id)
        self._states[job_id] = state
        self.bytes += _size(job_id, state)
        while self.bytes > self._max_bytes:
            self._forget(next(iter(self._states)))

    def changed(self, job_id: str) -> None:
        """The job is not any more what it was."""
        self._forget(job_id)
        for reading in self._readings.get(job_id, ()):
            reading.is_outdated = True

    def all_changed(self) -> None:
        """Nothing that was read can be relied on."""
        self._states.clear()
        self.bytes = 0
        for readings in self._readings.values():
            for reading in readings:
                reading.is_outdated = True

    def _forget(self, job_id: str) -> None:
        state = self._states.pop(job_id, None)
        if state is not None:
            self.bytes -= _size(job_id, state)


def _size(job_id: str, state: msgspec.Raw) -> int:
    return len(job_id.encode()) + memoryview(state).nbytes + ENTRY_BYTES
