"""What all targets share: how a stream is changed, and how it is cut.

Coverage is that of our own Python code. What msgspec does with the bytes, in C, guides nobody, and
bytes that are changed without order seldom get past it: so half of the changes are those of
`mutations`.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable

import atheris

from tests.fuzz.conversations import of_all_requests
from tests.fuzz.dialects import FRAMES
from tests.fuzz.mutations import Mutator, seeded

EXAMPLES = of_all_requests().messages


def fuzz(try_one: Callable[[bytes], None]) -> None:
    """Try one stream after the other, as the arguments of the command say. Does not return."""
    atheris.Setup(sys.argv, try_one, custom_mutator=_change)
    atheris.Fuzz()


def pieces_of(stream: bytes) -> list[bytes]:
    """A stream in pieces, always in the same ones."""
    return Mutator(FRAMES, seeded(zlib.crc32(stream))).pieces(stream)


def _change(stream: bytes, max_size: int, seed: int) -> bytes:
    random = seeded(seed)
    if random.random() < 0.5:
        changed: bytes = atheris.Mutate(stream, max_size)
        return changed
    messages = FRAMES.split(stream) or EXAMPLES
    return Mutator(FRAMES, random).stream(messages)[:max_size]
