"""Spoiling conversations, in ways that a decoder, a handler or a store may not expect.

What lives here: from the messages of a conversation to a stream that is nearly one, by a generator
of random numbers, so that the same numbers spoil in the same way. What may not: sending anything,
and knowledge of any operation.

Most of what comes out differs in one place only, and can be read up to there: bytes without order
are refused at the first, and find little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

import msgspec

from tests.fuzz.dialects import Dialect

ODD_VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        "",
        "\0",
        "a\0b",
        " ",
        "é",
        "e\u0301",
        "🦊" * 200,
        "x" * 513,
        "x" * 70_000,
    ),
    *(0, 1, -1, 2, 63, 64, 255, 2**31, 2**32, 2**53 + 1, 2**62, 2**63 - 1, -(2**63)),
    *(0.0, -0.0, 1.5, 100.5, 5e-324, 1.7e308, -1.7e308),
    *("running", "completed", "failed", "pending", "2026-03-01T00:00:00+00:00"),
    *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59", "2026-01-01T00:00:00"),
    *([], {}, [[]], [{}], {"": {}}, {"x": [1, {"y": None}]}, list(range(200)), {"x": "y" * 5_000}),
]
"""What may be a value somewhere, and is at an edge of something."""

LONGEST_PIECE = 4_096


def seeded(seed: int) -> Random:
    """The generator that gives the same numbers for the same seed."""
    return Random(seed)  # noqa: S311 # it spoils bytes, and keeps no secret


def with_each_value_replaced(dialect: Dialect, message: bytes, value: Any) -> Iterator[bytes]:
    """A message again and again, each time with another of its values replaced by this one."""
    tree = [dialect.decode(message)]
    for holder, key in _places(tree):
        kept, holder[key] = holder[key], value
        yield dialect.encode(tree[0])
        holder[key] = kept


def _places(holder: Any) -> Iterator[tuple[Any, Any]]:
    """Each list or dict in a tree with each of its keys."""
    for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
        yield holder, key
        if isinstance(holder[key], list | dict):
            yield from _places(holder[key])


class Mutator:
    """Spoils conversations of one dialect with the numbers that `random` gives."""

    def __init__(self, dialect: Dialect, random: Random) -> None:
        self._dialect = dialect
        self._random = random
        self._body_changes: list[Callable[[bytes], bytes]] = [
            *[self._change_in_tree] * 6,
            *[self._flip_bits] * 2,
            self._cut,
            self._insert,
            self._repeat_part,
        ]
        self._order_changes: list[Callable[[list[bytes]], None]] = [
            self._drop,
            self._swap,
            self._send_again,
            self._send_often,
        ]
        self._tree_changes: list[Callable[[Any, Any], None]] = [
            *[self._replace] * 4,
            *[self._nudge] * 2,
            self._remove,
            self._double,
            self._wrap,
            self._take_over,
            self._add,
        ]

    def stream(self, messages: Sequence[bytes]) -> bytes:
        """These messages, spoilt."""
        spoilt = list(messages)
        for _ in range(self._random.choice([1, 1, 1, 2, 5])):
            if self._random.random() < 0.2:
                self._random.choice(self._order_changes)(spoilt)
            else:
                place = self._random.randrange(len(spoilt))
                spoilt[place] = self.message(spoilt[place])
        if self._random.random() < 0.1:
            return self._dialect.join_wrongly(spoilt, self._random)
        stream = self._dialect.join(spoilt)
        return self._cut(stream) if self._random.random() < 0.05 else stream

    def message(self, message: bytes) -> bytes:
        """One message, spoilt in one place."""
        return self._random.choice(self._body_changes)(message)

    def pieces(self, stream: bytes) -> list[bytes]:
        """A stream in pieces, as it may arrive."""
        longest = self._random.choice([1, 7, 100, LONGEST_PIECE, len(stream) + 1])
        if len(stream) > 100 * longest:
            longest = len(stream)
        pieces, place = [], 0
        while place < len(stream):
            size = self._random.randint(1, longest)
            pieces.append(stream[place : place + size])
            place += size
        return pieces

    # -- the bytes of a message -----------------------------------------------------------------

    def _flip_bits(self, message: bytes) -> bytes:
        changed = bytearray(message)
        for _ in range(self._random.choice([1, 1, 2, 8])):
            if changed:
                changed[self._random.randrange(len(changed))] ^= 1 << self._random.randrange(8)
        return bytes(changed)

    def _cut(self, message: bytes) -> bytes:
        return message[: self._random.randint(0, len(message))]

    def _insert(self, message: bytes) -> bytes:
        place = self._random.randint(0, len(message))
        return message[:place] + self._random.choice(self._dialect.odd_values) + message[place:]

    def _repeat_part(self, message: bytes) -> bytes:
        start = self._random.randint(0, len(message))
        end = self._random.randint(start, min(len(message), start + LONGEST_PIECE))
        return message[:end] + message[start:]

    # -- the order of messages ------------------------------------------------------------------

    def _drop(self, messages: list[bytes]) -> None:
        if len(messages) > 1:
            del messages[self._random.randrange(len(messages))]

    def _swap(self, messages: list[bytes]) -> None:
        one, other = (self._random.randrange(len(messages)) for _ in range(2))
        messages[one], messages[other] = messages[other], messages[one]

    def _send_again(self, messages: list[bytes]) -> None:
        messages.insert(self._random.randint(0, len(messages)), self._random.choice(messages))

    def _send_often(self, messages: list[bytes]) -> None:
        place = self._random.randrange(len(messages))
        messages[place:place] = [messages[place]] * self._random.choice([3, 3, 70, 200])

    # -- the tree of a message ------------------------------------------------------------------

    def _change_in_tree(self, message: bytes) -> bytes:
        try:
            tree = [self._dialect.decode(message)]
            self._random.choice(self._tree_changes)(*self._some_place(tree))
            return self._dialect.encode(tree[0])
        except (ValueError, IndexError):
            return self._flip_bits(message)  # it was spoilt before: no tree, or no more of it

    def _some_place(self, tree: list[Any]) -> tuple[Any, Any]:
        """A list or dict somewhere in a tree, and a key that it has."""
        holder: Any = tree
        key: Any = 0
        while True:
            inner = holder[key]
            if not isinstance(inner, list | dict) or not inner or self._random.random() < 0.1:
                return holder, key
            keys = list(inner) if isinstance(inner, dict) else range(len(inner))
            holder, key = inner, self._random.choice(keys)

    def _odd_value(self) -> Any:
        if self._random.random() < 0.4:
            return msgspec.Raw(self._random.choice(self._dialect.odd_values))
        return self._random.choice(ODD_VALUES)

    def _replace(self, holder: Any, key: Any) -> None:
        holder[key] = self._odd_value()

    def _nudge(self, holder: Any, key: Any) -> None:
        value = holder[key]
        if isinstance(value, bool) or value is None:
            holder[key] = self._odd_value()
        elif isinstance(value, int | float):
            holder[key] = self._random.choice([value + 1, value - 1, -value, value * 2**40])
        elif isinstance(value, str):
            holder[key] = self._random.choice([value + "x", value[1:], value + "\0", value * 40])
        else:
            holder[key] = self._odd_value()

    def _remove(self, holder: Any, key: Any) -> None:
        del holder[key]

    def _double(self, holder: Any, key: Any) -> None:
        if isinstance(holder, list):
            holder[key:key] = [holder[key]] * self._random.choice([1, 5, 500])
        else:
            holder[f"{key}{key}"] = holder[key]

    def _wrap(self, holder: Any, key: Any) -> None:
        holder[key] = self._random.choice([[holder[key]], {"x": holder[key]}, [holder[key]] * 3])

    def _take_over(self, holder: Any, key: Any) -> None:
        others = list(holder.values()) if isinstance(holder, dict) else holder
        holder[key] = self._random.choice(others)

    def _add(self, holder: Any, key: Any) -> None:
        if isinstance(holder, list):
            holder.insert(key, self._odd_value())
        else:
            holder[self._random.choice(["", "x", "sheets", "sheet_num", "extra", "\0"])] = (
                self._odd_value()
            )
