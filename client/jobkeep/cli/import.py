"""`jobkeep import`: jobs of another database, or of JSON lines, into a running daemon."""  # noqa: N999 # the module of a command has its name

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO
from urllib.parse import quote

import click
import msgspec

from jobkeep.cli.common import connect, json_option
from jobkeep.cli.output import counted, document, message, printable
from jobkeep.client import Client
from jobkeep_protocol.changes import without_sheets
from jobkeep_protocol.errors import InvalidRequest, JobNotFound, LimitExceeded, StorageError
from jobkeep_protocol.messages import (
    ImportHistory,
    ImportJob,
    ImportJobs,
    StartImport,
    WriteImport,
)
from jobkeep_protocol.states import CheckpointState
from jobkeep_protocol.transfer import NOT_IN_FILE, ImportedJob, KeptExecution, KeptFailure

PIECE_BYTES = 1024 * 1024
BATCH_BYTES = 1024 * 1024
BATCH_ROWS = 500
SQLITE_BEGINS = b"SQLite format 3\0"
EXIT_NOT_FOUND = 4


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """One line of an export: one of these."""

    job: CheckpointState | None = None
    execution: KeptExecution | None = None
    failure: KeptFailure | None = None


@click.command("import")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option(
    *("--job", "job_ids"),
    multiple=True,
    metavar="JOB",
    help="Only this job; may be given several times.",
)
@click.option("--replace", is_flag=True, help="Replace jobs that are kept already.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, file: str, job_ids: tuple[str, ...], replace: bool, as_json: bool
) -> int:
    """Copy jobs with their sheets and their history from FILE.

    FILE is a database of jobkeep, of this version or an earlier one, of a tool before it with the
    same tables, or what `jobkeep export` wrote; `-` reads JSON lines from standard input. It is
    not changed, and may be in use. Jobs that are kept already are skipped, unless --replace is
    given. An import that was broken off goes on where it was when it is begun again. Exit status:
    1 when a job was skipped, 4 when FILE has no job of a name that was given.
    """
    with connect(ctx) as client:
        if file != "-" and _is_database(Path(file)):
            told = list(_tell(_import_database(client, Path(file), job_ids, replace)))
        else:
            with click.open_file(file, "rb") as lines:
                name = "standard input" if file == "-" else file
                told = list(_tell(_import_lines(client, name, lines, job_ids, replace)))
    missing = [job_id for job_id in job_ids if job_id not in {one.job_id for one in told}]
    told += _tell(ImportedJob(job_id, "skipped", why=NOT_IN_FILE) for job_id in missing)
    if as_json:
        document(told)
    return _status(told)


def _tell(done: Iterable[ImportedJob]) -> Iterator[ImportedJob]:
    """Say what has become of each job, as it is done."""
    for one in done:
        how = f" with {counted(one.executions, 'attempt')}" if one.why is None else f": {one.why}"
        message(f"{one.outcome} job {printable(one.job_id)}{how}")
        yield one


def _status(told: list[ImportedJob]) -> int:
    imported = sum(one.outcome == "imported" for one in told)
    message(f"imported {counted(imported, 'job')} of {len(told)}")
    if any(one.why == NOT_IN_FILE for one in told):
        return EXIT_NOT_FOUND
    return 0 if imported == len(told) else 1


# -- a database -----------------------------------------------------------------------------------


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(SQLITE_BEGINS)) == SQLITE_BEGINS


def _import_database(
    client: Client[CheckpointState], path: Path, job_ids: Iterable[str], replace: bool
) -> Iterator[ImportedJob]:
    """Send a copy of the file, and follow what the daemon does with it."""
    with TemporaryDirectory(prefix="jobkeep-import-") as directory:
        copy = _copy(path, Path(directory) / "copy.db")
        import_id = client.call(StartImport())
        with copy.open("rb") as file:
            offset = 0
            while data := file.read(PIECE_BYTES):
                client.call(WriteImport(import_id, offset, data))
                offset += len(data)
    request: ImportJobs | None = ImportJobs(import_id, list(job_ids), replace)
    while request is not None:
        step = client.call(request)
        yield from step.jobs
        request = request.following(step)


