"""What a terminal sends for a key.

What lives here: the names of keys, and `KeyReader`, which makes keys from bytes. What may not: the
terminal (bytes come from `terminal`), and what a key does.

A key is text: the character that it types, or one of the names below.
"""

from __future__ import annotations

import codecs
import re

UP = "up"
DOWN = "down"
PAGE_UP = "page up"
PAGE_DOWN = "page down"
HOME = "home"
END = "end"
ENTER = "enter"
ESCAPE = "escape"
TAB = "tab"
BACKSPACE = "backspace"

_SEQUENCES = {
    "[A": UP,
    "OA": UP,
    "[B": DOWN,
    "OB": DOWN,
    "[5~": PAGE_UP,
    "[6~": PAGE_DOWN,
    "[H": HOME,
    "OH": HOME,
    "[1~": HOME,
    "[7~": HOME,
    "[F": END,
    "OF": END,
    "[4~": END,
    "[8~": END,
}
"""What follows the escape character."""

_CONTROLS = {"\r": ENTER, "\n": ENTER, "\t": TAB, "\x7f": BACKSPACE, "\x08": BACKSPACE}

_ESCAPE = "\x1b"
_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|O[@-~])")
_BEGUN = re.compile(r"\x1b(\[[0-?]*[ -/]*|O)?")


class KeyReader:
    """Bytes in, keys out. Sequences of keys that are not known here are left out."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    @property
    def is_undecided(self) -> bool:
        """Whether what follows says which key it was: Escape is how other keys begin."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[str]:
        """The keys that are complete with these bytes."""
        self._rest += self._decoder.decode(data)
        found = []
        while self._rest and not _BEGUN.fullmatch(self._rest):
            found.append(self._next())
        return [key for key in found if key]

    def decide(self) -> list[str]:
        """Nothing has followed: it was Escape by itself."""
        rest, self._rest = self._rest, ""
        return [ESCAPE] if rest == _ESCAPE else []

    def _next(self) -> str:
        """Take the next key from what has come; empty for one that is not known."""
        sequence = _SEQUENCE.match(self._rest)
        if sequence is not None:
            self._rest = self._rest[sequence.end() :]
            return _SEQUENCES.get(sequence[1], "")
        first, self._rest = self._rest[0], self._rest[1:]
        if first == _ESCAPE:
            return ESCAPE
        return _CONTROLS.get(first) or (first if first.isprintable() else "")
