"""The items of `jobkeep run`: where they come from, and the command for each.

What lives here: splitting the command line at `:::`, splitting standard input, checking, and
putting an item into a command. Pure, but for reading the stream it is given. What may not: sheets
and jobs (that is `plan`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from jobkeep_protocol.errors import InvalidRequest
from jobkeep_protocol.values import show

PLACE = "{}"
SEPARATOR = ":::"


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """The command, and the items after the first `:::` (None when there is no `:::`).

    Raises InvalidRequest when there is no command, or no item after `:::`.
    """
    command, items = list(arguments), None
    if SEPARATOR in command:
        at = command.index(SEPARATOR)
        command, items = command[:at], command[at + 1 :]
    if not command:
        raise InvalidRequest("the command is missing; give it after --, as in `-- gzip -k {}`")
    if items == []:
        raise InvalidRequest(f"no item follows {SEPARATOR}; expected one or more")
    for place, text in enumerate(command, 1):
        _check_text(f"argument {place} of the command", text)
    for place, text in enumerate(items or [], 1):
        _check_text(f"item {place}", text)
    return command, items


def read_items(stream: BinaryIO, is_nul_separated: bool) -> list[str]:
    """The items on a stream: its lines, or what stands between NULs. Empty ones are left out.

    Raises InvalidRequest when there is none, and for one that is no text.
    """
    parts = stream.read().split(b"\0" if is_nul_separated else b"\n")
    items = [part.decode(errors="surrogateescape") for part in parts if part]
    if not items:
        raise InvalidRequest(
            "standard input holds no item; expected one a line"
            + (", separated by NUL as -0 says" if is_nul_separated else "")
        )
    for place, text in enumerate(items, 1):
        _check_text(f"item {place}", text)
    return items


def command_for(template: Sequence[str], item: str) -> list[str]:
    """The command for an item: every `{}` replaced by it; at the end when there is none."""
    if any(PLACE in argument for argument in template):
        return [argument.replace(PLACE, item) for argument in template]
    return [*template, item]


def _check_text(name: str, text: str) -> None:
    if "\0" in text:
        raise InvalidRequest(
            f"{name} is {show(text)} and holds a NUL, which no argument can; with items that are "
            "separated by NUL give -0"
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(
            f"{name} is {show(text)}; expected text that is valid UTF-8, since it is kept as text"
        ) from None
