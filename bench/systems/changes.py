"""Which sheets changed since they were saved, for the tuned systems.

What lives here: what a process remembers of its own saves. What may not: any system.
"""

from __future__ import annotations

from collections.abc import Callable

from jobkeep_protocol.states import CheckpointState, SheetState


class Changes:
    """The sheets of each job as this process saved them last."""

    def __init__(self, encode: Callable[[SheetState], bytes]) -> None:
        self._encode = encode
        self._saved: dict[str, dict[int, bytes]] = {}

    def of(self, state: CheckpointState) -> dict[int, bytes]:
        """The sheets that are not as they were saved, encoded, by their number."""
        saved = self._saved.get(state.job_id, {})
        sheets = ((number, self._encode(sheet)) for number, sheet in state.sheets.items())
        return {number: sheet for number, sheet in sheets if saved.get(number) != sheet}

    def are_saved(self, state: CheckpointState, changed: dict[int, bytes]) -> None:
        """What `of` gave is kept now."""
        self._saved.setdefault(state.job_id, {}).update(changed)
