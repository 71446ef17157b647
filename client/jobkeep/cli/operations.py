"""Operations on a command line: the argument OPERATION, and what it names.

What lives here: finding an operation by any of its names, and what a list says of it. What may not:
its parameters (that is `parameters`), and importing the descriptions, which take long.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import click

from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.request import Request, name_of, operation_name
from jobkeep_protocol.values import show
from jobkeep_protocol.varlink import INTERFACE, METHODS

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def operation_argument(*, required: bool) -> Callable[[FunctionT], FunctionT]:
    """`OPERATION`."""
    return click.argument(
        "operation", metavar="OPERATION", required=required, shell_complete=complete_operation
    )


def complete_operation(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[Any]:
    """What a shell is offered for OPERATION."""
    from jobkeep.cli.completion import operations

    del ctx
    return operations(incomplete)


def by_name() -> dict[str, type[Request[Any]]]:
    """The operations that can be called, by their names in the binary dialect."""
    return {name_of(operation): operation for operation in METHODS.values()}


def find_operation(name: str) -> type[Request[Any]]:
    """The operation of this name, as either dialect has it: load, Load, org.jobkeep.Load.

    Raises InvalidRequest when there is none.
    """
    operations = by_name()
    plain = operation_name(name.removeprefix(f"{INTERFACE}."))
    if plain in operations:
        return operations[plain]
    from difflib import get_close_matches

    near = get_close_matches(plain, operations, 1)
    guess = f" (is it {near[0]}?)" if near else ""
    raise InvalidRequest(
        f"there is no operation {show(name)}{guess}; `jobkeep introspect` lists all"
    )


def first_sentence(operation: type[Request[Any]]) -> str:
    """What an operation does, in short."""
    paragraph = " ".join((inspect.getdoc(operation) or "").partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip(".")
