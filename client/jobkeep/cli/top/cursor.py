"""Where one is in a list that is longer than its window, and changes meanwhile.

What lives here: the part of a list that is in the window, the entry that is selected, and what the
keys for moving do to both. What may not: what the entries are, drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from jobkeep.cli.top import keys

EntryT = TypeVar("EntryT")


class Scroll:
    """A window on so many lines, of which none is selected."""

    def __init__(self) -> None:
        self._count = 0
        self._top = 0
        self._height = 1

    def set_count(self, count: int) -> None:
        """There are so many lines now."""
        self._count = count

    def window(self, height: int) -> range:
        """The lines to show in a window of this height; it is also what a page is from now on."""
        self._height = max(1, height)
        self._top = max(0, min(self._top, self._count - self._height))
        return range(self._top, min(self._count, self._top + max(0, height)))

    def press(self, key: str) -> bool:
        """Move, if this key moves; whether it does."""
        target = _target(key, self._top, self._count, self._height)
        if target is None:
            return False
        self._top = max(0, min(target, self._count - self._height))
        return True


class Cursor(Generic[EntryT]):
    """One selected entry, and the window around it.

    The selected entry stays selected where ever it moves in the list. The first place is different:
    who has not moved, or has gone back there, goes on seeing what comes first.
    """

    def __init__(self) -> None:
        self._entries: Sequence[EntryT] = ()
        self._index = 0
        self._follows = False
        self._top = 0
        self._height = 1

    @property
    def selected(self) -> EntryT | None:
        """The selected entry; None in an empty list."""
        return self._entries[self._index] if self._entries else None

    @property
    def visible(self) -> Sequence[EntryT]:
        """The entries in the window, as it was last asked for."""
        return self._entries[self._top : self._top + self._height]

    def show(self, entries: Sequence[EntryT]) -> None:
        """These are the entries now. A selected entry that is gone leaves the next one selected."""
        selected = self.selected
        self._entries = entries
        if self._follows and selected is not None and selected in entries:
            self._index = entries.index(selected)
        self._index = max(0, min(self._index, len(entries) - 1))

    def select(self, entry: EntryT) -> None:
        """Go to an entry of the list."""
        self._index = self._entries.index(entry)
        self._follows = True

    def window(self, height: int) -> range:
        """The places to show in a window of this height; it is also what a page is from now on."""
        self._height = max(1, height)
        lowest = max(0, len(self._entries) - self._height)
        self._top = max(self._index - self._height + 1, min(self._top, self._index, lowest))
        return range(self._top, min(len(self._entries), self._top + max(0, height)))

    def press(self, key: str) -> bool:
        """Move, if this key moves; whether it does."""
        target = _target(key, self._index, len(self._entries), self._height)
        if target is None:
            return False
        self._index = max(0, min(target, len(self._entries) - 1))
        self._follows = self._index > 0
        return True


def _target(key: str, place: int, count: int, page: int) -> int | None:
    """Where a key goes from a place, perhaps beyond the ends; None for other keys."""
    match key:
        case keys.UP | "k":
            return place - 1
        case keys.DOWN | "j":
            return place + 1
        case keys.PAGE_UP:
            return place - page
        case keys.PAGE_DOWN:
            return place + page
        case keys.HOME | "g":
            return 0
        case keys.END | "G":
            return count
    return None