def _copy(path: Path, copy: Path) -> Path:
    """One moment of a database that others may be using, with what is in its log.

    Raises StorageError.
    """
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    try:
        with (
            closing(sqlite3.connect(uri, uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
    except sqlite3.Error as error:
        raise StorageError(f"{path} cannot be read as an SQLite database: {error}") from error
    return copy


# -- JSON lines -----------------------------------------------------------------------------------


def _import_lines(
    client: Client[CheckpointState],
    name: str,
    lines: IO[bytes],
    job_ids: Iterable[str],
    replace: bool,
) -> Iterator[ImportedJob]:
    """Send each job, and then its history in batches."""
    wanted = set(job_ids)
    job: _Job | None = None
    is_skipped = False
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        place = f"{name}, line {number}"
        try:
            line = _decoded(place, text)
        except InvalidRequest:
            if job is not None:
                yield job.end()
            raise
        if line.job is not None:
            if job is not None:
                yield job.end()
            is_wanted = not wanted or line.job.job_id in wanted
            job = _Job(client, line.job, replace) if is_wanted else None
            is_skipped = not is_wanted
        elif job is not None:
            job.add(line)
        elif not is_skipped:
            raise InvalidRequest(f"{place}: belongs to no job; a line with one comes first")
    if job is not None:
        yield job.end()


def _decoded(place: str, text: bytes) -> Line:
    try:
        line = msgspec.json.decode(text, type=Line)
    except msgspec.DecodeError as error:
        raise InvalidRequest(
            f"{place}: is not one of `jobkeep export`: {error}; nothing after it was imported"
        ) from error
    if sum(one is not None for one in (line.job, line.execution, line.failure)) != 1:
        raise InvalidRequest(
            f"{place}: has to have one of `job`, `execution` and `failure`; nothing after it was "
            "imported"
        )
    return line


class _Job:
    """One job that is being imported. What is kept of it already is passed over."""

    def __init__(
        self, client: Client[CheckpointState], state: CheckpointState, replace: bool
    ) -> None:
        self._client = client
        self._job_id = state.job_id
        sheets = list(state.sheets.values())
        begun = client.call(ImportJob(without_sheets(state), sheets, replace))
        self._why = begun.why
        self._count = self._kept = begun.executions or 0
        self._seen = 0
        self._executions: list[KeptExecution] = []
        self._failures: list[KeptFailure] = []
        self._bytes = 0

    def add(self, line: Line) -> None:
        """One line more."""
        if self._why is not None:
            return
        if line.failure is not None:
            self._failures.append(line.failure)
        elif line.execution is not None:
            self._seen += 1
            if self._seen > self._kept:
                self._executions.append(line.execution)
                texts = (line.execution.prompt, line.execution.output)
                self._bytes += sum(len(text or "") for text in texts)
        if self._bytes >= BATCH_BYTES or len(self._executions) + len(self._failures) >= BATCH_ROWS:
            self._send()

    def end(self) -> ImportedJob:
        """Send what is left; gives what has become of the job."""
        if self._why is None:
            self._send()
        if self._why is not None:
            return ImportedJob(self._job_id, "skipped", self._count - self._kept, self._why)
        return ImportedJob(self._job_id, "imported", self._count - self._kept)

    def _send(self) -> None:
        expected = self._count + len(self._executions)
        request = ImportHistory(self._job_id, self._count, self._executions, self._failures)
        try:
            self._count = self._client.call(request)
        except (LimitExceeded, InvalidRequest, JobNotFound) as error:  # of this job, and no other
            self._why = str(error)
        else:
            self._why = None if self._count == expected else "somebody else works on it"
        self._executions, self._failures, self._bytes = [], [], 0
