"""`jobkeep introspect`: which operations there are, and what one takes and gives.

All of it comes from the declarations of this version; no daemon is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from jobkeep.cli.common import json_option
from jobkeep.cli.operations import find_operation, first_sentence, operation_argument
from jobkeep.cli.output import document, table
from jobkeep_protocol.interface import (
    FieldDescription,
    OperationDescription,
    TypeDescription,
    describe,
)
from jobkeep_protocol.varlink import METHODS


@click.command("introspect")
@operation_argument(required=False)
@json_option
def command(operation: str | None, as_json: bool) -> None:
    """Say which operations there are, or what one takes and gives.

    Types are written as Varlink has them: ?int may be null, []int is a list, [string]int an object
    with keys of any name. `jobkeep call` asks for an operation.
    """
    wanted = None if operation is None else describe(find_operation(operation))
    if as_json:
        described = [describe(one) for one in METHODS.values()] if wanted is None else wanted
        document(_plain(described))
    elif wanted is None:
        _print_all()
    else:
        _print_one(wanted)


def _plain(value: Any) -> Any:
    """Descriptions as objects; to JSON a NamedTuple is a list."""
    if hasattr(value, "_asdict"):
        return {name: _plain(part) for name, part in value._asdict().items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _print_all() -> None:
    rows = [(describe(one).name, one.role, first_sentence(one)) for one in METHODS.values()]
    table(("OPERATION", "ROLE", "ABOUT"), rows)


def _print_one(told: OperationDescription) -> None:
    print(f"{told.name} ({told.method})\n\n{told.doc}\n")
    print(f"Needs the role {told.role}.{_pages(told)}")
    print(f"\n    jobkeep call {told.name}{''.join(map(_usage, told.fields))}")
    _print_fields("It takes", told.fields)
    _print_fields("It gives", told.reply_fields)
    for one in told.types:
        _print_type(one)


def _pages(told: OperationDescription) -> str:
    if told.streams:
        return " It waits for news; `jobkeep call --more` goes on until Ctrl-C."
    return " The reply is a page; `jobkeep call --more` gives all." if told.has_pages else ""


def _usage(field: FieldDescription) -> str:
    pair = f"{field.name}={field.type.removeprefix('?')}"
    return f" [{pair}]" if field.may_be_left_out else f" {pair}"


def _print_type(told: TypeDescription) -> None:
    print(f"\n{told.name}: {told.doc}")
    if told.values:
        print(f"\n    {', '.join(told.values)}")
    else:
        _print_fields("It has", told.fields)


def _print_fields(heading: str, fields: Sequence[FieldDescription]) -> None:
    if not fields:
        print(f"\n{heading} nothing.")
        return
    print(f"\n{heading}:\n")
    for one in fields:
        print(f"    {one.name}: {one.type}{_default(one)}")
        if one.doc:
            print(f"        {' '.join(one.doc.split())}")


def _default(field: FieldDescription) -> str:
    if not field.may_be_left_out:
        return ""
    return f" = {field.default}" if field.default else ", may be left out"
