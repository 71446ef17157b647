"""Completion of command lines in a shell: commands, options, and the ids of jobs.

What lives here: what can be completed, beyond what click knows of itself. What may not: what is
needed when a command runs; only shells come here. A shell is told nothing of errors: what cannot be
found is not offered.
"""

from __future__ import annotations

from click import Context
from click.shell_completion import CompletionItem, shell_complete

from jobkeep.client import Client
from jobkeep_protocol.errors import JobkeepError

JOBS_OFFERED = 200
"""Of those that were updated last."""

SECONDS = 1.0
"""How long somebody who has pressed Tab may have to wait for a daemon."""


def complete(instruction: str) -> int:
    """Print a script for a shell, or what it may go on with; gives the exit status.

    `instruction` is that of click: `bash_source`, `zsh_complete` and so on.
    """
    from jobkeep.cli import COMPLETE
    from jobkeep.cli.app import group

    return shell_complete(group, {}, "jobkeep", COMPLETE, instruction)


def commands(incomplete: str) -> list[CompletionItem]:
    """The commands that begin so; none of them is imported for it."""
    from jobkeep.cli.app import COMMANDS

    return [
        CompletionItem(name, help=text)
        for name, text in COMMANDS.items()
        if name.startswith(incomplete)
    ]


def jobs(ctx: Context, incomplete: str) -> list[CompletionItem]:
    """The jobs whose ids begin so, last updated first, but for those that a shell cannot show."""
    try:
        with Client(ctx.find_root().params.get("socket"), timeout=SECONDS) as client:
            found = client.query_jobs(limit=JOBS_OFFERED)
    except JobkeepError:
        return []
    return [
        CompletionItem(job["id"], help=str(job["status"]))
        for job in found
        if job["id"].startswith(incomplete) and job["id"].isprintable()
    ]
