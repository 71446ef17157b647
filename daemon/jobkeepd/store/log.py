"""A write-ahead log and its index, read as bytes before SQLite has them.

What lives here: the formats of the -wal and the -shm, as far as it takes to tell what SQLite would
find in a log (https://www.sqlite.org/walformat.html). What may not: writing, and what follows from
what is found (that is `guard`).

SQLite reads a log from its beginning up to the last commit before the first page that has a wrong
checksum, and says nothing about the rest. Whether there was a rest is told by the index, which the
processes that had the file open shared: they counted each commit in it, after it was written and,
with `synchronous=FULL`, synced.
"""

from __future__ import annotations

import struct
import sys
from array import array
from pathlib import Path
from typing import BinaryIO, NamedTuple

from jobkeepd.store.marks import Mark

_MAGIC = b"SQLite format 3\0"
FIRST_PAGE_BYTES = 100
_LOG_MAGIC = 0x377F0682
"""The last bit says that checksums are over big-endian words."""

_LOG_VERSION = 3_007_000
_LOG_HEADER = struct.Struct(">IIII8sII")
_FRAME_HEADER = struct.Struct(">II8sII")
_INDEX_HEADER = struct.Struct("=IIIBBHII8s8s8s")
_INDEX_SUMMED_BYTES = _INDEX_HEADER.size - 8
_NATIVE_IS_BIG = sys.byteorder == "big"

Checksum = tuple[int, int]


class FirstPage(NamedTuple):
    """What the header of a database, at the beginning of its first page, says
    (https://www.sqlite.org/fileformat2.html#the_database_header)."""

    number: int
    """Its mark, as it is kept."""

    schema_cookie: int
    """Grows when tables change; a copy by VACUUM INTO has a larger one than its original."""

    versions: bytes
    """The least version of SQLite's format that a writer and a reader have to know: 1 for a file
    without a log, 2 for one with it. SQLite refuses to write, or to read, when it is larger."""

    @property
    def mark(self) -> Mark:
        """Its mark."""
        return Mark.of(self.number)

    @classmethod
    def parse(cls, page: bytes) -> FirstPage | None:
        """None for what is not the beginning of an SQLite database."""
        if len(page) < FIRST_PAGE_BYTES or not page.startswith(_MAGIC):
            return None
        (number,), (cookie,) = (
            struct.unpack_from(">i", page, 60),
            struct.unpack_from(">I", page, 40),
        )
        return cls(number, cookie, page[18:20])


class Log(NamedTuple):
    """What is in a log. `pages` are those up to the last commit that can be read."""

    salts: bytes
    """What tells its pages from those left over from before it began anew."""

    pages: int
    first_pages: list[FirstPage]
    """The first page of the database, each time it was committed."""

    commits_lost: int
    """Commits that are whole and come after the first page that cannot be read."""


class Index(NamedTuple):
    """What the index of a log says."""

    salts: bytes
    pages: int
    """How many were committed."""


def read_log(path: Path) -> Log | None:
    """The log at this path; None where SQLite would find none, or an empty one. Raises OSError."""
    try:
        with path.open("rb") as file:
            header = _read_header(file)
            return None if header is None else _read_pages(file, header)
    except FileNotFoundError:
        return None


def read_index(path: Path) -> Index | None:
    """The index at this path; None when there is none, or it was being changed. Raises OSError."""
    try:
        with path.open("rb") as file:
            one, other = file.read(_INDEX_HEADER.size), file.read(_INDEX_HEADER.size)
    except FileNotFoundError:
        return None
    if one != other or len(one) < _INDEX_HEADER.size:
        return None
    version, _, _, is_set, _, _, pages, _, _, salts, checksum = _INDEX_HEADER.unpack(one)
    summed = _add((0, 0), one[:_INDEX_SUMMED_BYTES], _NATIVE_IS_BIG)
    if version != _LOG_VERSION or not is_set or struct.pack("=II", *summed) != checksum:
        return None
    return Index(salts, pages)


class _Header(NamedTuple):
    page_bytes: int
    salts: bytes
    checksum: Checksum
    is_big: bool


def _read_header(file: BinaryIO) -> _Header | None:
    data = file.read(_LOG_HEADER.size)
    if len(data) < _LOG_HEADER.size:
        return None
    magic, _, page_bytes, _, salts, *checksum = _LOG_HEADER.unpack(data)
    is_big = bool(magic & 1)
    is_page = 512 <= page_bytes <= 65_536 and page_bytes.bit_count() == 1
    summed = _add((0, 0), data[:24], is_big)
    if magic & ~1 != _LOG_MAGIC or not is_page or list(summed) != checksum:
        return None
    return _Header(page_bytes, salts, summed, is_big)


def _read_pages(file: BinaryIO, header: _Header) -> Log:
    """Each page has a checksum over itself and the checksum of the page before, so what follows a
    page that cannot be read can still be told from what a torn write left."""
    summed, is_readable = header.checksum, True
    read = committed = commits_lost = 0
    first_pages: list[FirstPage | None] = []
    uncommitted: list[FirstPage | None] = []
    size = _FRAME_HEADER.size + header.page_bytes
    while len(frame := file.read(size)) == size:
        number, commit, salts, *checksum = _FRAME_HEADER.unpack_from(frame)
        is_whole = False
        if salts == header.salts and number > 0:
            expected = _add(summed, frame[:8] + frame[_FRAME_HEADER.size :], header.is_big)
            is_whole = list(expected) == checksum
        summed = (checksum[0], checksum[1])
        is_readable = is_readable and is_whole
        if not is_readable:
            commits_lost += is_whole and commit > 0
            continue
        read += 1
        if number == 1:
            uncommitted.append(FirstPage.parse(frame[_FRAME_HEADER.size :]))
        if commit:
            committed = read
            first_pages += uncommitted
            uncommitted.clear()
    return Log(header.salts, committed, [page for page in first_pages if page], commits_lost)


def _add(checksum: Checksum, data: bytes, is_big: bool) -> Checksum:
    """Go on with a checksum over these bytes. About 25 ms a megabyte."""
    words = array("I", data)
    if is_big != _NATIVE_IS_BIG:
        words.byteswap()
    one, other = checksum
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + other) & 0xFFFFFFFF
        other = (other + second + one) & 0xFFFFFFFF
    return one, other
