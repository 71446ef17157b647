"""The writer: when writes are committed, together with which others, and where.

What lives here: group commit, and the choice of the thread. What may not: the transaction and what
its failure means (that is `committer`), what a request does (`writes`), and answering (that is the
caller's).

Requests that arrive while a commit is under way go into the next transaction together: one sync of
the disk for all of them. A result is handed out only after the commit that holds it.

A transaction runs on the event loop as long as all its requests are small and the disk is quick.
Going to another thread and back, and sharing the interpreter's lock with it, then takes longer than
the disk does (docs/performance.md). Anything that may take long runs on a thread of its own: large
requests, every transaction while the disk is slow, waiting for another program's lock, and
checkpoints. There is never more than one of these under way.

Cancelling a caller never cancels a write: it would leave a transaction open.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from jobkeep_protocol.errors import StorageError
from jobkeep_protocol.messages import Event
from jobkeep_protocol.states import utc_now
from jobkeepd import failpoints
from jobkeepd.events import Events
from jobkeepd.limits import Limits, exceeded
from jobkeepd.store.committer import Committer, Write
from jobkeepd.store.failures import LockedOutError
from jobkeepd.store.writes import has_text, is_small

log = logging.getLogger(__name__)

T = TypeVar("T")

FEW_WRITES = 128
FEW_BYTES = 1024 * 1024
"""As many small writes, and as much in them, as hold up the loop for some milliseconds."""

FEW_INDEXED_BYTES = 16 * 1024
"""As much text as is indexed, for the search, in about a millisecond. With four times as much on
the loop, the slowest reads beside a client that records waited twice as long, and no more was
recorded."""

QUICK_SECONDS = 0.002
"""A commit that takes less is made on the loop: a thread costs it more than it saves others."""

LONGEST_SECONDS = 15.0
"""A writer that has work and gets nothing done for longer is taken for one that hangs."""

RATE_SECONDS = 10

QUIET_SECONDS = 1.0
"""With nothing to do for this long, the log is checkpointed however short it is, and it is seen
whether another program has written."""


class Writer:
    """Applies writes in groups. Belongs to the event loop it is started on.

    `on_broken` is called once when nothing can be written any more, and `on_foreign_write` whenever
    another program has written to the database. What was committed is published to `events` before
    anybody is told of its outcome. With `is_indexing`, prompts and outputs cost more than their
    bytes.
    """

    def __init__(
        self,
        database: Path,
        connection: sqlite3.Connection,
        on_broken: Callable[[StorageError], None],
        on_foreign_write: Callable[[], None],
        limits: Limits,
        is_indexing: bool = False,
    ) -> None:
        self._is_indexing = is_indexing
        self._loop = asyncio.get_running_loop()
        self._committer = Committer(database, connection, limits)
        self._on_broken = on_broken
        self._on_foreign_write = on_foreign_write
        self.limits = limits
        self.events = Events(self._committer.sequence, limits)
        self._queue: deque[Write] = deque()
        self._queued_bytes = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._executor = ThreadPoolExecutor(1, "jobkeepd-writer")
        self._moved_at = self._loop.time()
        self._began_at = 0.0
        self._closing: asyncio.Task[None] | None = None
        self._is_broken = False
        self._seen_writes = 0
        self.batch_times = (0.0, 0.0)
        """When the transaction whose outcomes are handed out now began, and when it was on disk."""
        self._samples = deque([(self._loop.time(), 0, 0)], maxlen=RATE_SECONDS + 1)
        """When, and how many writes and commits there were by then; one a second."""
        self._timer = self._loop.call_later(QUIET_SECONDS, self._on_timer)

    @property
    def writes(self) -> int:
        """Writes committed."""
        return self._committer.writes

    @property
    def commits(self) -> int:
        """Transactions committed."""
        return self._committer.commits

    @property
    def commit_seconds(self) -> float:
        """What a commit takes now, a moving average."""
        return self._committer.commit_seconds

    @property
    def last_checkpoint_at(self) -> datetime | None:
        """When the log was last moved into the file."""
        return self._committer.last_checkpoint_at

    @property
    def rates(self) -> tuple[float, float]:
        """Writes and transactions committed a second, over the last ten seconds at the most."""
        then, writes, commits = self._samples[0]
        seconds = max(self._loop.time() - then, QUIET_SECONDS)
        return (self.writes - writes) / seconds, (self.commits - commits) / seconds

    @property
    def queued_bytes(self) -> int:
        """How much is in the writes that wait for the disk."""
        return self._queued_bytes

    @property
    def queued(self) -> int:
        """Writes that wait for the disk."""
        return len(self._queue)

    @property
    def is_alive(self) -> bool:
        """Whether it has nothing to do, or has got something done not long ago."""
        return self._idle.is_set() or self._loop.time() - self._moved_at < LONGEST_SECONDS

    def submit(self, write: Write) -> None:
        """Apply this write; `write.done(outcome)` is called on the loop after the commit.

        Raises LimitExceeded when too many are waiting, StorageError when the writer is broken or
        closed.
        """
        if self._closing is not None:
            raise StorageError(
                "the database has been closed; nothing was written. Open it again to write to it"
            )
        if self._committer.broken is not None:
            raise self._committer.broken
        if write.key is not None:  # what the daemon has to write itself is never too much
            self._check_room(write.size)
        self._queue.append(write)
        self._queued_bytes += write.size
        if self._idle.is_set():
            self._idle.clear()
            self._moved_at = self._loop.time()
            self._loop.call_soon(self._begin)  # with all that other connections have sent by now

    async def drain(self) -> None:
        """Wait until everything submitted has been committed and handed out."""
        await self._idle.wait()

    async def close(self) -> None:
        """Finish what was submitted, checkpoint, and close the connection.

        Cancelling it stops the waiting and not the closing.
        """
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())
        await asyncio.shield(self._closing)

    # -- inside -------------------------------------------------------------------------------

    async def _close(self) -> None:
        self._timer.cancel()
        await self.drain()
        await self._loop.run_in_executor(self._executor, self._committer.close)
        self._executor.shutdown(wait=False)
        self._look_for_failure()

    def _begin(self) -> None:
        """Commit what has come in."""
        batch = self._take_queue()
        self._began_at = time.monotonic()
        if not self._is_quick(batch):
            self._begin_on_thread(batch)
            return
        try:
            self._committer.commit(batch)
        except LockedOutError:
            self._begin_on_thread(batch)  # where it can wait for the lock
        except BaseException:  # an interrupt: what was being written has its outcome
            self._deliver(batch)
            raise
        else:
            self._deliver(batch)

    def _check_room(self, size: int) -> None:
        limits = self.limits
        for limit, maximum, wanted in (
            ("max_queued_writes", limits.max_queued_writes, len(self._queue) + 1),
            ("max_queued_bytes", limits.max_queued_bytes, self._queued_bytes + size),
        ):
            if wanted > maximum and self._queue:
                what = f"busy: {len(self._queue)} writes of {self._queued_bytes} bytes wait"
                raise exceeded(limit, maximum, f"{what} for the disk", "try again later")

    def _take_queue(self) -> list[Write]:
        taken = list(self._queue)
        self._queue.clear()
        self._queued_bytes = 0
        return taken

    def _begin_on_thread(self, batch: list[Write]) -> None:
        self._on_thread(
            lambda: self._committer.commit_patiently(batch), lambda _: self._deliver(batch)
        )

    def _is_quick(self, batch: list[Write]) -> bool:
        """Whether a batch may hold up the loop."""
        return (
            self._committer.commit_seconds < QUICK_SECONDS
            and len(batch) <= FEW_WRITES
            and sum(write.size for write in batch) <= FEW_BYTES
            and all(is_small(write.request) for write in batch)
            and (not self._is_indexing or _indexed_bytes(batch) <= FEW_INDEXED_BYTES)
        )

    def _on_thread(self, job: Callable[[], T], then: Callable[[T], None]) -> None:
        """Run a job that may take long, and go on with its result on the loop."""
        running = self._loop.run_in_executor(self._executor, job)
        running.add_done_callback(lambda done: then(done.result()))

    def _deliver(self, batch: list[Write]) -> None:
        self._moved_at = self._loop.time()
        self.batch_times = (self._began_at, time.monotonic())
        self._tell_of_foreign_writes()
        self.events.publish(self._committer.take_noted())
        _hand_out(batch)
        if self._committer.needs_checkpoint:
            self._on_thread(self._committer.keep_house, self._go_on)
        else:
            self._go_on()

    def _go_on(self, _: None = None) -> None:
        self._moved_at = self._loop.time()
        self._look_for_failure()
        self._tell_of_foreign_writes()
        if self._queue:
            self._loop.call_soon(self._begin)
        else:
            self._idle.set()

    def _look_for_failure(self) -> None:
        """When nothing can be written any more, say so once, to all that wait too."""
        broken = self._committer.broken
        if broken is None or self._is_broken:
            return
        self._is_broken = True
        self._on_broken(broken)
        refused = self._take_queue()
        for write in refused:
            write.outcome = broken
        _hand_out(refused)

    def _tell_of_foreign_writes(self) -> None:
        if self._committer.saw_foreign_write:
            self._committer.saw_foreign_write = False
            self._on_foreign_write()
            what = "another program has written to the database; look at the jobs themselves"
            self.events.publish([Event(0, utc_now(), "missed", message=what)])

    def _on_timer(self) -> None:
        """Keep house when nothing was written since the last time."""
        self._timer = self._loop.call_later(QUIET_SECONDS, self._on_timer)
        self._samples.append((self._loop.time(), self.writes, self.commits))
        is_quiet = self._idle.is_set() and self.writes == self._seen_writes
        self._seen_writes = self.writes
        if is_quiet:
            self._idle.clear()
            self._moved_at = self._loop.time()
            self._on_thread(self._committer.keep_house, self._go_on)


def _indexed_bytes(batch: list[Write]) -> int:
    return sum(write.size for write in batch if has_text(write.request))


def _hand_out(batch: list[Write]) -> None:
    for write in batch:
        try:
            failpoints.reached("before acknowledgement")
            write.done(write.outcome)
        except Exception:
            log.exception("a defect in what follows a write; the writer goes on")
