"""What the commands print.

What lives here: messages, one JSON document, a table, a list of fields, and text made safe for a
terminal. What may not: reading from the daemon.

Colours and the width of the window matter on a terminal only, so rich is imported there only; in
a pipe a table is plain text in columns that are as wide as their contents.
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cache
from typing import Any, TextIO

import msgspec

STATUS_COLOURS = {
    "running": "cyan",
    "in_progress": "cyan",
    "completed": "green",
    "failed": "red",
    "paused": "yellow",
    "paused_at_chain": "yellow",
    "cancelled": "magenta",
    "skipped": "dim",
}


def local_now() -> datetime:
    """The time now, in the zone of whoever reads it."""
    return datetime.now().astimezone()


def message(text: str) -> None:
    """Say something to whoever reads standard error; when nobody does, work goes on unsaid.

    What was printed comes first, also where both streams lead to one file. That it cannot be
    written is for the end of the command to say, which tries again.
    """
    with suppress(OSError):
        sys.stdout.flush()
    try:
        print(f"jobkeep: {text}", file=sys.stderr, flush=True)
    except BrokenPipeError:
        discard(sys.stderr)


def limit_reached(limit: int) -> None:
    """Say that a table ends where it was told to."""
    message(f"--limit {limit} is reached; there may be more")


def discard(stream: TextIO) -> None:
    """Nobody reads this stream any more: what is buffered, and all that follows, goes nowhere.

    Otherwise Python would try again at its end, and exit with 120.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def document(value: Any) -> None:
    """Print one JSON document; times in it are ISO 8601 in UTC, as the daemon writes them."""
    import json

    plain = msgspec.to_builtins(value, builtin_types=(datetime,), str_keys=True)
    print(json.dumps(plain, indent=2, ensure_ascii=False, default=datetime.isoformat))


def why_not_completed(status: str, error_message: str | None) -> str | None:
    """What to tell as a job's error: nothing once it is completed after all.

    A job that was paused because its process died, and then finished by another, keeps the message
    of that; --json has it.
    """
    return None if status == "completed" else error_message


def all_fields(state: msgspec.Struct) -> dict[str, Any]:
    """Every field of a state, also those that hold their default."""
    return {
        name: all_fields_of_each(getattr(state, name)) if name == "sheets" else getattr(state, name)
        for name in state.__struct_fields__
    }


def all_fields_of_each(states: Mapping[int, msgspec.Struct]) -> dict[int, dict[str, Any]]:
    """`all_fields` for the sheets of a job."""
    return {number: all_fields(state) for number, state in sorted(states.items())}


def fields(pairs: Iterable[tuple[str, object]]) -> None:
    """Print a name and a value a line; values that are None are left out."""
    shown = [(name, printable(str(value))) for name, value in pairs if value is not None]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        print(f"{name:<{width}}  {value}")


WIDE_COLUMNS = frozenset({"JOB", "ITEM", "ERROR", "PROMPT", "OUTPUT", "CLIENT", "ABOUT", "PATTERN"})
"""The columns that give way when the window is narrow; the others are short and stay whole."""

GAP = "  "

WIDEST_CELL = 80
"""How far one long cell may push the columns to its right when the output is no terminal."""


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], stream: TextIO | None = None
) -> None:
    """Print rows of text below the names of their columns, on standard output or on `stream`.

    A column called STATUS is coloured on a terminal.
    """
    file = stream or sys.stdout
    texts = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
    least = [
        len(name) if name in WIDE_COLUMNS else width
        for name, width in zip(columns, widths, strict=True)
    ]
    if file.isatty() and _fits_in_window(least):
        _table_on_terminal(columns, texts, least, file)
        return
    for row in (columns, *texts):
        padded = (
            cell.ljust(min(WIDEST_CELL, width)) for cell, width in zip(row, widths, strict=True)
        )
        print(GAP.join(padded).rstrip(), file=file)


def _fits_in_window(widths: Sequence[int]) -> bool:
    """Whether columns that are no wider than these fit beside each other. Where they do not, lines
    that go on below are better than columns that fall off the edge."""
    from shutil import get_terminal_size

    return sum(widths) + len(GAP) * (len(widths) - 1) <= get_terminal_size().columns


def _table_on_terminal(
    columns: Sequence[str], rows: Sequence[Sequence[str]], least: Sequence[int], file: TextIO
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column, width in zip(columns, least, strict=True):
        shown.add_column(column, overflow="ellipsis", no_wrap=True, min_width=width)
    status = columns.index("STATUS") if "STATUS" in columns else None
    for row in rows:
        cells = [Text(cell) for cell in row]
        if status is not None:
            cells[status].stylize(STATUS_COLOURS.get(row[status], ""))
        shown.add_row(*cells)
    Console(file=file).print(shown)


def coloured(text: str, style: str) -> None:
    """Print a line in a style of rich when the output is a terminal."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.text import Text

        Console(soft_wrap=True).print(Text(text, style=style))
    else:
        print(text)


def printable(text: str) -> str:
    """`text` on one line, with what a terminal would act upon written as an escape."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def printable_lines(text: str) -> str:
    """`printable` for text of several lines, tabs kept."""
    return "".join(one if one in "\n\t" else printable(one) for one in text)


def preview(text: str | None, width: int) -> str:
    """The beginning of a text, in one line; `-` for none."""
    if not text:
        return "-"
    line = printable(" ".join(text[: 4 * width].split()))
    return line if len(line) <= width else f"{line[: width - 1]}…"


@cache
def user_name(uid: int) -> str:
    """The name of a user, or the number of one without a name on this machine."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def counted(number: int, noun: str) -> str:
    """`1 sheet`, `2 sheets`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def percentage(value: float | None) -> str:
    """`98.5 %`; `-` for none."""
    return "-" if value is None else f"{value:.1f} %"


def size(number_of_bytes: int) -> str:
    """A number of bytes, for people."""
    value = float(number_of_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
