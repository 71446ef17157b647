"""Spoilt conversations on real connections, and a neighbour who must not notice.

What lives here: `Fuzzer`, which says spoilt conversations to a daemon on several connections at
once, and `Neighbour`, which meanwhile works on a job of its own and compares every answer. What may
not: judging the daemon (the test does).
"""

from __future__ import annotations

import itertools
import multiprocessing
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from msgspec import Struct

from jobkeep import Client
from jobkeep_protocol.states import CheckpointState, SheetState
from tests.fuzz.conversations import Conversation
from tests.fuzz.mutations import Mutator, seeded
from tests.support import PATIENCE, scaled

T = TypeVar("T")

CONNECTIONS = 3
READ_BYTES = 65_536
QUIET_SECONDS = 0.002
"""After so long without a byte nothing more is expected of a connection."""

NEIGHBOURS_JOB = "the neighbour's job"
SHEETS = 20


class Fuzzer:
    """Says one spoilt conversation after the other, on several connections at once.

    Each has a seed of its own, counted from `seed`. It is a process by itself, so that all that the
    neighbour notices of it is what it does to the daemon. Use as a context manager.
    """

    def __init__(self, daemon: Path, conversations: Sequence[Conversation], seed: int) -> None:
        self._seed = seed
        context = multiprocessing.get_context("spawn")
        self._said = context.Value("Q", 0)
        self._is_over = context.Event()
        self._unanswered = context.SimpleQueue()
        self._process = context.Process(
            target=_say_on,
            args=(daemon, conversations, seed, self._said, self._is_over, self._unanswered),
        )

    def __enter__(self) -> Fuzzer:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._process.join()

    def __str__(self) -> str:
        return f"{self.said} spoilt conversations, again with FUZZ_SEED={self._seed}"

    @property
    def said(self) -> int:
        """How many conversations are over."""
        return int(self._said.value)

    def failures(self) -> list[str]:
        """Seeds of conversations that were neither answered nor closed, and what else went wrong.

        For once it is left.
        """
        found = [] if self._process.exitcode == 0 else [f"exit status {self._process.exitcode}"]
        while not self._unanswered.empty():
            found.append(f"neither answered nor closed: seed {self._unanswered.get()}")
        return found


def _say_on(
    daemon: Path,
    conversations: Sequence[Conversation],
    seed: int,
    said: Any,
    is_over: Any,
    unanswered: Any,
) -> None:
    """What the process of a fuzzer does."""
    seeds = itertools.count(seed)

    def say_on() -> None:
        while not is_over.is_set():
            one = next(seeds)
            if not say(daemon, conversations, one):
                unanswered.put(one)
            with said.get_lock():
                said.value += 1

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        for thread in [threads.submit(say_on) for _ in range(CONNECTIONS)]:
            thread.result()


def say(daemon: Path, conversations: Sequence[Conversation], seed: int) -> bool:
    """Say one of these conversations to a daemon, spoilt as this seed has it.

    False when the daemon neither takes it nor ends the connection.
    """
    random = seeded(seed)
    conversation = random.choice(conversations)
    mutator = Mutator(conversation.dialect, random)
    stream = mutator.stream(conversation.by_another_client(random))
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(daemon))
        connection.setblocking(False)
        try:
            return _exchange(connection, mutator.pieces(stream), random)
        except (BrokenPipeError, ConnectionResetError):
            return True  # the daemon has had enough of it


def _exchange(connection: socket.socket, pieces: list[bytes], random: Random) -> bool:
    """Send the pieces, read what comes, and go away, politely or not."""
    deadline = time.monotonic() + scaled(PATIENCE)
    unsent = b""
    while pieces or unsent:
        readable, writable, _ = select.select([connection], [connection], [], scaled(PATIENCE))
        if readable and not connection.recv(READ_BYTES):
            return True
        if writable:
            unsent = unsent or pieces.pop(0)
            unsent = unsent[connection.send(unsent) :]
        if time.monotonic() > deadline:
            return False
    if random.random() < 0.1:
        return True
    while select.select([connection], [], [], QUIET_SECONDS)[0]:
        if not connection.recv(READ_BYTES):
            return True
    connection.shutdown(socket.SHUT_WR)
    while select.select([connection], [], [], scaled(PATIENCE))[0]:
        if not connection.recv(READ_BYTES):
            return True
    return False


class Latencies(Struct, frozen=True):
    """How long operations took, in seconds."""

    seconds: list[float]

    def __str__(self) -> str:
        ordered = sorted(self.seconds)
        median, slow = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
        return (
            f"{len(ordered)} operations, median {median * 1e3:.2f} ms, p99 {slow * 1e3:.2f} ms, "
            f"longest {ordered[-1] * 1e3:.1f} ms"
        )


class Neighbour:
    """Works on a job of its own and compares every answer with what it must be.

    Use as a context manager.
    """

    def __init__(self, daemon: Path) -> None:
        self._daemon = daemon
        self._client = Client(daemon, timeout=scaled(PATIENCE))
        self._state = CheckpointState(job_id=NEIGHBOURS_JOB, total_sheets=SHEETS)
        self._records = 0
        self._seconds: list[float] = []
        self._is_over = threading.Event()
        self._thread = ThreadPoolExecutor(1)

    def __enter__(self) -> Neighbour:
        self._client.save(self._state)
        self._working = self._thread.submit(self._go_on)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.shutdown()
        self._client.close()

    def has_done(self, operations: int) -> bool:
        """Whether it has done so many since the latencies were taken, or has given up."""
        return len(self._seconds) >= operations or self._working.done()

    def latencies(self) -> Latencies:
        """How long its operations took since the last time."""
        taken, self._seconds = self._seconds, []
        return Latencies(taken)

    def check(self) -> None:
        """No answer was wrong, and all that it has kept is there for another client.

        For once it is left. Raises what went wrong.
        """
        self._working.result()
        with Client(self._daemon, timeout=scaled(PATIENCE)) as client:
            state = client.load(NEIGHBOURS_JOB)
            records = client.get_execution_history(NEIGHBOURS_JOB, limit=self._records + 1)
        assert state == self._state
        assert [record["output"] for record in records] == [
            _output(number) for number in range(self._records, 0, -1)
        ]

    def _go_on(self) -> None:
        while not self._is_over.is_set():
            self._work(self._records + 1)

    def _work(self, number: int) -> None:
        sheet_num = number % SHEETS + 1
        sheet = SheetState(sheet_num=sheet_num, attempt_count=number, model=f"turn {number}")
        self._state.sheets[sheet_num] = sheet
        self._state.extra["turn"] = number
        self._timed(lambda: self._client.save(self._state))
        self._timed(
            lambda: self._client.record_execution(
                NEIGHBOURS_JOB, sheet_num, number, output=_output(number)
            )
        )
        self._records = number
        found = self._timed(lambda: self._client.load(NEIGHBOURS_JOB))
        assert found == self._state, f"loaded {found}, saved {self._state}"
        count = self._timed(lambda: self._client.get_execution_history_count(NEIGHBOURS_JOB))
        assert count == number, f"{count} records of {number}"

    def _timed(self, operation: Callable[[], T]) -> T:
        began = time.perf_counter()
        result = operation()
        self._seconds.append(time.perf_counter() - began)
        return result


def _output(number: int) -> str:
    return f"output {number} " * 100
