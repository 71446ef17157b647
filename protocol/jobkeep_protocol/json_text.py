"""JSON text that is not decoded yet: where a message ends, and what it weighs.

What lives here: splitting a byte stream into the messages of the JSON dialect, and the limit of
what one takes in memory. What may not: the meaning of a message (that is `varlink`), and any I/O.

A message ends with a NUL, as Varlink has it, or with a newline, for people. JSON has no NUL
anywhere, so that always ends one. A newline may lie between the parts of an object that is written
on several lines, so it ends a message when all braces are closed. It may not lie within a text:
when one is open there, the message can be none, and ends too, to be refused.

Texts are passed over by searching and never character by character, so that a long one costs
little; all of it takes time in proportion to what has come, in however small pieces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from jobkeep_protocol.errors import ProtocolError
from jobkeep_protocol.framing import MAX_FRAME_BYTES
from jobkeep_protocol.weight import (
    CONTAINER_BYTES,
    MAX_WEIGHT,
    SMALL_BYTES,
    VALUE_BYTES,
    too_heavy,
)

NUL, NEWLINE = b"\0", b"\n"

_WHITESPACE = b" \t\r\n"
_ENDS = re.compile(rb"\0|\n[ \t\r\n]*")
_STEP_BYTES = 64 * 1024
"""How much is looked at in one go: what is made of it is for a moment as large, or larger."""


class Message(NamedTuple):
    """One message, and what ended it, for the answer to end in the same way."""

    body: bytes
    end: bytes


class MessageReader:
    """Splits a stream of bytes into messages, however the bytes arrive.

    `limit` is the largest message accepted. White space between two messages is skipped.
    """

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        self.limit = limit
        self._begin()

    @property
    def pending_bytes(self) -> int:
        """How much has arrived of a message that is not complete; 0 between two messages."""
        return len(self._pending)

    def receive_data(self, data: bytes) -> Iterator[Message]:
        """Take the next bytes of the stream; give the messages that are now complete, one by one.

        Iterate to the end. `limit` may change between two messages. Raises ProtocolError for one
        of more than `limit` bytes; the reader is of no use afterwards.
        """
        place = 0
        for found in _ENDS.finditer(data):
            self._take(data[place : found.start()])
            place = found.end()
            white_space = found[0]
            end = white_space[:1]
            if not self._pending:
                continue
            if end == NEWLINE and not self._ends_here():
                self._take(white_space)
                continue
            message = Message(bytes(self._pending), end)
            self._begin()
            yield message
        self._take(data[place:])

    def end(self) -> Message | None:
        """The stream has ended, and with it a message that nothing else ended; None without one."""
        message = Message(bytes(self._pending), NEWLINE) if self._pending else None
        self._begin()
        return message

    def _begin(self) -> None:
        self._pending = bytearray()
        self._looked_at = 0
        self._open_braces = 0
        self._outside = _Outside()

    def _take(self, data: bytes) -> None:
        """What comes next of the message, and has no end in it."""
        if not self._pending:
            data = data.lstrip(_WHITESPACE)
        if len(self._pending) + len(data) > self.limit:
            raise ProtocolError(
                f"a message has more than {self.limit} bytes",
                {"limit": "max_frame_bytes", "maximum": self.limit},
            )
        self._pending += data

    def _ends_here(self) -> bool:
        """Whether a newline after what is there ends the message."""
        for place in range(self._looked_at, len(self._pending), _STEP_BYTES):
            piece = self._outside.of(bytes(self._pending[place : place + _STEP_BYTES]))
            self._open_braces += piece.count(b"{") - piece.count(b"}")
        self._looked_at = len(self._pending)
        return self._open_braces <= 0 or self._outside.is_in_text


class _Outside:
    """Takes JSON text in pieces and gives what of each is not in a text of it."""

    def __init__(self) -> None:
        self.is_in_text = False
        self._escape = b""
        """A backslash at the end of the piece before."""

    def of(self, piece: bytes) -> bytes:
        """The next piece, without texts."""
        piece = (self._escape + piece).replace(rb"\\", b"").replace(rb"\"", b"")
        self._escape = b"\\" if piece.endswith(b"\\") else b""
        parts = piece.split(b'"')
        outside = parts[self.is_in_text :: 2]
        self.is_in_text ^= len(parts) % 2 == 0
        return b"".join(outside)


# -- weight ---------------------------------------------------------------------------------------


def check_json_weight(text: bytes) -> None:
    """Refuse what would take much more memory than its size lets expect, as `check_weight` does
    for msgpack: by the same limit, and with the same LimitExceeded.

    What is no JSON is left for the decoder to refuse, and so is what is nested too deeply.
    """
    if len(text) <= SMALL_BYTES or len(text) + _weight_of_values(text) <= MAX_WEIGHT:
        return  # what lies in texts was counted too, and even so it is little
    outside, weight = _Outside(), len(text)
    for place in range(0, len(text), _STEP_BYTES):
        weight += _weight_of_values(outside.of(text[place : place + _STEP_BYTES]))
        if weight > MAX_WEIGHT:
            raise too_heavy()


def _weight_of_values(text: bytes) -> int:
    """What the containers and values of some JSON weigh: each value but the first of a container
    comes after a comma, and that of a key after a colon."""
    containers = text.count(b"{") + text.count(b"[")
    return CONTAINER_BYTES * containers + VALUE_BYTES * (
        containers + text.count(b",") + text.count(b":")
    )
