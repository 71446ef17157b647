"""`jobkeep backup`: a copy of the whole database, while others use it."""

from __future__ import annotations

import click

from jobkeep.cli.common import connect, json_option
from jobkeep.cli.output import document, message, size


@click.command("backup")
@click.argument("file", type=click.Path(dir_okay=False))
@json_option
@click.pass_context
def command(ctx: click.Context, file: str, as_json: bool) -> None:
    """Write a copy of the database to a new FILE. Jobs go on meanwhile.

    FILE is one moment of the database and is on disk when this ends; a daemon starts on it as it
    is. Only root, the user of the daemon, and whom it names as admins may do this.
    """
    with connect(ctx) as client:
        written = client.backup(file)
    if as_json:
        document({"file": file, "bytes": written})
    message(f"wrote {size(written)} to {file}")
