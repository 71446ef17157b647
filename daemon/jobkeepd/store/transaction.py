"""What the statements of one write have at hand.

What lives here: the connection inside its transaction, the next sequence number, who sent the
request, what is to be told of it, and the few statements that several writes share. What may not:
beginning and committing (that is `committer`), and what a request means (that is `writes`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from jobkeep_protocol.errors import JobNotFound
from jobkeep_protocol.messages import Event, EventKind
from jobkeep_protocol.states import CheckpointState, JobStatus, SheetState, SheetStatus, utc_now
from jobkeepd.processes import ProcessId
from jobkeepd.store.rows import PROGRESS, SHEETS, sequence_at

MAX_NOTED_CHARACTERS = 500
"""The longest message that those who watch are told."""


class Transaction:
    """One open transaction, used by one thread. Reused for every transaction of a writer."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.process: ProcessId | None = None
        """The process named by the request at hand: a job's for a save, a worker's for a claim."""
        self.noted: list[Event] = []
        """What this transaction does, for those who watch; without numbers yet."""
        self._sequence = self._highest_sequence()

    @property
    def sequence(self) -> int:
        """The highest number that any change had."""
        return self._sequence

    def one(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """The first row, or None."""
        return self.connection.execute(statement, values).fetchone()

    def all(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows."""
        return self.connection.execute(statement, values).fetchall()

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Execute; gives the number of rows changed."""
        changed: int = self.connection.execute(statement, values).rowcount
        return changed

    def take(self, table: str, columns: str, condition: str, values: Sequence[Any]) -> list[Any]:
        """Delete the rows that meet a condition; gives what they held."""
        found = self.all(f"SELECT {columns} FROM {table} WHERE {condition}", values)
        self.run(f"DELETE FROM {table} WHERE {condition}", values)
        return found

    def run_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Execute once for each row of values."""
        self.connection.executemany(statement, rows)

    def next_sequence(self, updated_at: datetime) -> int:
        """A number that is larger than any change had before, also over restarts, and at least the
        sequence of this moment."""
        self._sequence = max(self._sequence + 1, sequence_at(updated_at))
        return self._sequence

    def forget(self) -> None:
        """Rely on nothing but the rows: another program may have changed them."""
        self._sequence = max(self._sequence, self._highest_sequence())

    def _highest_sequence(self) -> int:
        highest: int = self.one(
            "SELECT max(coalesce((SELECT max(sequence) FROM jobs), 0), (SELECT value FROM counters "
            "WHERE name = 'sequence'))"
        )[0]
        return highest

    # -- what happens --------------------------------------------------------------------------

    def note_job(self, kind: EventKind, job: CheckpointState) -> None:
        """Something happens to a job: this is how it is then."""
        self._note_state(kind, job, job.error_message if job.status in _STOPPED else None)

    def note_sheet(
        self, kind: EventKind, job: CheckpointState, sheet: SheetState, why: str | None = None
    ) -> None:
        """Something happens to a sheet: this is how it is then, and its job."""
        self._note_state(kind, job, why or sheet.error_message, sheet.sheet_num, sheet.status)

    def note(self, kind: EventKind, at: datetime, job_id: str, **fields: Any) -> None:
        """Something else happens."""
        self.noted.append(Event(0, at, kind, job_id, **fields))

    def _note_state(
        self,
        kind: EventKind,
        job: CheckpointState,
        message: str | None,
        sheet_num: int | None = None,
        sheet_status: SheetStatus | None = None,
    ) -> None:
        self.noted.append(
            Event(
                0,
                job.updated_at,
                kind,
                job.job_id,
                job.status,
                job.revision,
                job.last_completed_sheet,
                job.total_sheets,
                sheet_num,
                sheet_status,
                message=_cut(message),
            )
        )

    # -- jobs ---------------------------------------------------------------------------------

    def progress(self, job_id: str) -> CheckpointState:
        """The job with the fields that transitions need, whatever its size.

        Raises JobNotFound.
        """
        row = self.one(_SELECT_PROGRESS, (job_id,))
        if row is None:
            raise JobNotFound.named(job_id)
        state: CheckpointState = PROGRESS.state(row)
        return state

    def store_progress(self, state: CheckpointState) -> None:
        """Keep what a transition changed; sets the job's revision and time of change."""
        state.revision += 1
        state.updated_at = utc_now()
        values = PROGRESS.row(state)[1:]
        self.run(_UPDATE_PROGRESS, (*values, self.next_sequence(state.updated_at), state.job_id))

    # -- sheets -------------------------------------------------------------------------------

    def sheet(self, job_id: str, sheet_num: int) -> SheetState:
        """The kept sheet, or a new one."""
        row = self.one(_SELECT_SHEET, (job_id, sheet_num))
        if row is None:
            return SheetState(sheet_num=sheet_num)
        state: SheetState = SHEETS.state(row)
        return state

    def store_sheets(self, job_id: str, sheets: Iterable[SheetState]) -> None:
        """Insert or replace; a claim on a sheet that is not in progress any more is over."""
        rows = [(job_id, *SHEETS.row(sheet)) for sheet in sheets]
        self.run_many(_UPSERT_SHEET, rows)
        if self.one("SELECT 1 FROM claims WHERE job_id = ? LIMIT 1", (job_id,)) is not None:
            self.run_many(
                "DELETE FROM claims WHERE job_id = ? AND sheet_num = ?",
                [row[:2] for row in rows if row[_STATUS_INDEX] != SheetStatus.IN_PROGRESS],
            )

    def remove_sheets(self, job_id: str, numbers: Iterable[int]) -> None:
        """Delete these sheets, with the claims on them."""
        self.run_many(
            "DELETE FROM sheets WHERE job_id = ? AND sheet_num = ?",
            [(job_id, number) for number in numbers],
        )

    def remove_job(self, job_id: str) -> bool:
        """Delete a job with all that belongs to it; False when there was none."""
        removed = self.run("DELETE FROM jobs WHERE id = ?", (job_id,)) > 0
        if removed:  # it may have had the highest sequence, which must not come again
            self.run("UPDATE counters SET value = ? WHERE name = 'sequence'", (self._sequence,))
        return removed


def _cut(message: str | None) -> str | None:
    """A message, short enough to be kept in memory with many others."""
    if message is None or len(message) <= MAX_NOTED_CHARACTERS:
        return message
    return f"{message[: MAX_NOTED_CHARACTERS - 1]}…"


_STOPPED = {
    JobStatus.FAILED,
    JobStatus.PAUSED,
    JobStatus.PAUSED_AT_CHAIN,
    JobStatus.CANCELLED,
}
"""A job that goes on, or is completed after all, may still have the message of what was before."""

_STATUS_INDEX = 1 + SHEETS.fields.index("status")


_SELECT_PROGRESS = f"SELECT {', '.join(PROGRESS.columns)} FROM jobs WHERE id = ?"
_UPDATE_PROGRESS = (
    f"UPDATE jobs SET {', '.join(f'{name} = ?' for name in PROGRESS.columns[1:])}, "
    "sequence = ? WHERE id = ?"
)
_SELECT_SHEET = f"SELECT {', '.join(SHEETS.columns)} FROM sheets WHERE job_id = ? AND sheet_num = ?"
_UPSERT_SHEET = (
    f"INSERT INTO sheets (job_id, {', '.join(SHEETS.columns)}) "
    f"VALUES (?{', ?' * len(SHEETS.columns)}) ON CONFLICT (job_id, sheet_num) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in SHEETS.columns if name != "sheet_num")
)
