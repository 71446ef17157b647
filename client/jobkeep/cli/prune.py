"""`jobkeep prune`: remove what is old."""

from __future__ import annotations

import re
import sys
from contextlib import nullcontext
from typing import Any

import click

from jobkeep.cli.common import connect, json_option
from jobkeep.cli.output import counted, document, message, size, table
from jobkeep.cli.times import parse_duration
from jobkeep.client import Client
from jobkeep_protocol import calls
from jobkeep_protocol.calls import Pruned
from jobkeep_protocol.pruning import PruneResult
from jobkeep_protocol.states import CheckpointState
from jobkeep_protocol.values import refused

_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


@click.command("prune")
@click.option("--older-than", metavar="AGE", help="What is older than 30d, 12h, …")
@click.option(
    "--keep-last",
    type=int,
    metavar="N",
    help="Not the newest N: attempts of each sheet, or jobs of each status.",
)
@click.option(
    "--status", multiple=True, metavar="STATUS", help="Whole jobs of this status; may be repeated."
)
@click.option(
    "--max-bytes",
    metavar="SIZE",
    help="The oldest attempts, until the prompts and outputs of the others take no more: 500M, 2G.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Tell what would go, and remove nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    older_than: str | None,
    keep_last: int | None,
    status: tuple[str, ...],
    max_bytes: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Remove old attempts and failures, or with --status whole jobs, after asking.

    Attempts go that are older than --older-than and not among the newest --keep-last of their
    sheet; or the oldest, until --max-bytes. With --status jobs go that were last updated longer ago
    than --older-than. Nothing goes of a job that is live, and what went stays counted in reports.
    Others go on working meanwhile; interrupted, it has removed a part, and goes on when it is
    called again.
    """
    criteria: dict[str, Any] = {
        "older_than": None if older_than is None else parse_duration("--older-than", older_than),
        "keep_last": keep_last,
        "status": status,
        "max_bytes": None if max_bytes is None else parse_size("--max-bytes", max_bytes),
    }
    if not dry_run and not yes and not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on; give --yes to prune", ctx)
    with connect(ctx) as client:
        if dry_run or not yes:
            wanted = client.prune(**criteria, dry_run=True)
            if dry_run:
                _show(wanted, as_json, "would be pruned")
                return 0
            if not click.confirm(f"Remove {_words(wanted)}?", err=True):
                message("nothing was removed")
                return 1
        result = _prune(client, criteria)
    _show(result, as_json, "pruned")
    return 0


def parse_size(name: str, text: str) -> int:
    """Bytes in `500M`, `2 GiB` or `1000`.

    Raises InvalidRequest, naming the option `name`, for anything else.
    """
    found = re.fullmatch(r"(\d+)\s*([kmgt]?)(i?b)?", text.strip().lower())
    if found is None:
        raise refused(name, text, "a size such as 500M or 2G, or a number of bytes")
    return int(found[1]) * _UNITS[found[2]]


def _prune(client: Client[CheckpointState], criteria: dict[str, Any]) -> PruneResult:
    """Do it; when it is interrupted, or fails on the way, say how far it came."""
    so_far = Pruned()
    call = calls.prune(**criteria, pruned=so_far)
    try:
        return calls.run_blocking(call, client.call, nullcontext())
    except BaseException:
        message(f"not finished: {_words(so_far.result())} removed so far; the rest is as it was")
        raise


def _show(result: PruneResult, as_json: bool, done: str) -> None:
    if as_json:
        document(result)
    elif done != "pruned" and result.listed:
        rows = [
            (one.job_id, "whole" if one.whole else "-", one.attempts, one.failures, size(one.bytes))
            for one in result.listed
        ]
        table(("JOB", "JOB ITSELF", "ATTEMPTS", "FAILURES", "TEXTS"), rows)
    freed = f"; the file gets {size(result.freed_bytes)} shorter" if result.freed_bytes else ""
    message(f"{done}: {_words(result)}{freed}")


def _words(result: PruneResult) -> str:
    parts = [counted(result.jobs, "job")] if result.jobs else []
    parts += [
        f"{counted(result.attempts, 'attempt')} with {size(result.bytes)} of prompts and outputs",
        counted(result.failures, "failure"),
    ]
    return ", ".join(parts)
