"""The page that says what the keys do.

What lives here: its text. What may not: doing it (that is `model`).
"""

from __future__ import annotations

from rich.text import Text

from jobkeep.cli.times import duration
from jobkeep.cli.top.jobs import ORDERS

_KEYS = [
    ("Up, Down, k, j", "move"),
    ("PgUp, PgDn", "move by a page"),
    ("Home, End, g, G", "go to the beginning, to the end"),
    ("Enter", "open the selected job: its sheets and its last outputs"),
    ("Tab", "in a job: move in the sheets, or in the outputs"),
    ("Esc, q", "go back; q also ends it"),
    ("s", f"sort by the next of {', '.join(ORDERS)}"),
    ("r", "reverse the order"),
    ("/", "show jobs with this text: Enter keeps it, Esc clears it"),
    ("f", "show jobs with the next status"),
    ("c", "clients, or jobs again"),
    ("Space", "freeze the picture, or let it go on"),
    ("Ctrl-C", "end it"),
]


def help_lines(stuck_after: float) -> list[Text]:
    """The lines of the page."""
    lines = [Text.assemble((f"{key:<16}", "bold"), text) for key, text in _KEYS]
    return [
        *lines,
        Text(),
        Text(f"STUCK is a running job that has not changed for {duration(stuck_after)}."),
        Text("RATE is sheets an hour over the last ten minutes, or since this was started."),
    ]
