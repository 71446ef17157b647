"""What a run says while it goes on, on standard error.

What lives here: the lines for failures and losses, and the progress bar of a terminal. What may
not: what happens (that is `runner`), and the data on standard output (that is `run`).
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from jobkeep.cli.output import message, preview, printable
from jobkeep.cli.plan import Counts, item_of
from jobkeep_protocol.states import SheetState

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

ITEM_WIDTH = 60


def name_of(sheet: SheetState) -> str:
    """A sheet by its number and its item, as it is called in messages."""
    return f"sheet {sheet.sheet_num} ({preview(item_of(sheet), ITEM_WIDTH)})"


class Report:
    """The report for a log file or a pipe: one line for whatever went wrong."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return

    def begin(self, counts: Counts) -> None:
        """The run begins, with the listed items like this."""
        finished = counts.total - counts.remaining
        if finished and counts.remaining:
            self._say(
                f"{counts.remaining} of {counts.total} items remain; {counts.completed} were "
                f"completed and {counts.failed} failed before"
            )

    def done(self, sheet: SheetState) -> None:
        """An item is completed."""

    def failed(self, sheet: SheetState, reason: str) -> None:
        """An item has failed for good."""
        self._say(f"{name_of(sheet)} failed: {printable(reason)}")

    def retrying(self, sheet: SheetState, reason: str) -> None:
        """An item has failed and is tried again."""
        self._say(f"{name_of(sheet)} is tried again: {printable(reason)}")

    def worker_lost(self, pid: int, how: str, sheet: SheetState | None) -> None:
        """A worker has died."""
        rest = f" with {name_of(sheet)}, which another worker does" if sheet else ""
        self._say(f"worker {pid} {how}{rest}")

    def stopping(self, at_once: bool) -> None:
        """A signal has come."""
        self._say("killing what still runs" if at_once else "stopping; once more to kill at once")

    def _say(self, line: str) -> None:
        message(line)


class TerminalReport(Report):
    """The report for a terminal: a progress bar below those lines."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._failed = 0
        self._task: TaskID | None = None
        self._progress: Progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]} failed", style="red"),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def begin(self, counts: Counts) -> None:
        super().begin(counts)
        self._failed = counts.failed
        self._task = self._progress.add_task(
            "",
            total=counts.total,
            completed=counts.total - counts.remaining,
            failed=self._failed,
            rate="",
        )

    def done(self, sheet: SheetState) -> None:
        super().done(sheet)
        self._advance()

    def failed(self, sheet: SheetState, reason: str) -> None:
        super().failed(sheet, reason)
        self._failed += 1
        self._advance()

    def _advance(self) -> None:
        assert self._task is not None, "the run has begun"
        self._progress.advance(self._task)
        (task,) = self._progress.tasks
        rate = "" if task.speed is None else f"{task.speed:.1f}/s"
        self._progress.update(self._task, failed=self._failed, rate=rate)

    def _say(self, line: str) -> None:
        self._progress.console.print(
            f"jobkeep: {line}", markup=False, highlight=False, soft_wrap=True
        )
