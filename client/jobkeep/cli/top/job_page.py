"""The page of one job: its sheets above, its last outputs below.

What lives here: the columns and cells of the sheets, the lines of the outputs, and how the two
share the window. What may not: which sheets there are (that is `job`).
"""

from __future__ import annotations

from datetime import datetime

from rich.cells import chop_cells
from rich.text import Text

from jobkeep.cli.output import preview, printable, printable_lines, why_not_completed
from jobkeep.cli.times import ago, duration
from jobkeep.cli.top.grid import Column, Grid
from jobkeep.cli.top.job import OpenJob
from jobkeep.cli.top.sample import OpenedJob
from jobkeep.cli.top.words import status_text
from jobkeep_protocol.backend import ExecutionRecord
from jobkeep_protocol.states import CheckpointState, SheetState

ERROR_WIDTH = 300
BOTH_FIT = 9
"""So many lines have room for the sheets and the outputs; in fewer only what has the focus is."""

SHEET_COLUMNS = [
    Column("SHEET", 6, is_right=True),
    Column("STATUS", 12),
    Column("ATTEMPTS", 8, rank=2, is_right=True),
    Column("TOOK", 12, rank=1, is_right=True),
    Column("EXIT", 9, rank=4, is_right=True),
    Column("ERROR", 12, rank=3, most=ERROR_WIDTH),
]


def job_lines(job: OpenJob, now: datetime | None, width: int, height: int) -> list[Text]:
    """The lines of the page."""
    if job.read is None:
        return [_title(job.job_id), Text("it is being read", style="dim")]
    state, trouble = job.read.state, job.read.trouble
    if state is None and trouble is not None:
        return [_title(job.job_id), Text(printable(trouble), style="yellow")]
    if state is None:
        return [_title(job.job_id), Text("it is not kept any more", style="yellow")]
    head = [_title(job.job_id, state.job_name), _summary(state, now)]
    if (why := why_not_completed(state.status, state.error_message)) is not None:
        head.append(Text(printable(why), style="red"))
    if trouble is not None:
        head.append(Text(printable(trouble), style="yellow"))
    left = height - len(head)
    if left < BOTH_FIT:
        pane = _sheets if job.focus == "sheets" else _outputs
        return [*head, *pane(job, now, width, left)]
    above = left // 2
    sheets = _sheets(job, now, width, above)
    return [*head, *sheets, *_outputs(job, now, width, left - len(sheets))]


def _title(job_id: str, name: str = "") -> Text:
    line = Text(printable(job_id), style="bold")
    if name not in {"", job_id}:
        line.append(f"  {printable(name)}", "not bold")
    return line


def _summary(state: CheckpointState, now: datetime | None) -> Text:
    line = status_text(state.status)
    line.append(f"  {state.last_completed_sheet}/{state.total_sheets} done", "default")
    line.append(f"  {state.total_retry_count} retries", "default")
    if state.pid is not None:
        line.append(f"  pid {state.pid}", "default")
    if now is not None:
        line.append(f"  updated {ago(state.updated_at, now)}", "default")
    return line


def _heading(title: str, has_focus: bool, width: int) -> Text:
    return Text(f"── {title} ".ljust(width, "─"), style="bold cyan" if has_focus else "dim")


def _sheets(job: OpenJob, now: datetime | None, width: int, height: int) -> list[Text]:
    grid = Grid(SHEET_COLUMNS, width)
    job.sheets.window(height - 2)
    selected = job.sheets.selected
    lines = [
        grid.row(_sheet_cells(job.sheet(number), now), number == selected)
        for number in job.sheets.visible
    ]
    return [_heading("sheets", job.focus == "sheets", width), grid.titles(), *lines]


def _sheet_cells(sheet: SheetState, now: datetime | None) -> list[str | Text]:
    took = sheet.execution_duration_seconds
    if took is None and sheet.started_at is not None:
        end = sheet.completed_at or now
        took = None if end is None else max(0.0, (end - sheet.started_at).total_seconds())
    signal = None if sheet.exit_signal is None else f"signal {sheet.exit_signal}"
    code = "-" if sheet.exit_code is None else str(sheet.exit_code)
    return [
        str(sheet.sheet_num),
        status_text(sheet.status),
        str(sheet.attempt_count),
        duration(took),
        signal or code,
        preview(sheet.error_message, ERROR_WIDTH),
    ]


def _outputs(job: OpenJob, now: datetime | None, width: int, height: int) -> list[Text]:
    assert job.read is not None, "there are outputs when they have been read"
    lines = _output_lines(job.read, now, width)
    job.outputs.set_count(len(lines))
    window = job.outputs.window(height - 1)
    title = f"last outputs, of {job.read.attempts_kept} attempts"
    if len(window) < len(lines):
        title += f"; lines {window.start + 1} to {window.stop} of {len(lines)}"
    shown = lines[window.start : window.stop] or [Text("no attempt is kept", style="dim")]
    return [_heading(title, job.focus == "outputs", width), *shown]


def _output_lines(read: OpenedJob, now: datetime | None, width: int) -> list[Text]:
    """The newest attempt first; long lines go on in the next one."""
    lines = []
    for record in read.attempts:
        lines.append(Text(_attempt(record, now), style="bold"))
        output = printable_lines((record["output"] or "").replace("\r\n", "\n")).expandtabs()
        for line in output.splitlines():
            lines += [Text(part) for part in chop_cells(line, width)] or [Text()]
    return lines


def _attempt(record: ExecutionRecord, now: datetime | None) -> str:
    exit_code = "-" if record["exit_code"] is None else record["exit_code"]
    when = "" if now is None else f", {ago(record['executed_at'], now)}"
    took = duration(record["duration_seconds"])
    return (
        f"sheet {record['sheet_num']}, attempt {record['attempt_num']}: "
        f"exit {exit_code}, took {took}{when}"
    )
