"""`jobkeep status`: how the daemon is."""

from __future__ import annotations

import click
import msgspec

from jobkeep.cli.common import connect, json_option
from jobkeep.cli.output import counted, document, fields, size
from jobkeep.cli.times import duration


@click.command("status")
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show how the daemon is. Exits with 3 when there is none."""
    with connect(ctx) as client:
        status = client.status()
    if as_json:
        document(msgspec.structs.asdict(status))
        return
    jobs = ", ".join(f"{count} {name}" for name, count in status.jobs.items())
    fields(
        [
            ("daemon", f"jobkeepd {status.version}, pid {status.pid}"),
            ("up for", duration(status.uptime_seconds)),
            ("socket", status.socket),
            ("database", f"{status.database} ({size(status.database_bytes)})"),
            ("write-ahead log", size(status.wal_bytes)),
            ("durability", status.durability),
            ("schema", f"version {status.schema_version}"),
            ("clients", status.clients),
            ("jobs", jobs or "none"),
            ("since its start", _work(status.writes, status.commits)),
        ]
    )


def _work(writes: int, commits: int) -> str:
    return f"{counted(writes, 'write')} in {counted(commits, 'commit')}"
