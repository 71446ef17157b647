"""One opened job: its sheets and its last outputs.

What lives here: which sheets there are, the lines of the outputs, and which of the two the keys for
moving act upon. What may not: how it is drawn (that is `job_page`), reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from jobkeep.cli.top.cursor import Cursor, Scroll
from jobkeep.cli.top.sample import OpenedJob
from jobkeep_protocol.states import CheckpointState, SheetState


class OpenJob:
    """The job that was opened. `read` is None until it has been read."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.read: OpenedJob | None = None
        self.focus: Literal["sheets", "outputs"] = "sheets"
        self.sheets: Cursor[int] = Cursor()
        self.outputs = Scroll()

    def take(self, opened: OpenedJob) -> None:
        """Show how the job is now; begin where the work is."""
        if opened.job_id != self.job_id:
            return
        is_first, self.read = self.read is None, opened
        if opened.state is None:
            return
        numbers = _numbers(opened.state)
        self.sheets.show(numbers)
        if is_first and (place := _place_of_work(opened.state)) in numbers:
            self.sheets.select(place)

    def sheet(self, number: int) -> SheetState:
        """A sheet; one that was never touched is pending."""
        assert self.read is not None, "sheets are shown when they have been read"
        assert self.read.state is not None, "sheets are those of a job that is kept"
        return self.read.state.sheets.get(number) or SheetState(sheet_num=number)

    def press(self, key: str) -> bool:
        """Move in what has the focus, if this key moves; whether it does."""
        return (self.sheets if self.focus == "sheets" else self.outputs).press(key)

    def switch_focus(self) -> None:
        """From the sheets to the outputs, and back."""
        self.focus = "outputs" if self.focus == "sheets" else "sheets"


def _numbers(state: CheckpointState) -> Sequence[int]:
    """The numbers of all sheets, also of those that were never touched."""
    return range(1, max(state.total_sheets, max(state.sheets, default=1)) + 1)


def _place_of_work(state: CheckpointState) -> int:
    return state.current_sheet or min(state.last_completed_sheet + 1, state.total_sheets)
