"""What a run is to do: which sheet is which item, and which of them are to be done.

What lives here: pure functions from the kept state of a job and what was asked to the state a run
begins with. What may not: talking to a daemon, processes.

The job itself holds all that is needed to resume it: the command is in
`config_snapshot["command"]`, and each sheet's item in its `extra["item"]`. Sheets are found again
by their item, never by position, so that a list that is sorted otherwise, or has grown, or has
shrunk, never makes a finished item run again. The same item listed twice is two sheets.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec import Struct

from jobkeep.cli.items import command_for
from jobkeep.cli.output import preview
from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.states import CheckpointState, SheetState, SheetStatus, utc_now

UNLISTED = "Not among the items of the latest run"
"""Why a sheet is skipped whose item is not listed any more; it comes back with its item."""

COMMAND_WIDTH = 80

_FAILED = frozenset({SheetStatus.FAILED, SheetStatus.CANCELLED})
_OVER = frozenset({SheetStatus.COMPLETED, SheetStatus.SKIPPED}) | _FAILED


class Counts(Struct, frozen=True):
    """How many of the listed items are in which case."""

    total: int
    completed: int
    failed: int
    skipped: int

    @property
    def remaining(self) -> int:
        """Those that are to be done."""
        return self.total - self.completed - self.failed - self.skipped


class Plan(Struct):
    """A job as it is when a run begins, and the numbers of the sheets of the listed items."""

    state: CheckpointState
    listed: list[int]

    def counts(self) -> Counts:
        """Where the listed items are by now."""
        found = Counter(self.state.sheets[number].status for number in self.listed)
        return Counts(
            total=len(self.listed),
            completed=found[SheetStatus.COMPLETED],
            failed=sum(found[status] for status in _FAILED),
            skipped=found[SheetStatus.SKIPPED],
        )

    def remaining(self) -> list[SheetState]:
        """The sheets that are to be done, in the order in which they are claimed."""
        return [sheet for sheet in self._listed_sheets() if sheet.status not in _OVER]

    def failed(self) -> list[SheetState]:
        """The sheets that are not done and will not be tried in this run."""
        return [sheet for sheet in self._listed_sheets() if sheet.status in _FAILED]

    def _listed_sheets(self) -> list[SheetState]:
        return [self.state.sheets[number] for number in sorted(self.listed)]


def item_of(sheet: SheetState) -> str | None:
    """The item of a sheet, None for one that no run has made."""
    item = sheet.extra.get("item")
    return item if isinstance(item, str) else None


def command_of(template: Sequence[str], sheet: SheetState) -> list[str]:
    """The command for a sheet of a plan."""
    item = item_of(sheet)
    assert item is not None, "a plan leaves no sheet without an item to be claimed"
    return command_for(template, item)


def make_plan(
    kept: CheckpointState | None,
    job_id: str,
    command: Sequence[str],
    items: Sequence[str],
    *,
    retry_failed: bool,
    new_command: bool,
) -> Plan:
    """The plan for running `command` for `items` under this job id. `kept` is changed.

    Completed sheets stay as they are, failed ones too unless `retry_failed`. Raises InvalidRequest
    when the job is kept with another command and `new_command` is not given.
    """
    if kept is None:
        state = CheckpointState(job_id=job_id, job_name=job_id, total_sheets=len(items))
    else:
        state = kept
        _check_command(state, command, new_command)
    state.config_snapshot = {**(state.config_snapshot or {}), "command": list(command)}
    listed = _assign_sheets(state, items)
    wanted = set(listed)
    for number in range(1, state.total_sheets + 1):
        # A number without a sheet could be claimed, though there is no item to do.
        sheet = state.sheets.setdefault(number, SheetState(sheet_num=number))
        _prepare(sheet, is_listed=number in wanted, retry_failed=retry_failed)
    return Plan(state, listed)


def give_back(sheets: Iterable[SheetState]) -> bool:
    """Make pending what is in progress though no worker is left; says whether anything was."""
    held = [sheet for sheet in sheets if sheet.status is SheetStatus.IN_PROGRESS]
    for sheet in held:
        sheet.status = SheetStatus.PENDING
    return bool(held)


def _check_command(state: CheckpointState, command: Sequence[str], new_command: bool) -> None:
    kept = (state.config_snapshot or {}).get("command")
    if not isinstance(kept, list) or not all(isinstance(one, str) for one in kept):
        raise InvalidRequest(
            f"job {state.job_id!r} was not made by `jobkeep run`; give another job name"
        )
    if kept != list(command) and not new_command:
        raise InvalidRequest(
            f"job {state.job_id!r} was begun with another command, `{_shown(kept)}` and not "
            f"`{_shown(command)}`; give another job name, `jobkeep delete` this one first, or give "
            "--new-command to go on with the items that are not finished"
        )


def _shown(command: Sequence[str]) -> str:
    return preview(shlex.join(command).replace("'{}'", "{}"), COMMAND_WIDTH)


def _assign_sheets(state: CheckpointState, items: Sequence[str]) -> list[int]:
    """The sheet number of each item; new items get new sheets at the end."""
    numbers: dict[tuple[str, int], int] = {}
    seen: Counter[str] = Counter()
    for number, sheet in sorted(state.sheets.items()):
        if (item := item_of(sheet)) is not None:
            numbers[item, seen[item]] = number
            seen[item] += 1
    last = state.total_sheets if state.sheets else 0
    listed: Counter[str] = Counter()
    assigned = []
    for item in items:
        key = item, listed[item]
        listed[item] += 1
        if key not in numbers:
            last += 1
            numbers[key] = last
            state.sheets[last] = SheetState(sheet_num=last, extra={"item": item})
        assigned.append(numbers[key])
    state.total_sheets = max(last, state.total_sheets)
    return assigned


def _prepare(sheet: SheetState, *, is_listed: bool, retry_failed: bool) -> None:
    """Make a sheet pending, skipped, or leave it, as its listing and its status ask for."""
    if not is_listed:
        if sheet.status is not SheetStatus.COMPLETED:
            sheet.status = SheetStatus.SKIPPED
            sheet.error_message = UNLISTED
            sheet.completed_at = utc_now()
        return
    is_back = sheet.status is SheetStatus.SKIPPED and sheet.error_message == UNLISTED
    is_retried = retry_failed and sheet.status in _FAILED
    if is_back or is_retried or sheet.status not in _OVER:
        sheet.status = SheetStatus.PENDING
        sheet.error_message = None
        sheet.exit_code = None
        sheet.exit_signal = None
        sheet.completed_at = None
