"""The calls that carry states, for states of the caller's type.

What lives here: `TypedStateCalls`, which joins the protocol's calls with the adapter and with what
is known of the jobs seen before; both clients run its calls. What may not: I/O.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Generic, TypeVar

from jobkeep.adapters import Adapter, Remainder
from jobkeep_protocol import calls
from jobkeep_protocol.calls import Call
from jobkeep_protocol.changes import DEFAULT_CAPACITY, SeenJobs

StateT = TypeVar("StateT")


class TypedStateCalls(Generic[StateT]):
    """`StateCalls` for the caller's type; remembers what was seen."""

    def __init__(self, state_type: type[StateT]) -> None:
        self._adapter = Adapter(state_type)
        self._seen = SeenJobs()
        self._remainders: OrderedDict[str, Remainder] = OrderedDict()

    def forget(self) -> None:
        """Trust nothing that was seen: there is a new connection, perhaps to another database."""
        self._seen.clear()
        self._remainders.clear()

    def load(self, job_id: str) -> Call[StateT | None]:
        """`StateBackend.load`."""
        state = yield from calls.load(job_id, self._seen)
        if state is None:
            return None
        self._remember(job_id, self._adapter.remainder(state))
        return self._adapter.from_state(state)

    def save(self, state: StateT, if_revision: int | None) -> Call[int]:
        """`StateBackend.save`."""
        job_id: str = getattr(state, "job_id", "")
        remainder = self._remainders.get(job_id)
        if remainder is None:
            remainder = Remainder()
            if not self._adapter.knows_all and job_id:
                kept = yield from calls.load(job_id, self._seen)
                remainder = self._adapter.remainder(kept)
            self._remember(job_id, remainder)
        ours = self._adapter.to_state(state, remainder)
        saved = yield from calls.save(ours, self._seen, if_revision)
        self._adapter.was_saved(state, {"revision": saved.revision, "updated_at": saved.updated_at})
        return saved.revision

    def delete(self, job_id: str) -> Call[bool]:
        """`StateBackend.delete`."""
        self._remainders.pop(job_id, None)
        return (yield from calls.delete(job_id))

    def list_jobs(self) -> Call[list[StateT]]:
        """`StateBackend.list_jobs`."""
        states = yield from calls.list_jobs()
        return [self._adapter.from_state(state) for state in states]

    def save_sheet(self, job_id: str, sheet: Any) -> Call[int]:
        """`StateBackend.save_sheet`."""
        return (yield from calls.save_sheet(job_id, self._adapter.to_sheet(sheet)))

    def _remember(self, job_id: str, remainder: Remainder) -> None:
        self._remainders[job_id] = remainder
        self._remainders.move_to_end(job_id)
        while len(self._remainders) > DEFAULT_CAPACITY:
            self._remainders.popitem(last=False)
