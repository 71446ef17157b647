"""One attempt at an item: a command run to its end, or stopped, with what it wrote.

What lives here: starting the command, collecting its output, stopping it. What may not: the daemon,
sheets, the runner.

The command runs without a shell and with an empty standard input, in the process group of the
worker, which leads it: so whatever the command starts can be stopped along with it, by the worker
or by whoever finds the worker dead. Its standard output and standard error are one pipe, so that
what it wrote comes in the order in which it was written.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Sequence

from msgspec import Struct

from jobkeep_protocol.request import MAX_TEXT_BYTES

KEPT_BYTES = MAX_TEXT_BYTES // 2 - 1024
"""How much is kept of the head and of the tail each; the rest is room for the mark between."""

GRACE_SECONDS = 5.0
"""How long a command may take to end after SIGTERM."""

LINGER_SECONDS = 0.5
"""How long to wait, after the end of a command, for processes it has left that still write."""

EXIT_CANNOT_RUN = 126
EXIT_NOT_FOUND = 127

READ_BYTES = 64 * 1024


class Attempt(Struct, frozen=True):
    """How an attempt ended.

    `exit_code` is None for a command that was killed by `exit_signal`; `was_stopped` says that it
    was by us.
    """

    output: str
    exit_code: int | None
    exit_signal: int | None
    duration_seconds: float
    was_stopped: bool = False

    @property
    def has_succeeded(self) -> bool:
        """Whether the item is done."""
        return self.exit_code == 0 and not self.was_stopped

    def message(self) -> str:
        """Why it failed, in one line, with the last line of the output."""
        if self.exit_signal is not None:
            how = f"killed by {signal_name(self.exit_signal)}"
        else:
            how = f"exit code {self.exit_code}"
        last = next((one for one in reversed(self.output[-2000:].splitlines()) if one.strip()), "")
        return f"{how}: {last.strip()[:200]}" if last else how


class StopRequest:
    """Says, also to a selector, that the worker is to stop: a signal came or its input ended.

    Made once a process, on its main thread: it takes over SIGTERM and SIGINT. They must be handled
    and not ignored, since a command would inherit that they are ignored.
    """

    def __init__(self, control: int) -> None:
        self.control = control
        self._was_signalled = False
        self.wakeup, write = os.pipe()
        os.set_blocking(self.wakeup, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._on_signal)

    @property
    def is_made(self) -> bool:
        """Whether to stop. While a command runs, all that the runner can do is to go away."""
        if self._was_signalled:
            return True
        with selectors.DefaultSelector() as selector:
            selector.register(self.control, selectors.EVENT_READ)
            return bool(selector.select(0))

    def watch(self, selector: selectors.BaseSelector) -> None:
        """Let `selector` return when the request is made."""
        selector.register(self.control, selectors.EVENT_READ)
        selector.register(self.wakeup, selectors.EVENT_READ)

    def _on_signal(self, signum: int, frame: object) -> None:
        del signum, frame
        self._was_signalled = True


class Output:
    """What a command wrote: all of it, or its head and its tail when that is too much to keep."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._limit = kept_bytes
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._dropped_bytes = 0

    def add(self, data: bytes) -> None:
        """Take what came next."""
        room = self._limit - len(self._head)
        self._head += data[:room]
        if rest := data[room:]:
            self._tail.append(rest)
            self._tail_bytes += len(rest)
        while self._tail and self._tail_bytes - len(self._tail[0]) >= self._limit:
            dropped = len(self._tail.popleft())
            self._tail_bytes -= dropped
            self._dropped_bytes += dropped

    def text(self) -> str:
        """The output as text; bytes that are no UTF-8 are written as \\xNN."""
        head, tail = bytes(self._head), b"".join(self._tail)
        excess = max(0, len(tail) - self._limit)
        dropped = self._dropped_bytes + excess
        if dropped:
            return self._joined(head, tail[excess:], dropped)
        whole = (head + tail).decode(errors="backslashreplace")
        # Escapes are four times as long as what they stand for.
        if len(whole) <= self._limit or len(whole.encode()) <= 2 * self._limit:
            return whole
        return self._joined(head, tail, 0)

    def _joined(self, head: bytes, tail: bytes, dropped: int) -> str:
        first = head.decode(errors="backslashreplace").encode()
        last = tail.decode(errors="backslashreplace").encode()
        dropped += max(0, len(first) - self._limit) + max(0, len(last) - self._limit)
        first, last = first[: self._limit], last[-self._limit :]
        mark = f"\n[… {dropped} bytes left out by jobkeep …]\n"
        return first.decode(errors="ignore") + mark + last.decode(errors="ignore")


def run_command(command: Sequence[str], stop: StopRequest) -> Attempt:
    """Run a command to its end, or to that of its patience when it is to stop.

    A command that cannot be started gives what a shell would say: 127 when it is not found, else
    126. A command that was stopped may have left processes behind: the caller ends its group.
    """
    started = time.monotonic()
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except OSError as error:
        code = EXIT_NOT_FOUND if isinstance(error, FileNotFoundError) else EXIT_CANNOT_RUN
        message = f"{command[0]}: {error.strerror}\n"
        return Attempt(message, code, None, time.monotonic() - started)
    output = Output()
    with process:
        was_stopped = _attend(process, output, stop)
        if process.poll() is None:
            process.kill()
        code = process.wait()
        seconds = time.monotonic() - started
        _collect_rest(process, output)
    return Attempt(
        output.text(),
        code if code >= 0 else None,
        -code if code < 0 else None,
        seconds,
        was_stopped,
    )


def signal_name(number: int) -> str:
    """`SIGKILL` for 9; the number for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _attend(process: subprocess.Popen[bytes], output: Output, stop: StopRequest) -> bool:
    """Collect output until the command ends, or is past its grace; says whether it was stopped."""
    pipe = _pipe_of(process)
    pidfd = os.pidfd_open(process.pid)
    deadline: float | None = None
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            selector.register(pidfd, selectors.EVENT_READ)
            stop.watch(selector)
            while True:
                timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
                ready = {key.fd for key, _ in selector.select(timeout)}
                if pipe in ready and not _read(pipe, output):
                    selector.unregister(pipe)
                if pidfd in ready or (deadline is not None and time.monotonic() >= deadline):
                    return deadline is not None
                if deadline is None and stop.is_made:
                    deadline = time.monotonic() + GRACE_SECONDS
                    selector.unregister(stop.wakeup)
                    selector.unregister(stop.control)
                    os.killpg(0, signal.SIGTERM)
    finally:
        os.close(pidfd)


def _collect_rest(process: subprocess.Popen[bytes], output: Output) -> None:
    """Take what is in the pipe still; a process that keeps it open is not waited for for ever."""
    pipe = _pipe_of(process)
    deadline = time.monotonic() + LINGER_SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            if not _read(pipe, output):
                return


def _read(pipe: int, output: Output) -> bool:
    """Take what is there; False at the end."""
    data = os.read(pipe, READ_BYTES)
    output.add(data)
    return bool(data)


def _pipe_of(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None, "its output is a pipe"
    return process.stdout.fileno()
