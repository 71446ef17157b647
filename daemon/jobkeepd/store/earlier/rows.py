"""What a row of an earlier tool's file becomes.

What lives here: which column has which kind of value, and what is put in the place of one that is
missing or not understood. What may not: SQL.

`extra` gets the columns that are not known, by their names, and under the one name `old_file` what
an operator may want to look at: cells as they were, and whole rows that have no place of their own.
It is one name so that a state type of the caller's own takes none of it for one of its fields.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from jobkeep_protocol.states import UNKNOWN_FAILURE, JobStatus, SheetStatus
from jobkeep_protocol.values import MAX_JOB_ID_BYTES, show
from jobkeepd.store.earlier.cells import (
    NotUnderstoodError,
    Reading,
    as_json,
    boolean,
    integer,
    is_dict,
    is_list_of_dicts,
    is_list_of_texts,
    json_text,
    moment,
    number,
    status,
    text,
)
from jobkeepd.store.readers import MAX_PAGE_BYTES
from jobkeepd.store.rows import JOBS, SHEETS, to_text

OLD_FILE = "old_file"
WITHOUT_ID = "(no id)"
MAX_ID = 2**62
"""An id of an attempt above it would leave too few for those to come."""

SHORT_BYTES = MAX_PAGE_BYTES // 4
"""What stays in the column of a prompt or an output that no reply has room for."""

_KEPT_HASH = 16

JOB_COLUMNS: dict[str, tuple[Reading, Any]] = {
    "name": (text, ""),
    "description": (text, None),
    "status": (status(JobStatus), None),
    "total_sheets": (integer(1), 0),
    "last_completed_sheet": (integer(0), 0),
    "current_sheet": (integer(), None),
    "config_hash": (text, None),
    "config_snapshot": (json_text(is_dict), None),
    "pid": (integer(), None),
    "error_message": (text, None),
    "total_retry_count": (integer(0), 0),
    "rate_limit_waits": (integer(0), 0),
    "created_at": (moment, None),
    "updated_at": (moment, None),
    "started_at": (moment, None),
    "completed_at": (moment, None),
    "config_path": (text, None),
    "revision": (integer(0), 0),
}
"""How a column is read, and what it has when it has nothing that can be. A total of 0 is put right
when the sheets are known."""

SHEET_COLUMNS: dict[str, tuple[Reading, Any]] = {
    "status": (status(SheetStatus), None),
    "attempt_count": (integer(0), 0),
    "exit_code": (integer(), None),
    "error_message": (text, None),
    "error_category": (text, None),
    "validation_passed": (boolean, None),
    "validation_details": (json_text(is_list_of_dicts), None),
    "completion_attempts": (integer(0), 0),
    "passed_validations": (json_text(is_list_of_texts), None),
    "failed_validations": (json_text(is_list_of_texts), None),
    "last_pass_percentage": (number(), None),
    "execution_mode": (text, None),
    "outcome_data": (json_text(is_dict), None),
    "confidence_score": (number(0, 1), None),
    "learned_patterns": (json_text(is_list_of_texts), None),
    "similar_outcomes_count": (integer(0), 0),
    "success_without_retry": (boolean, 0),
    "outcome_category": (text, None),
    "started_at": (moment, None),
    "completed_at": (moment, None),
    "execution_duration_seconds": (number(0), None),
    "exit_signal": (integer(), None),
    "exit_reason": (text, None),
    "error_code": (text, None),
    "model": (text, None),
    "input_tokens": (integer(), None),
    "output_tokens": (integer(), None),
    "estimated_cost": (number(), None),
}
ATTEMPT_COLUMNS: dict[str, tuple[Reading, Any]] = {
    "sheet_num": (integer(0), 0),
    "attempt_num": (integer(0), 0),
    "prompt": (text, None),
    "output": (text, None),
    "exit_code": (integer(), None),
    "duration_seconds": (number(0), None),
    "executed_at": (moment, None),
}

Values = dict[str, Any]


class Row(NamedTuple):
    """One row, understood: the columns of its table, its `extra` included."""

    values: Values
    extra: Values
    """What `values` has no place for; empty when there is nothing."""


class Understanding:
    """Reads rows, and counts what was not understood.

    `now` stands for a time that nothing tells. `version` is what the file says it has.
    """

    def __init__(self, version: int, now: datetime) -> None:
        self.not_understood: Counter[str] = Counter()
        """By table and column."""
        self.unknown: Counter[str] = Counter()
        """Values of columns that jobkeep does not have, the same way."""
        self.was_running = 0
        self._version = version
        self._now = to_text(now)

    def job(self, raw: Mapping[str, Any]) -> Row:
        """A row of `jobs`."""
        found = _Found(self, "jobs", raw, JOB_COLUMNS)
        found.values["id"] = found.job_id("id")
        found.set_aside_unknown({"id"}, JOBS.fields)
        job = found.values
        self._place_job_in_time(job)
        if job["total_sheets"] and job["last_completed_sheet"] > job["total_sheets"]:
            found.set_aside("last_completed_sheet")
            job["last_completed_sheet"] = job["total_sheets"]
        if job["status"] == JobStatus.RUNNING:
            self._stop(found)
        elif job["status"] is None:
            job["status"] = _unknown_status(found, JobStatus.PAUSED, JobStatus.PENDING)
        return found.row()

    def sheet(self, raw: Mapping[str, Any], updated_at: Callable[[str], str | None]) -> Row | None:
        """A row of `sheets`; None when it has no number. `updated_at` tells that of its job."""
        try:
            number = integer(1)(raw.get("sheet_num"))
        except NotUnderstoodError:
            return None
        found = _Found(self, "sheets", self._renamed(raw), SHEET_COLUMNS)
        sheet = found.values
        sheet["job_id"] = found.job_id("job_id")
        sheet["sheet_num"] = number
        self._settle_first_attempt(found, raw)
        found.set_aside_unknown(
            {"job_id", "sheet_num", "first_attempt_success"}, ["job_id", *SHEETS.fields]
        )
        if sheet["status"] is None:
            sheet["status"] = _unknown_status(found, SheetStatus.FERMATA, SheetStatus.PENDING)
        at = {SheetStatus.COMPLETED: "completed_at", SheetStatus.IN_PROGRESS: "started_at"}
        missing = at.get(SheetStatus(sheet["status"]))
        if missing is not None and sheet[missing] is None:
            known = sheet["started_at"] or updated_at(sheet["job_id"])
            sheet[missing] = known or self._now
        if sheet["status"] == SheetStatus.FAILED and sheet["error_message"] is None:
            sheet["error_message"] = UNKNOWN_FAILURE
        return found.row()

    def attempt(self, raw: Mapping[str, Any], updated_at: Callable[[str], str | None]) -> Row:
        """A row of `execution_history`; its id is None when it has to be given one."""
        found = _Found(self, "execution_history", raw, ATTEMPT_COLUMNS)
        attempt = found.values
        attempt["job_id"] = found.job_id("job_id")
        attempt["id"] = None
        try:
            number = integer(1)(raw.get("id"))
            attempt["id"] = number if number <= MAX_ID else None
        except NotUnderstoodError:
            pass  # it gets another
        if attempt["id"] is None:
            found.set_aside("id")
        found.set_aside_unknown({"id", "job_id"}, ATTEMPT_COLUMNS)
        attempt["executed_at"] = (
            attempt["executed_at"] or updated_at(attempt["job_id"]) or self._now
        )
        _shorten(found)
        return found.row()

    def _place_job_in_time(self, job: Values) -> None:
        """What `created_at` and `updated_at` must be, as far as the other times tell."""
        names = ("created_at", "started_at", "completed_at", "updated_at")
        known = [job[name] for name in names if job[name] is not None]
        job["created_at"] = job["created_at"] or min(known, default=self._now)
        job["updated_at"] = job["updated_at"] or max(known, default=self._now)

    def _stop(self, found: _Found) -> None:
        """Nobody can run this job: a pid alone names no process, and one that should live works for
        another tool, on its own."""
        job = found.values
        self.was_running += 1
        for name in ("status", "pid", "completed_at"):
            found.keep_as_it_was(name)
        process = "" if job["pid"] is None else f" in process {job['pid']}"
        job["error_message"] = job["error_message"] or (
            f"The job was running{process} when the file was taken over from an earlier tool; it "
            "is paused and can be resumed"
        )
        job.update(status=JobStatus.PAUSED.value, pid=None, completed_at=None)
        job["started_at"] = job["started_at"] or job["created_at"]

    def _renamed(self, raw: Mapping[str, Any]) -> Mapping[str, Any]:
        """The row with `success_without_retry` under that name, whichever column has it."""
        older = raw.get("first_attempt_success")
        newer = raw.get("success_without_retry")
        goes_by_older = newer is None or (self._version < 4 and older is not None)
        return {**raw, "success_without_retry": older if goes_by_older else newer}

    def _settle_first_attempt(self, found: _Found, raw: Mapping[str, Any]) -> None:
        """Keep both columns under their own names, when they differ or were not understood."""
        names = ("first_attempt_success", "success_without_retry")
        values = [raw[name] for name in names if raw.get(name) is not None]
        if len(set(values)) > 1 or found.kept.pop("success_without_retry", None) is not None:
            found.kept |= {name: as_json(raw[name]) for name in names if raw.get(name) is not None}


class _Found:
    """A row while it is read."""

    def __init__(
        self,
        understanding: Understanding,
        table: str,
        raw: Mapping[str, Any],
        columns: Mapping[str, tuple[Reading, Any]],
    ) -> None:
        self.kept: Values = {}
        """Cells as they were, for `old_file`."""
        self.values: Values = {}
        self.raw = raw
        self._extra: Values = {}
        self._understanding = understanding
        self._table = table
        for name, (read, otherwise) in columns.items():
            self.values[name] = self._read(name, read, otherwise)

    def set_aside(self, name: str) -> None:
        """Keep a cell that was not understood."""
        if self.raw.get(name) is not None:
            self._understanding.not_understood[f"{self._table}.{name}"] += 1
            self.keep_as_it_was(name)

    def keep_as_it_was(self, name: str) -> None:
        """Keep a cell, if there is anything in it."""
        if self.raw.get(name) is not None:
            self.kept[name] = as_json(self.raw[name])

    def job_id(self, name: str) -> str:
        """The id of a job in this column; the cell is kept when it cannot be one."""
        value = self.raw.get(name)
        job_id = job_id_of(value)
        try:
            is_understood = value is None or text(value) == job_id
        except NotUnderstoodError:
            is_understood = False
        if not is_understood:
            self.set_aside(name)
        return job_id

    def set_aside_unknown(self, handled: set[str], fields: list[str] | Mapping[str, Any]) -> None:
        """Keep the columns that were not read; none under a name that a state has a field for."""
        self._read_extra()
        for name, value in self.raw.items():
            if value is None or name in self.values or name in handled or name == "extra":
                continue
            self._understanding.unknown[f"{self._table}.{name}"] += 1
            is_free = name not in fields and name not in self._extra
            place = self._extra if is_free and name not in {OLD_FILE, "sheets"} else self.kept
            place[name] = as_json(value)

    def row(self) -> Row:
        """What has been found."""
        if self.kept:
            before = self._extra.get(OLD_FILE)
            if before is not None:
                self.kept[OLD_FILE] = before
            self._extra[OLD_FILE] = {"values": self.kept}
        return Row(self.values, self._extra)

    def _read(self, name: str, read: Reading, otherwise: Any) -> Any:
        value = self.raw.get(name)
        if value is None:
            return otherwise
        try:
            found = read(value)
        except NotUnderstoodError as error:
            self.set_aside(name)
            found = error.instead
        return otherwise if found is None else found

    def _read_extra(self) -> None:
        """What the file has in a column `extra` of its own."""
        if self.raw.get("extra") is None:
            return
        try:
            self._extra = msgspec.json.decode(json_text(is_dict)(self.raw["extra"]) or "{}")
        except NotUnderstoodError:
            self.set_aside("extra")


def job_id_of(value: Any) -> str:
    """The id of a job: the same for all cells that mean the same."""
    try:
        job_id = WITHOUT_ID if value is None else text(value) or WITHOUT_ID
    except NotUnderstoodError as error:
        job_id = str(error.instead)
    encoded = job_id.encode()
    if len(encoded) <= MAX_JOB_ID_BYTES:
        return job_id
    start = encoded[: MAX_JOB_ID_BYTES - _KEPT_HASH - 1].decode(errors="ignore")
    return f"{start}-{hashlib.sha256(encoded).hexdigest()[:_KEPT_HASH]}"


def _unknown_status(found: _Found, held: str, fresh: str) -> str:
    """What a row without a status that is known has: nothing goes on before somebody looks."""
    raw = found.raw.get("status")
    if raw is None:
        return str(fresh)
    found.values["error_message"] = found.values["error_message"] or (
        f"Its status was {show(as_json(raw))} in the file of an earlier tool, which is not known; "
        "it is held until somebody decides"
    )
    return str(held)


def _shorten(found: _Found) -> None:
    """Keep whole, beside the columns, what is too large to be sent."""
    texts = [name for name in ("prompt", "output") if found.values[name]]
    encoded = {name: found.values[name].encode() for name in texts}
    if sum(map(len, encoded.values())) <= 3 * SHORT_BYTES:
        return
    for name, whole in encoded.items():
        if len(whole) > SHORT_BYTES:
            found.set_aside(name)
            found.values[name] = whole[:SHORT_BYTES].decode(errors="ignore")
