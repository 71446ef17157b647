"""How messages lie in a stream, for whoever wants to spoil them.

What lives here: one object a dialect of the socket: taking a stream apart and putting it together,
a message as a tree and back, and what only this dialect can get wrong. What may not: choosing what
to spoil (that is `mutations`). Another dialect of the same socket is another object here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any, Protocol

import msgspec

from jobkeep_protocol.framing import HEADER_BYTES, MAX_FRAME_BYTES


class Dialect(Protocol):
    """One way in which messages lie in a stream."""

    name: str

    odd_values: Sequence[bytes]
    """Encoded values that the encoder of the dialect would never make, wrong ones among them."""

    def split(self, stream: bytes) -> list[bytes]:
        """The messages of a stream; the last one may be incomplete."""

    def join(self, messages: Iterable[bytes]) -> bytes:
        """The stream of these messages."""

    def join_wrongly(self, messages: Sequence[bytes], random: Random) -> bytes:
        """The same, with one of them not where it says."""

    def decode(self, message: bytes) -> Any:
        """A message as lists, dicts and plain values. Raises ValueError for what is none."""

    def encode(self, tree: Any) -> bytes:
        """The message of a tree, in which `msgspec.Raw` stands for itself. Raises ValueError for
        what the dialect does not have."""


class Frames:
    """A length and as many bytes of msgpack."""

    name = "frames"

    odd_values: Sequence[bytes] = (
        b"\xc1",  # the one byte that is never used
        b"\xa5ab",  # a text that is cut off
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x05",
        b"\xdd\x00\x00\x00\x02\x01\x02",  # a longer form than needed
        b"\xdb\x00\x00\x00\x01x",
        b"\xcf\x00\x00\x00\x00\x00\x00\x00\x01",
        b"\xa2\xff\xfe",  # no UTF-8
        b"\xa3\xed\xa0\x80",  # a lone surrogate
        b"\xa1\x00",
        b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",  # NaN, and the infinities
        b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00",
        b"\xcb\xff\xf0\x00\x00\x00\x00\x00\x00",
        b"\xca\x3d\xcc\xcc\xcd",  # half of the digits
        b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",
        b"\xd4\x05\x00",  # an extension of no meaning
        b"\xd6\xff\x00\x00\x00\x00",  # a time: 1970, one that is none, the last there is, after it
        b"\xd7\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xc7\x0c\xff\x00\x00\x00\x00\x00\x00\x00\x3a\xff\xf4\x41\x7f",
        b"\xc7\x0c\xff\x00\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x82\xa1x\x01\xa1x\x02",  # a key that comes twice
        b"\x81\x91\x01\x02",  # keys that are no text
        b"\x81\x80\x02",
        b"\x81\x01\x02",
        b"\x81\xc0\x02",
        b"\x91" * 60 + b"\x90",  # as deep as allowed, too deep, deeper than any decoder goes
        b"\x91" * 200 + b"\x90",
        b"\x81\xa1x" * 70 + b"\x90",
        b"\x91" * 20_000 + b"\x90",
        b"\xdd\x00\x00\x13\x88" + b"\x80" * 5_000,
    )

    def split(self, stream: bytes) -> list[bytes]:
        """The bodies."""
        messages, place = [], 0
        while place < len(stream):
            head = place + HEADER_BYTES
            end = head + int.from_bytes(stream[place:head], "big")
            messages.append(stream[head:end])
            place = max(end, head)
        return messages

    def join(self, messages: Iterable[bytes]) -> bytes:
        """Each body behind its length."""
        return b"".join(_with_length(len(message), message) for message in messages)

    def join_wrongly(self, messages: Sequence[bytes], random: Random) -> bytes:
        """One of them behind another length."""
        wrong = random.randrange(len(messages))
        size = len(messages[wrong])
        told = random.choice([0, 1, size - 1, size + 1, 256 * size, MAX_FRAME_BYTES + 1, 2**32 - 1])
        spoilt = _with_length(max(told, 0), messages[wrong])
        return self.join(messages[:wrong]) + spoilt + self.join(messages[wrong + 1 :])

    def decode(self, message: bytes) -> Any:
        """What msgpack says."""
        try:
            return msgspec.msgpack.decode(message)
        except RecursionError as error:
            raise ValueError("too deep") from error

    def encode(self, tree: Any) -> bytes:
        """Its msgpack."""
        try:
            return msgspec.msgpack.encode(tree)
        except (TypeError, OverflowError, RecursionError) as error:
            raise ValueError("no msgpack") from error


def _with_length(length: int, body: bytes) -> bytes:
    return length.to_bytes(HEADER_BYTES, "big") + body


FRAMES = Frames()


class Json:
    """One object of JSON after the other, each ended by NUL or by a newline."""

    name = "json"

    odd_values: Sequence[bytes] = (
        b"",
        b"{",
        b"}",
        b'"',
        b'"\\',
        b"\0",
        b"\n",
        b"\r\n\n",
        b"}\n{",
        b'"}\n{"',
        b'"a\nb"',
        b'"a\tb"',
        b'"\\u0000"',
        b'"\\ud800"',  # half of a pair
        b'"\\ud83d\\ude00"',
        b'"\\"}{\\\\"',
        b'"\xff"',  # no UTF-8
        b'"\xed\xa0\x80"',
        b"\xef\xbb\xbf{}",
        b"NaN",
        b"Infinity",
        b"-0",
        b"01",
        b"1.0",
        b"1e5",
        b"1e999",
        b"-1e-999",
        b"0.1e",
        b"9" * 30,
        b"9" * 5_000,
        b"-9223372036854775809",
        b"18446744073709551616",
        b"tru",
        b"undefined",
        b"/* no */ 1",
        b"[1,]",
        b'{"x":1,"x":2}',
        b'{"method":"org.jobkeep.Status"}',
        b"{1:2}",
        b"[" * 60 + b"]" * 60,  # as deep as allowed, too deep, deeper than any decoder goes
        b"[" * 200 + b"]" * 200,
        b'{"x":' * 70 + b"1" + b"}" * 70,
        b"[" * 20_000 + b"]" * 20_000,
        b"[" + b"{}," * 5_000 + b"0]",
    )

    def split(self, stream: bytes) -> list[bytes]:
        """The messages, found character by character, as the reader must not do it."""
        found = list(_objects(stream))
        return [message for message, _ in found]

    def join(self, messages: Iterable[bytes]) -> bytes:
        """Each with an end, which is a newline and a NUL in turn."""
        ends = itertools.cycle([b"\n", b"\0"])
        return b"".join(message + end for message, end in zip(messages, ends, strict=False))

    def join_wrongly(self, messages: Sequence[bytes], random: Random) -> bytes:
        """One of them with an end too few, too many, or in its middle."""
        wrong = random.randrange(len(messages))
        message = messages[wrong]
        place = random.randint(0, len(message))
        end = random.choice([b"\n", b"\0", b"\n\n", b"\0\n", b" "])
        spoilt = message[:place] + end + message[place:]
        after = random.choice([b"", self.join([b""]), b"\0\0"])
        return self.join(messages[:wrong]) + spoilt + after + self.join(messages[wrong + 1 :])

    def decode(self, message: bytes) -> Any:
        """What it says."""
        try:
            return msgspec.json.decode(message)
        except RecursionError as error:
            raise ValueError("too deep") from error

    def encode(self, tree: Any) -> bytes:
        """Its text."""
        try:
            return msgspec.json.encode(tree)
        except (TypeError, OverflowError, RecursionError) as error:
            raise ValueError("no JSON") from error


def _objects(stream: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each message of a stream with its end; the last one with none, if it is not complete."""
    message, depth, in_text, escaped = bytearray(), 0, False, False
    for byte in stream:
        one = bytes([byte])
        if not message and one in b" \t\r\n\0":
            continue
        if one == b"\0" or (one == b"\n" and (depth <= 0 or in_text)):
            yield bytes(message), one
            message, depth, in_text, escaped = bytearray(), 0, False, False
            continue
        message += one
        if escaped:
            escaped = False
        elif one == b"\\":
            escaped = True
        elif one == b'"':
            in_text = not in_text
        elif not in_text:
            depth += {b"{": 1, b"}": -1}.get(one, 0)
    if message:
        yield bytes(message), b""


JSON = Json()
