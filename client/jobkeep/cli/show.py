"""`jobkeep show`: one job, and the sheets that need attention."""

from __future__ import annotations

import shlex
from collections import Counter
from datetime import datetime

import click

from jobkeep.cli.common import connect, job_argument, json_option, load
from jobkeep.cli.output import (
    all_fields,
    document,
    fields,
    local_now,
    message,
    preview,
    table,
    why_not_completed,
)
from jobkeep.cli.times import ago, duration
from jobkeep_protocol.states import CheckpointState, SheetState, SheetStatus

SHEETS_SHOWN = 20
COMMAND_WIDTH = 120
MESSAGE_WIDTH = 80

_UNREMARKABLE = {SheetStatus.COMPLETED, SheetStatus.PENDING, SheetStatus.SKIPPED}


@click.command("show")
@job_argument
@json_option
@click.pass_context
def command(ctx: click.Context, job_id: str, as_json: bool) -> None:
    """Show one job and the sheets that need attention; with --json all of it."""
    with connect(ctx) as client:
        state = load(client, job_id)
    if as_json:
        document(all_fields(state))
        return
    _print_job(state)
    remarkable = [one for _, one in sorted(state.sheets.items()) if one.status not in _UNREMARKABLE]
    if remarkable:
        print()
        _print_sheets(remarkable[:SHEETS_SHOWN])
    if len(remarkable) > SHEETS_SHOWN:
        more = len(remarkable) - SHEETS_SHOWN
        message(f"{more} more are left out; --json has all of them")


def _print_job(state: CheckpointState) -> None:
    now = local_now()
    counts = Counter(str(sheet.status) for sheet in state.sheets.values())
    missing = state.total_sheets - sum(number <= state.total_sheets for number in state.sheets)
    counts[str(SheetStatus.PENDING)] += missing
    sheets = ", ".join(f"{count} {status}" for status, count in counts.most_common() if count)
    fields(
        [
            ("job", state.job_id),
            ("name", state.job_name if state.job_name not in {"", state.job_id} else None),
            ("description", state.description),
            ("command", _command(state)),
            ("status", state.status),
            ("error", why_not_completed(state.status, state.error_message)),
            ("pid", state.pid),
            ("sheets", f"{state.total_sheets}: {sheets}"),
            ("retries", state.total_retry_count or None),
            ("created", ago(state.created_at, now)),
            ("started", ago(state.started_at, now) if state.started_at else None),
            ("updated", ago(state.updated_at, now)),
            ("completed", ago(state.completed_at, now) if state.completed_at else None),
        ]
    )


def _command(state: CheckpointState) -> str | None:
    """The command of a job that `jobkeep run` has made."""
    command = (state.config_snapshot or {}).get("command")
    if not isinstance(command, list):
        return None
    return preview(shlex.join(map(str, command)).replace("'{}'", "{}"), COMMAND_WIDTH)


def _print_sheets(sheets: list[SheetState]) -> None:
    now = local_now()
    columns = ("SHEET", "STATUS", "ATTEMPTS", "EXIT", "TOOK", "ITEM", "ERROR")
    rows = [
        (
            sheet.sheet_num,
            sheet.status,
            sheet.attempt_count,
            _exit(sheet),
            _took(sheet, now),
            preview(item if isinstance(item := sheet.extra.get("item"), str) else None, 40),
            preview(sheet.error_message, MESSAGE_WIDTH),
        )
        for sheet in sheets
    ]
    table(columns, rows)


def _took(sheet: SheetState, now: datetime) -> str:
    """How long the last attempt took, or the one under way has taken so far."""
    if sheet.status == SheetStatus.IN_PROGRESS and sheet.started_at is not None:
        return f"{duration(max(0.0, (now - sheet.started_at).total_seconds()))} so far"
    return duration(sheet.execution_duration_seconds)


def _exit(sheet: SheetState) -> str:
    if sheet.exit_signal is not None:
        return f"signal {sheet.exit_signal}"
    return "-" if sheet.exit_code is None else str(sheet.exit_code)
