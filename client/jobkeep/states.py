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
from jobkeep_protocol.errors import StorageError
from jobkeep_protocol.messages import Saved

StateT = TypeVar("StateT")

SAVE_ATTEMPTS = 20
"""How often a save is begun anew when the kept job changes under it."""


_NOTHING = Remainder()


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
        if self._adapter.knows_all:
            ours = self._adapter.to_state(state, _NOTHING)
            saved = yield from calls.save(ours, self._seen, if_revision)
        else:
            saved = yield from self._save_with_remainder(state, if_revision)
        self._adapter.was_saved(state, {"revision": saved.revision, "updated_at": saved.updated_at})
        return saved.revision

    def _save_with_remainder(self, state: StateT, if_revision: int | None) -> Call[Saved]:
        """Save a state whose type does not have all that the kept job has.

        What it does not have is taken from the kept job as it is now: seen, or loaded when the
        job has changed since.
        """
        self._adapter.check_type(state)
        job_id: str = state.job_id  # type: ignore[attr-defined] # the adapter has seen to it
        for _ in range(SAVE_ATTEMPTS):
            remainder = self._remainders.get(job_id)
            if remainder is not None:
                ours = self._adapter.to_state(state, remainder)
                saved = yield from calls.save_if_unmoved(ours, self._seen, if_revision)
                if saved is not None:
                    return saved
            kept = yield from calls.load(job_id, self._seen)
            self._remember(job_id, self._adapter.remainder(kept))
            if kept is None:
                ours = self._adapter.to_state(state, _NOTHING)
                return (yield from calls.save(ours, self._seen, if_revision))
        raise StorageError(
            f"job {job_id!r} changed each of {SAVE_ATTEMPTS} times between being read and being "
            f"saved, and {type(state).__name__} does not have all of its fields; try again, or use "
            "a state_type that has"
        )

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
        ours = self._adapter.to_sheet(sheet)
        if ours is not sheet:  # of the caller's type: what that does not have stays as it is kept
            kept = yield from calls.load(job_id, self._seen)
            if kept is not None and ours.sheet_num in kept.sheets:
                ours = self._adapter.to_sheet(sheet, kept.sheets[ours.sheet_num])
        return (yield from calls.save_sheet(job_id, ours))

    def _remember(self, job_id: str, remainder: Remainder) -> None:
        self._remainders[job_id] = remainder
        self._remainders.move_to_end(job_id)
        while len(self._remainders) > DEFAULT_CAPACITY:
            self._remainders.popitem(last=False)
