"""How figures are written in the window: short, and as wide as their columns expect.

What lives here: a figure in, its text out. What may not: where it is shown.
"""

from __future__ import annotations

from rich.text import Text

from jobkeep.cli.output import STATUS_COLOURS, printable
from jobkeep.cli.times import duration
from jobkeep.cli.top.jobs import STUCK

ALARM_STYLE = "bold white on red"


def status_text(label: str) -> Text:
    """A status, or STUCK, in its colour."""
    style = ALARM_STYLE if label == STUCK else STATUS_COLOURS.get(label, "")
    return Text(printable(label), style=style)


def bar(part: float, width: int) -> Text:
    """How much of a whole there is, from 0 to 1, as a bar."""
    filled = int(part * width)
    return Text.assemble(("━" * filled, "green"), ("─" * (width - filled), "dim"))


def since(seconds: float) -> str:
    """For how long something has been so; what is new is `now`."""
    return "now" if seconds < 1 else duration(float(int(seconds)))


def number(value: float) -> str:
    """A rate a second: `0`, `0.3`, `1,234`."""
    return f"{value:,.0f}" if value >= 9.95 or value == 0 else f"{value:.1f}"


def an_hour(per_second: float | None) -> str:
    """A rate of sheets: `0.5/h`, `1,200/h`; `-` while none is known."""
    return f"{number(per_second * 3600)}/h" if per_second else "-"
