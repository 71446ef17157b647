"""The part of msgpack that the wire uses: nil, booleans, numbers, text, bytes, lists, maps,
times."""

import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMESTAMP = -1


def pack(value: Any) -> bytes:
    """Return ``value`` as msgpack. Raises ``TypeError`` for a type that has no place in it."""
    match value:
        case None:
            return b"\xc0"
        case bool():
            return b"\xc3" if value else b"\xc2"
        case int():
            return _pack_integer(value)
        case float():
            return struct.pack(">Bd", 0xCB, value)
        case str():
            text = value.encode()
            return _head(len(text), fixed=(0xA0, 32), sizes=(0xD9, 0xDA, 0xDB)) + text
        case bytes():
            return _head(len(value), fixed=(0, 0), sizes=(0xC4, 0xC5, 0xC6)) + value
        case list() | tuple():
            return _head(len(value), fixed=(0x90, 16), sizes=(None, 0xDC, 0xDD)) + b"".join(
                map(pack, value)
            )
        case dict():
            return _head(len(value), fixed=(0x80, 16), sizes=(None, 0xDE, 0xDF)) + b"".join(
                pack(key) + pack(item) for key, item in value.items()
            )
        case datetime():
            return _pack_time(value)
    raise TypeError(f"{type(value).__name__} cannot be packed")


def _pack_integer(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack(">b" if value < 0 else ">B", value)
    if value >= 0:
        return struct.pack(">BQ", 0xCF, value)
    return struct.pack(">Bq", 0xD3, value)


def _head(length: int, fixed: tuple[int, int], sizes: tuple[int | None, int, int]) -> bytes:
    """Return the first bytes of something with a length: one byte, or a type and a length."""
    base, below = fixed
    if length < below:
        return bytes([base | length])
    one, two, four = sizes
    if one is not None and length < 1 << 8:
        return struct.pack(">BB", one, length)
    if length < 1 << 16:
        return struct.pack(">BH", two, length)
    return struct.pack(">BI", four, length)


def _pack_time(value: datetime) -> bytes:
    """Return the 96-bit timestamp, which every time fits."""
    since = value - EPOCH
    return struct.pack(
        ">BBbIq",
        0xC7,
        12,
        TIMESTAMP,
        since.microseconds * 1000,
        since.days * 86_400 + since.seconds,
    )


def unpack(data: bytes) -> Any:
    """Return the value in ``data``. Raises ``ValueError`` unless it is exactly one."""
    reader = _Reader(data)
    value = reader.value()
    if reader.position != len(data):
        raise ValueError(f"{len(data) - reader.position} bytes after the value")
    return value


class _Reader:
    """Takes values off the front of some bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def value(self) -> Any:
        kind = self.take(1)[0]
        if kind < 0x80:
            return kind
        if kind < 0x90:
            return self.map(kind & 0x0F)
        if kind < 0xA0:
            return self.array(kind & 0x0F)
        if kind < 0xC0:
            return self.text(kind & 0x1F)
        if kind >= 0xE0:
            return kind - 0x100
        if kind in _SINGLE:
            return _SINGLE[kind]
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind in _SIZED:
            size, read = _SIZED[kind]
            return read(self, self.number(size))
        if 0xD4 <= kind <= 0xD8:
            return self.extension(1 << (kind - 0xD4))
        raise ValueError(f"the byte {kind:#x} begins no value")

    def take(self, count: int) -> bytes:
        taken = self.data[self.position : self.position + count]
        if len(taken) < count:
            raise ValueError("the value is cut off")
        self.position += count
        return taken

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def text(self, length: int) -> str:
        return self.take(length).decode()

    def array(self, length: int) -> list[Any]:
        return [self.value() for _ in range(length)]

    def map(self, length: int) -> dict[Any, Any]:
        return {self.value(): self.value() for _ in range(length)}

    def extension(self, length: int) -> datetime:
        kind = self.number(">b")
        if kind != TIMESTAMP:
            raise ValueError(f"an extension of the type {kind}, where only times are expected")
        if length == 4:
            seconds, nanoseconds = self.number(">I"), 0
        elif length == 8:
            both = self.number(">Q")
            seconds, nanoseconds = both & ((1 << 34) - 1), both >> 34
        else:
            nanoseconds, seconds = self.number(">I"), self.number(">q")
        return EPOCH + timedelta(seconds=seconds, microseconds=nanoseconds // 1000)


_SINGLE = {0xC0: None, 0xC2: False, 0xC3: True}
_NUMBERS = {0xCA: ">f", 0xCB: ">d"} | {
    0xCC + at: f">{layout}" for at, layout in enumerate("BHIQbhiq")
}
_SIZED: dict[int, tuple[str, Callable[[_Reader, int], Any]]] = {
    first + at: (f">{size}", read)
    for first, sizes, read in (
        (0xC4, "BHI", _Reader.take),
        (0xC7, "BHI", _Reader.extension),
        (0xD9, "BHI", _Reader.text),
        (0xDC, "HI", _Reader.array),
        (0xDE, "HI", _Reader.map),
    )
    for at, size in enumerate(sizes)
}
