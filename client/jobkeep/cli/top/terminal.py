"""The terminal: taking it over, and giving it back as it was, whatever happens.

What lives here: `Terminal`, with cbreak mode, the alternate screen, and the signals that a program
which fills the window has to answer. What may not: what is shown, what keys mean.

While the terminal is taken no signal interrupts anything: each is told by `events`, so that nothing
can come in between when the terminal is given back.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Any, NamedTuple, Self

from rich.console import Console, RenderableType
from rich.live import Live

from jobkeep.cli.top.keys import KeyReader

ESCAPE_SECONDS = 0.05
"""How soon the rest of a key follows the escape character that it begins with."""

FALLBACK_SIZE = (80, 24)
"""Where the terminal does not know its size."""

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SIGNALS = (*ENDING, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)


class Events(NamedTuple):
    """What has happened: keys, the descriptors that can be read, and the signal that is to end the
    program, if one has come."""

    keys: Sequence[str]
    ready: frozenset[int]
    ending: int | None


class Terminal:
    """The terminal of this process, taken while it is entered as a context. Main thread only.

    Standard input and standard output have to be that terminal.
    """

    def __init__(self) -> None:
        self._input, self._output = sys.stdin.fileno(), sys.stdout.fileno()
        self._console = Console()
        self._live: Live | None = None
        self._reader = KeyReader()
        self._handlers: dict[int, Any] = {}
        self._attributes: list[Any] = []
        self._told, self._tell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        self._attributes = termios.tcgetattr(self._input)
        # A text of a job must not end the program where the locale has no letters for it.
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr] # of a terminal it is a TextIOWrapper
        signal.set_wakeup_fd(self._tell, warn_on_full_buffer=False)
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, _only_wake_up)
        try:
            self._take()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._give_back()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(-1)
            os.close(self._told)
            os.close(self._tell)

    @property
    def size(self) -> tuple[int, int]:
        """Its columns and lines now."""
        columns, lines = os.get_terminal_size(self._output)
        return (columns, lines) if columns and lines else FALLBACK_SIZE

    def draw(self, renderable: RenderableType) -> None:
        """Fill the window."""
        if self._live is not None:
            self._console.size = self.size
            self._live.update(renderable, refresh=True)

    def wait(self, seconds: float, *descriptors: int) -> Events:
        """What happens first, at the latest after some seconds (then nothing)."""
        poll = select.poll()
        for descriptor in (self._input, self._told, *descriptors):
            poll.register(descriptor, select.POLLIN)
        if self._reader.is_undecided:
            seconds = ESCAPE_SECONDS
        ready = frozenset(descriptor for descriptor, _ in poll.poll(seconds * 1000))
        ending = self._answer_signals() if self._told in ready else None
        keys = self._reader.decide() if not ready else []
        if self._input in ready:
            data = self._read_input()
            keys = self._reader.feed(data)
            if not data:
                ending = ending or signal.SIGHUP
        return Events(keys, ready, ending)

    def _read_input(self) -> bytes:
        try:
            return os.read(self._input, 4096)
        except OSError:  # it is there no more
            return b""

    def _answer_signals(self) -> int | None:
        """Do what the signals ask for that have come; gives one that asks for the end."""
        numbers = self._read_signals()
        if signal.SIGTSTP in numbers:
            self._give_back()
            self._stop()
            numbers += self._read_signals()
        ending = next((number for number in numbers if number in ENDING), None)
        if ending is not None:
            # It may have been continued in the background, which may not touch the terminal.
            return ending
        if signal.SIGCONT in numbers:  # perhaps after a SIGSTOP, before which nothing can be done
            self._give_back()
        if self._live is None:
            self._take()
        return None

    def _read_signals(self) -> bytes:
        try:
            return os.read(self._told, 4096)
        except BlockingIOError:
            return b""

    def _stop(self) -> None:
        """Stop as if the signal had not been caught; returns when the process is continued."""
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)

    def _take(self) -> None:
        # Keys that came before stay to be read: tcsetattr(3) would throw them away.
        _uninterrupted(lambda: tty.setcbreak(self._input, termios.TCSADRAIN))
        # Made anew each time: a Live that was stopped does not begin again.
        self._live = Live(
            console=self._console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def _give_back(self) -> None:
        """Leave the alternate screen and cbreak mode, unless that is done."""
        live, self._live = self._live, None
        if live is None:
            return
        # A terminal that is there no more has nothing to be given back.
        with contextlib.suppress(OSError, termios.error):
            live.stop()
            sys.stdout.flush()
        with contextlib.suppress(OSError, termios.error):
            _uninterrupted(
                lambda: termios.tcsetattr(self._input, termios.TCSADRAIN, self._attributes)
            )


def _uninterrupted(change: Callable[[], object]) -> None:
    """Change the terminal. That waits until it is this program's turn, which a signal may end."""
    while True:
        try:
            change()
        except termios.error as error:
            if error.args[0] != errno.EINTR:
                raise
        else:
            return


def _only_wake_up(number: int, frame: FrameType | None) -> None:
    """A handler there has to be for the number to be written to the wake-up descriptor."""
    del number, frame
