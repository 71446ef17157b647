"""Completion of command lines in a shell: commands, options, operations with their
parameters, and the ids of jobs.

What lives here: what can be completed, beyond what click knows of itself. What may not: what is
needed when a command runs; only shells come here. A shell is told nothing of errors: what cannot be
found is not offered.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from enum import Enum
from itertools import pairwise
from typing import Any, get_args

from click import Context
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    shell_complete,
)

from jobkeep.cli.operations import by_name, find_operation, first_sentence
from jobkeep.cli.parameters import kinds_of
from jobkeep.client import Client
from jobkeep_protocol.errors import InvalidRequest, JobkeepError
from jobkeep_protocol.varlink import INTERFACE, METHODS

JOBS_OFFERED = 200
"""Of those that were updated last."""

SECONDS = 1.0
"""How long somebody who has pressed Tab may have to wait for a daemon."""


class _Bash(BashComplete):
    """As click has it, but without a space after a key, for its value comes next."""

    source_template = BashComplete.source_template.replace(
        "COMPREPLY+=($value)", 'COMPREPLY+=($value); [[ "$value" != *= ]] || compopt -o nospace'
    )


def complete(instruction: str) -> int:
    """Print a script for a shell, or what it may go on with; gives the exit status.

    `instruction` is that of click: `bash_source`, `zsh_complete` and so on.
    """
    from jobkeep.cli import COMPLETE
    from jobkeep.cli.app import group

    add_completion_class(_Bash)
    return shell_complete(group, {}, "jobkeep", COMPLETE, instruction)


def commands(incomplete: str) -> list[CompletionItem]:
    """The commands that begin so; none of them is imported for it."""
    from jobkeep.cli.app import COMMANDS

    return [
        CompletionItem(name, help=text)
        for name, text in COMMANDS.items()
        if name.startswith(incomplete)
    ]


def operations(incomplete: str) -> list[CompletionItem]:
    """The operations whose names begin so, in the form of the name that was begun."""
    if incomplete.startswith("org"):
        named = {f"{INTERFACE}.{method}": operation for method, operation in METHODS.items()}
    elif incomplete[:1].isupper():
        named = METHODS
    else:
        named = by_name()
    return [
        CompletionItem(name, help=first_sentence(operation))
        for name, operation in named.items()
        if name.startswith(incomplete)
    ]


def parameters(ctx: Context, incomplete: str) -> list[CompletionItem]:
    """The keys that an operation takes and was not given yet, or the values of one.

    Where a shell takes `key=value` for one word, so does what is offered; bash takes it for three.
    """
    try:
        kinds = kinds_of(find_operation(ctx.params.get("operation") or ""))
    except InvalidRequest:
        return []
    before = ctx.params.get("given") or ()
    name, equals, value = incomplete.partition("=")
    if equals:
        begin = f"{name}="
    else:
        name, begin, value = _begun(before, kinds), "", incomplete
    if name:
        offered = _values(ctx, name, kinds.get(name), value)
        return [CompletionItem(f"{begin}{one.value}", help=one.help) for one in offered]
    given = {one.partition("=")[0] for one in before if "=" in one}
    given |= {name for name, equals in pairwise(before) if equals == "="}
    return [
        CompletionItem(f"{key}=")
        for key in kinds
        if key not in given and key.startswith(incomplete)
    ]


def _begun(before: Sequence[str], kinds: Container[str]) -> str:
    """The key whose value comes next where a shell takes `key`, `=` and the value for three words;
    else nothing. The `=` is not there when it is the last word, for click drops it."""
    match before:
        case [*_, name, "="]:
            pass
        case [*_, "=", _]:
            return ""
        case [*_, name]:
            pass
        case _:
            return ""
    return name if name in kinds else ""


def _values(ctx: Context, name: str, kind: Any, incomplete: str) -> list[CompletionItem]:
    """What a field may hold, as far as that can be told."""
    if name == "job_id":
        return jobs(ctx, incomplete)
    found: list[str] = []
    for one in get_args(kind) or (kind,):
        if isinstance(one, type) and issubclass(one, Enum):
            found += [member.value for member in one]
        elif one is bool:
            found += ["true", "false"]
    return [CompletionItem(value) for value in found if value.startswith(incomplete)]


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
