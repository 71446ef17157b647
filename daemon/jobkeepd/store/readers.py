"""The connections that read, and how a page of rows is read.

What lives here: a small pool of read-only aiosqlite connections, and `read_page`, which stops when
a page is full. What may not: statements of any one operation (those are in `reads`).

A reader sees every commit that was acknowledged before it began, and never waits for the writer. A
page is read whole before it is sent, so a slow client holds no snapshot open and the log can be
checkpointed. Cancelling a read is safe: its statement runs to its end on the connection's thread
before the connection is used again.
"""

from __future__ import annotations

import asyncio
import copy
import math
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite
import msgspec

from jobkeep_protocol.errors import LimitExceeded, StorageError
from jobkeep_protocol.framing import MAX_FRAME_BYTES
from jobkeepd.limits import Limits, exceeded
from jobkeepd.store.connection import reading_uri

CONNECTIONS = 4
PAGE_BYTES = 256 * 1024
"""A page is full once its parts, encoded, are larger than this."""

STATE_BYTES = 16 * 1024 * 1024
"""The same for the sheets of states: a state comes in one page unless it is very large, since pages
that belong together can only be had while nobody changes the job."""

MAX_PAGE_BYTES = MAX_FRAME_BYTES - 64 * 1024
"""The most that fits in a frame with what is around it."""

FIRST_ROWS = 16
"""Rows fetched before it is known how large they are: one of them can be as large as a frame."""

ROWS_AT_ONCE = 64
"""Rows encoded before the loop does something else: about half a millisecond's work, measured, so
that a long read makes no short write wait for longer."""


class Readers:
    """A pool of read-only connections, all opened for the first read: later ones then need no
    descriptors, of which there may be none left."""

    def __init__(self, database: Path, limits: Limits) -> None:
        self.limits = limits
        self._uri = reading_uri(database)
        self._free: list[aiosqlite.Connection] = []
        self._all: list[aiosqlite.Connection] = []
        self._places = asyncio.Semaphore(CONNECTIONS)
        self._opening = asyncio.Lock()
        self.is_patient = False
        """Whether a read may take as long as it takes."""

    def patient(self) -> Readers:
        """The same connections, for what the daemon reads for itself."""
        ours = copy.copy(self)
        ours.is_patient = True
        return ours

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[aiosqlite.Connection]:
        """A connection whose statements all see the same commit; raises what `connection` does."""
        async with self._place() as connection:
            await connection.execute("BEGIN")
            async with self._in_time(connection):
                yield connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[aiosqlite.Connection]:
        """A connection for one read; waits for one while all are in use.

        Raises LimitExceeded when the read takes too long, unless the daemon asks for itself, and
        StorageError for whatever SQLite refuses in it.
        """
        async with self._place() as connection, self._in_time(connection):
            yield connection

    async def close(self) -> None:
        """Close all connections, after the statements that run on them."""
        for connection in self._all:
            await connection.close()
        self._all.clear()
        self._free.clear()

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[aiosqlite.Connection]:
        async with self._places:
            try:
                connection = await self._take()
                try:
                    yield connection
                except LimitExceeded:
                    # A statement may be left that was interrupted, and would interrupt others.
                    self._all.remove(connection)
                    await connection.close()
                    raise
                except BaseException:
                    await self._give_back(connection)
                    raise
                await self._give_back(connection)
            except sqlite3.Error as error:
                raise StorageError(f"the database cannot be read: {error}") from error

    async def _give_back(self, connection: aiosqlite.Connection) -> None:
        if connection.in_transaction:
            await connection.rollback()
        self._free.append(connection)

    @asynccontextmanager
    async def _in_time(self, connection: aiosqlite.Connection) -> AsyncIterator[None]:
        """End what is read on this connection when it takes too long."""
        if self.is_patient:
            yield
            return
        loop = asyncio.get_running_loop()
        interrupts: list[asyncio.Task[None]] = []

        def end() -> None:
            waiting.reschedule(loop.time())  # to end the waiting does not end the statement, so:
            interrupts.append(loop.create_task(connection.interrupt()))

        timer = loop.call_later(self.limits.read_seconds, end)
        try:
            async with asyncio.timeout(None) as waiting:
                yield
        except TimeoutError:
            raise exceeded(
                "read_seconds",
                self.limits.read_seconds,
                f"reading took longer than {self.limits.read_seconds:g} s and was ended",
                "ask for less at once, or try again when less is going on",
            ) from None
        finally:
            timer.cancel()
            await asyncio.gather(*interrupts)

    async def _take(self) -> aiosqlite.Connection:
        if len(self._all) < CONNECTIONS:
            try:
                async with self._opening:
                    while len(self._all) < CONNECTIONS:
                        await self._open()
            except sqlite3.Error:
                if not self._free:
                    raise
        return self._free.pop()

    async def _open(self) -> None:
        opening = aiosqlite.connect(self._uri, uri=True, isolation_level=None)
        # An embedded backend that nobody closes must not keep its process from ending. There is no
        # public name for the thread; up to aiosqlite 0.21 the connection itself is one.
        thread: Any = getattr(opening, "_thread", opening)
        thread.daemon = True
        connection = await opening
        try:  # SQLite opens the log, and what it shares with the writer, only to read
            await connection.execute_fetchall("PRAGMA schema_version")
        except sqlite3.Error:
            await connection.close()
            raise
        self._all.append(connection)
        self._free.append(connection)


