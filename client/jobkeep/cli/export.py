"""`jobkeep export`: jobs with their history, as a database of their own or as JSON lines."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import click
import msgspec

from jobkeep.backup_file import BackupFile
from jobkeep.cli.common import complete_job, connect, json_option
from jobkeep.cli.output import counted, document, message, size
from jobkeep.client import Client
from jobkeep_protocol.errors import JobNotFound
from jobkeep_protocol.messages import ExportHistory, ReadBackup, StartBackup, StartExport
from jobkeep_protocol.states import CheckpointState

Format = Literal["sqlite", "jsonl"]


@click.command("export")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option(
    *("--job", "job_ids"),
    multiple=True,
    metavar="JOB",
    shell_complete=complete_job,
    help="Only this job; may be given several times.",
)
@click.option(
    *("--format", "kind"),
    type=click.Choice(["sqlite", "jsonl"]),
    help="[default: jsonl for `-` and for a FILE that ends in .jsonl, else sqlite]",
)
@json_option
@click.pass_context
def command(
    ctx: click.Context, file: str, job_ids: tuple[str, ...], kind: Format | None, as_json: bool
) -> None:
    """Write jobs with their sheets and their history to a new FILE, for `jobkeep import`.

    As a database (sqlite) a daemon starts on it as it is, and only administrators may do this; as
    JSON lines (jsonl) there is a line for each job and for each of its attempts, and `-` is
    standard output.
    """
    if kind is None:
        kind = "jsonl" if file == "-" or file.endswith(".jsonl") else "sqlite"
    if file == "-" and kind == "sqlite":
        raise click.UsageError("a database cannot go to standard output; name a new file", ctx)
    if file == "-" and as_json:
        raise click.UsageError("standard output has the jobs; --json needs a FILE", ctx)
    wanted = list(dict.fromkeys(job_ids))
    with connect(ctx) as client:
        pieces = _database(client, wanted) if kind == "sqlite" else _lines(client, wanted)
        if file == "-":
            _print(pieces)
            return
        with BackupFile(file) as written:
            for piece in pieces:
                written.write(piece)
            written.complete()
    if as_json:
        document({"file": file, "format": kind, "bytes": written.size})
    message(f"wrote {size(written.size)} to {file}")


def _print(pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def _database(client: Client[CheckpointState], job_ids: list[str]) -> Iterator[bytes]:
    """The bytes of a copy that holds these jobs, or all."""
    copy_id = client.call(StartExport(job_ids) if job_ids else StartBackup())
    request: ReadBackup | None = ReadBackup(copy_id)
    while request is not None:
        piece = client.call(request)
        yield piece.data
        request = request.following(piece)


def _lines(client: Client[CheckpointState], job_ids: list[str]) -> Iterator[bytes]:
    """A line for each job and then for each of its attempts and failures; those jobs that were
    updated last come last."""
    told = 0
    for job_id in job_ids or _all_jobs(client):
        state = client.load(job_id)
        if state is None and job_ids:
            raise JobNotFound.named(job_id)
        if state is None:  # deleted since
            continue
        told += 1
        yield _line("job", state)
        request: ExportHistory | None = ExportHistory(job_id)
        while request is not None:
            page = client.call(request)
            yield from (_line("execution", one) for one in page.executions)
            yield from (_line("failure", one) for one in page.failures)
            request = request.following(page)
    message(f"exported {counted(told, 'job')}")


def _all_jobs(client: Client[CheckpointState]) -> list[str]:
    found = client.query_jobs(limit=sys.maxsize)
    return [job["id"] for job in reversed(found)]


def _line(kind: str, value: Any) -> bytes:
    return msgspec.json.encode({kind: value}) + b"\n"
