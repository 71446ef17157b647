"""What a message weighs: how much memory it takes once it is decoded, told from its bytes.

What lives here: walking over msgpack without decoding it, and the limit. What may not: knowledge of
any message.

An empty map is one byte in a message and 72 in memory, so a frame of 32 MiB could become 2.4 GB.
What a request turns into is therefore limited by itself, before it is decoded. Two more things are
refused on the way, which no request has and which take decoding unduly long: nesting without end,
and lists or maps as the keys of a map (a list becomes a tuple, tuples with equal hashes are easily
made, and each is then compared with all before it).
"""

from __future__ import annotations

from jobkeep_protocol.errors import InvalidRequest, LimitExceeded
from jobkeep_protocol.framing import MAX_FRAME_BYTES

VALUE_BYTES = 40
"""About what a number or a short text takes, with its place in a list."""

CONTAINER_BYTES = 200
"""About what a list or a dict takes without its content; a sheet, with all its defaults, 500."""

MAX_WEIGHT = 4 * MAX_FRAME_BYTES
"""Room for a frame that is full of texts, or for a job with 100,000 sheets that have run."""

MAX_DEPTH = 128
"""Levels of lists and maps in a message: more than its free-form fields may have."""

SMALL_BYTES = 16 * 1024
"""What is no larger can neither weigh much nor take long, and is not looked into."""


def check_weight(message: bytes | memoryview) -> None:
    """Refuse what would take much more memory, or time, than its size lets expect.

    Raises LimitExceeded or InvalidRequest. What is no msgpack is left for the decoder to refuse.
    """
    if len(message) > SMALL_BYTES:
        weigh(message)


def weigh(message: bytes | memoryview) -> int:
    """About how many bytes of memory a message takes once it is decoded.

    Of what is no msgpack, the part before it counts. Raises LimitExceeded above MAX_WEIGHT, and
    InvalidRequest for the other things that are refused here.
    """
    weight = len(message)
    position, left, is_map = 0, 1, False
    outer: list[tuple[int, bool]] = []
    try:
        while True:
            while not left:
                if not outer:
                    return weight
                left, is_map = outer.pop()
            left -= 1
            kind = message[position]
            if size := _SIZES[kind]:
                position += size
            elif kind in _TEXTS:
                position += _size_of_text(message, position)
            else:
                if is_map and left % 2:
                    raise InvalidRequest("a key of a map is a list or a map; expected text")
                outer.append((left, is_map))
                position, left, is_map = _open_container(message, position)
                weight += CONTAINER_BYTES + left * VALUE_BYTES
                _check_limits(weight, len(outer))
    except IndexError:  # it is cut off
        return weight


def too_heavy() -> LimitExceeded:
    """The error for a message that weighs more than MAX_WEIGHT."""
    return LimitExceeded(
        f"a message holds more values than {MAX_WEIGHT} bytes of memory have room for; save "
        "the sheets one at a time with save_sheet, or keep less in their free-form fields",
        {"limit": "decoded", "maximum": MAX_WEIGHT},
    )


def _check_limits(weight: int, depth: int) -> None:
    if weight > MAX_WEIGHT:
        raise too_heavy()
    if depth > MAX_DEPTH:
        raise InvalidRequest(f"a message has more than {MAX_DEPTH} levels of lists and maps")


def _open_container(message: bytes | memoryview, position: int) -> tuple[int, int, bool]:
    """Where the content of a list or map begins, how many values it has, whether it is a map."""
    kind = message[position]
    position += 1
    if kind < _FIXTEXT:
        count = kind & 0x0F
    else:
        size = _COUNT_BYTES[kind]
        count = int.from_bytes(message[position : position + size], "big")
        position += size
    is_map = kind < _FIXARRAY or kind >= _MAP16
    return position, 2 * count if is_map else count, is_map


def _size_of_text(message: bytes | memoryview, position: int) -> int:
    """The size of a text, of bytes or of an extension, with what says so."""
    kind = message[position]
    size, extra = _TEXTS[kind]
    content = int.from_bytes(message[position + 1 : position + 1 + size], "big")
    return 1 + size + extra + content


_FIXMAP, _FIXARRAY, _FIXTEXT, _NIL = 0x80, 0x90, 0xA0, 0xC0
_MAP16, _NEGATIVE = 0xDE, 0xE0
_COUNT_BYTES = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
_TEXTS = {
    0xD9: (1, 0),
    0xDA: (2, 0),
    0xDB: (4, 0),  # text
    0xC4: (1, 0),
    0xC5: (2, 0),
    0xC6: (4, 0),  # bytes
    0xC7: (1, 1),
    0xC8: (2, 1),
    0xC9: (4, 1),  # an extension, with its type
}
"""How many bytes say how long the content is, and how many come between."""


def _fixed_sizes() -> list[int]:
    """The size of each value that its first byte tells; 0 for others
    (https://github.com/msgpack/msgpack/blob/master/spec.md#formats)."""
    sizes = [1 if kind < _FIXMAP or kind >= _NEGATIVE else 0 for kind in range(256)]
    for kind in range(_FIXTEXT, _NIL):
        sizes[kind] = 1 + (kind & 0x1F)
    sizes[_NIL : _NIL + 4] = [1, 1, 1, 1]  # nil, what is never used, false, true
    sizes[0xCA:0xD4] = [5, 9, 2, 3, 5, 9, 2, 3, 5, 9]  # floats, unsigned and signed integers
    sizes[0xD4:0xD9] = [3, 4, 6, 10, 18]  # extensions of a fixed size
    return sizes


_SIZES = _fixed_sizes()