class Page:
    """Some parts of an answer, encoded, each with the first value of its row as its key.

    A part is None for a row that has nothing to send. `more` says that rows may be left.
    """

    def __init__(self, max_bytes: int, max_rows: float) -> None:
        self.keys: list[Any] = []
        self.parts: list[Any] = []
        self.bytes = 0
        self.more = False
        self._max_bytes = max_bytes
        self._max_rows = max_rows

    @property
    def is_full(self) -> bool:
        """Whether what there is makes a page."""
        return self.bytes >= self._max_bytes or len(self.parts) >= self._max_rows

    def add(self, key: Any, part: msgspec.Raw | None) -> bool:
        """One part more; False, and nothing is added, when there is no room for it."""
        size = 0 if part is None else memoryview(part).nbytes
        if self.is_full or (self.parts and self.bytes + size > MAX_PAGE_BYTES):
            return False
        self.keys.append(key)
        self.parts.append(part)
        self.bytes += size
        return True

    def rows_to_fetch(self) -> int:
        """How many rows make the page about full, going by the size of those it has."""
        if not self.parts:
            return FIRST_ROWS
        average = self.bytes // len(self.parts) + 1
        room = (self._max_bytes - self.bytes) // average
        return int(max(1, min(self._max_rows - len(self.parts), room, ROWS_AT_ONCE)))


async def read_page(
    connection: aiosqlite.Connection,
    statement: str,
    values: Sequence[Any],
    encode: Callable[[Any], msgspec.Raw | None],
    max_rows: float,
) -> Page:
    """The first rows of a statement, as many as make a page of at most `max_rows`."""
    return await _fill(Page(PAGE_BYTES, max_rows), connection, statement, values, encode)


async def read_state(
    connection: aiosqlite.Connection,
    statement: str,
    values: Sequence[Any],
    encode: Callable[[Any], msgspec.Raw | None],
) -> Page:
    """The sheets of one state, all of them unless they are very large."""
    return await _fill(Page(STATE_BYTES, math.inf), connection, statement, values, encode)


async def _fill(
    page: Page,
    connection: aiosqlite.Connection,
    statement: str,
    values: Sequence[Any],
    encode: Callable[[Any], msgspec.Raw | None],
) -> Page:
    async with connection.execute(statement, values) as cursor:
        while not page.is_full:
            wanted = page.rows_to_fetch()
            rows = list(await cursor.fetchmany(wanted))
            for row in rows:
                if not page.add(row[0], encode(row)):
                    page.more = True
                    return page
            if len(rows) < wanted:
                return page
    page.more = True
    return page
