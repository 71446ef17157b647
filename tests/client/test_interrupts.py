"""What a signal handler does to a call of the blocking client that it interrupts.

The interpreter runs signal handlers between two instructions, in the main thread. Most tests here
run theirs at every place where that can happen, one after the other.
"""

from __future__ import annotations

import contextlib
import dis
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from jobkeep import CheckpointState, Client, core
from jobkeep_protocol.messages import SLOTS
from tests.daemon_process import DaemonProcess

A_JOB = CheckpointState(job_id="nightly", total_sheets=1_000_000)

_PACKAGES = ("/client/jobkeep/", "/protocol/jobkeep_protocol/")
_CHECKS_FOR_SIGNALS = {
    code
    for name, code in dis.opmap.items()
    if name in {"RESUME", "SEND", "YIELD_VALUE"} or name.startswith("CALL") or "BACKWARD" in name
}
"""After these instructions CPython looks for signals (`eval_breaker` in its ceval.c)."""


class Interrupt(BaseException):
    """As KeyboardInterrupt, which pytest would take for itself."""


class Handler:
    """Runs `action` at the n-th place of our code where a signal handler may run."""

    def __init__(self, n: int, action: Callable[[], object]) -> None:
        self.has_run = False
        self._left = n
        self._action = action
        self._last: dict[FrameType, int] = {}

    def __enter__(self) -> Handler:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)
        self._last.clear()

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        del argument
        if not any(package in frame.f_code.co_filename for package in _PACKAGES):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            last = self._last.get(frame)
            self._last[frame] = frame.f_code.co_code[frame.f_lasti]
            if last in _CHECKS_FOR_SIGNALS:
                self._come_by()
        return self._trace

    def _come_by(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.has_run = True
            self._action()


def at_every_place(action: Callable[[], object]) -> Iterator[Handler]:
    """Handlers for the first place, the second, and so on, until one has not run."""
    n = 0
    while True:
        n += 1
        handler = Handler(n, action)
        yield handler
        if not handler.has_run:
            return


def ask(client: Client[Any]) -> None:
    client.get_next_sheet("nightly")


def save(client: Client[Any]) -> None:
    client.save(A_JOB)


def ask_on_a_new_connection(client: Client[Any]) -> None:
    assert client._link is not None
    client._link._disconnect()
    ask(client)


calls = pytest.mark.parametrize("call", [ask, save, ask_on_a_new_connection])

# An object that was made and not yet assigned when the handler raised is closed by the collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture(autouse=True)
def _connects_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "FIRST_DELAY", 0.001)


@calls
def test_an_interrupted_call_leaves_the_client_usable(
    daemon: DaemonProcess, call: Callable[[Client[Any]], None]
) -> None:
    def interrupt() -> None:
        raise Interrupt

    with Client(daemon.socket) as client:
        client.save(A_JOB)
        interrupts = 0
        for handler in at_every_place(interrupt):
            with handler, contextlib.suppress(Interrupt):
                call(client)
            assert client.record_execution("nightly", 1, 1) is not None
            interrupts += 1

        assert client.get_execution_history_count("nightly") == interrupts
        assert interrupts > 50
        assert client._link is not None
        assert client._link._pipeline.free_slots == SLOTS
        assert client._link._callers == {}


@calls
def test_a_handler_may_use_the_client_whose_call_it_interrupts(
    daemon: DaemonProcess, call: Callable[[Client[Any]], None]
) -> None:
    with Client(daemon.socket) as client:
        client.save(A_JOB)

        handled = 0
        for handler in at_every_place(lambda: client.record_execution("nightly", 1, 1)):
            with handler:
                call(client)
            handled += handler.has_run

        assert client.get_execution_history_count("nightly") == handled
        assert handled > 50


def test_interrupts_in_one_thread_leave_the_calls_of_others_alone(daemon: DaemonProcess) -> None:
    def interrupt(*_: object) -> None:
        raise Interrupt

    def record(sheet_num: int) -> None:
        while not is_over.is_set():
            assert client.record_execution("nightly", sheet_num, 1) is not None
            recorded[sheet_num] += 1

    client = Client(daemon.socket)
    client.save(A_JOB)
    is_over, recorded = threading.Event(), {1: 0, 2: 0, 3: 0}
    threads = [threading.Thread(target=record, args=(number,)) for number in recorded]
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for thread in threads:
            thread.start()
        for n in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002 * (n % 10 + 1))
                for _ in range(100):
                    client.get_next_sheet("nightly")
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupt:
                pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        is_over.set()
        for thread in threads:
            thread.join()

    counts = {number: client.get_execution_history_count("nightly", number) for number in recorded}
    assert counts == recorded
    client.close()
