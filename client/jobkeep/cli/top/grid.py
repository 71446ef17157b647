"""Columns that fit into a window of any width.

What lives here: which columns there is room for and how wide they are, and a row of cells as one
line of exactly that width. What may not: what is in the cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text

from jobkeep.cli.output import printable

GAP = 2


class Column(NamedTuple):
    """`rank` says how soon a column is left out of a narrow window: the highest goes first.

    `most` is how wide it may become where there is room left.
    """

    title: str
    width: int
    rank: int = 0
    most: int = 0
    is_right: bool = False


class Grid:
    """The columns that there is room for; at least those of rank 0, cut where the window ends."""

    def __init__(self, columns: Sequence[Column], width: int) -> None:
        self._width = width
        self._columns = columns
        self._places = list(range(len(columns)))
        for place in sorted(self._places, key=self._rank_of, reverse=True):
            if self._needed() > width and columns[place].rank:
                self._places.remove(place)
        self._widths = {place: columns[place].width for place in self._places}
        self._share_out(width - self._needed())

    def titles(self) -> Text:
        """The first line."""
        return self._line([column.title for column in self._columns], "bold")

    def row(self, cells: Sequence[str | Text], is_selected: bool) -> Text:
        """A line. Text is shown as it is; plain text is made safe for a terminal."""
        line = self._line(cells, "")
        if is_selected:
            line.stylize("reverse")
        return line

    def _rank_of(self, place: int) -> int:
        return self._columns[place].rank

    def _needed(self) -> int:
        widths = [self._columns[place].width for place in self._places]
        return sum(widths) + GAP * (len(widths) - 1)

    def _share_out(self, left: int) -> None:
        """Give the room that is left to the columns that can use it, the first ones first."""
        for place in self._places:
            more = max(0, min(left, self._columns[place].most - self._widths[place]))
            self._widths[place] += more
            left -= more

    def _line(self, cells: Sequence[str | Text], style: str) -> Text:
        line = Text(style=style, no_wrap=True)
        for place in self._places:
            cell = cells[place]
            text = cell.copy() if isinstance(cell, Text) else Text(printable(cell))
            width = self._widths[place]
            text.truncate(width, overflow="ellipsis")
            text.align("right" if self._columns[place].is_right else "left", width)
            line.append_text(text)
            if place != self._places[-1]:
                line.append(" " * GAP)
        line.truncate(self._width, overflow="crop", pad=True)
        return line
