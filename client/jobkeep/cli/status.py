"""`jobkeep status`: how the daemon is."""

from __future__ import annotations

import click
import msgspec

from jobkeep.cli.common import connect, json_option
from jobkeep.cli.output import (
    coloured,
    counted,
    document,
    fields,
    local_now,
    printable,
    size,
    table,
)
from jobkeep.cli.times import ago, duration, latency
from jobkeep_protocol.messages import DaemonStatus, Worry

COLUMNS = ("OPERATION", "REQUESTS", "ERRORS", "P50", "P95", "P99", "MAX")


@click.command("status")
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show how the daemon is. Exits with 3 when there is none.

    Rates are of the last ten seconds, counts and times since its start. What needs attention comes
    last, each with what to do.
    """
    with connect(ctx) as client:
        status = client.status()
    if as_json:
        document(msgspec.structs.asdict(status))
    else:
        show(status)


def show(status: DaemonStatus) -> None:
    """Print how a daemon is."""
    fields(
        [
            ("daemon", f"jobkeepd {status.version}, pid {status.pid}"),
            ("up for", duration(status.uptime_seconds)),
            ("socket", status.socket),
            ("database", _database(status)),
            ("write-ahead log", size(status.wal_bytes)),
            ("last checkpoint", ago(status.last_checkpoint_at, local_now())),
            ("jobs", _counts(status.jobs, "{count} {name}") or "none"),
            ("clients", status.clients),
            ("queue", _queue(status)),
            ("now", _rates(status)),
            ("since its start", _work(status)),
            ("errors", _counts(status.errors) or "none"),
            ("limits reached", _counts(status.limits_reached) or "none"),
            ("worries", f"{len(status.worries)}, below" if status.worries else "none"),
        ]
    )
    if status.operations:
        print()
        table(COLUMNS, _rows(status))
    for worry in status.worries:
        _print_worry(worry)


def _database(status: DaemonStatus) -> str:
    return (
        f"{status.database} ({size(status.database_bytes)}, durability {status.durability}, "
        f"schema {status.schema_version})"
    )


def _queue(status: DaemonStatus) -> str:
    if not status.queued_writes:
        return "empty"
    return f"{counted(status.queued_writes, 'write')}, {size(status.queued_bytes)}"


def _rates(status: DaemonStatus) -> str:
    writes, commits = status.writes_per_second, status.commits_per_second
    return f"{writes:.1f} writes/s in {commits:.1f} commits/s{_writes_a_commit(writes, commits)}"


def _work(status: DaemonStatus) -> str:
    return (
        f"{counted(status.requests, 'request')}; {counted(status.writes, 'write')} in "
        f"{counted(status.commits, 'commit')}{_writes_a_commit(status.writes, status.commits)}"
    )


def _writes_a_commit(writes: float, commits: float) -> str:
    return f", {writes / commits:.1f} a commit" if commits else ""


def _counts(counts: dict[str, int], form: str = "{name} {count}") -> str:
    return ", ".join(form.format(name=name, count=count) for name, count in counts.items())


def _rows(status: DaemonStatus) -> list[tuple[object, ...]]:
    """The figures of each operation, the most frequent first."""
    by_requests = sorted(status.operations.items(), key=lambda item: -item[1].requests)
    return [
        (
            name,
            one.requests,
            one.errors,
            latency(one.p50_seconds),
            latency(one.p95_seconds),
            latency(one.p99_seconds),
            latency(one.max_seconds),
        )
        for name, one in by_requests
    ]


def _print_worry(worry: Worry) -> None:
    print()
    coloured(f"! {printable(worry.what)}", "bold yellow")
    print(f"  {printable(worry.advice)}")
