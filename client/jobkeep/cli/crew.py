"""One worker as its runner sees it: a process, its two pipes, and its process group.

What lives here: starting a worker, the dialogue with it, telling it to stop, ending what it leaves
behind. What may not: what its events mean (that is `runner`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

from jobkeep.cli.dialogue import Event, Parameters, line, read_event
from jobkeep_protocol.states import SheetState

# -P: a module of the directory the user works in must not take the place of one of Python's.
WORKER = (sys.executable, "-P", "-m", "jobkeep.cli.worker")


class WorkerProcess:
    """A worker that is running from the moment this is made."""

    def __init__(self, parameters: Parameters) -> None:
        # In a session of its own it leads a process group that Ctrl-C does not reach; and a command
        # that asks on the terminal finds none, and fails, where it would be stopped for ever.
        self._process = subprocess.Popen(
            WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self.pid = self._process.pid
        self._send(line(parameters))

    async def events(self) -> AsyncIterator[Event]:
        """What the worker says, until it has ended."""
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), self._process.stdout
        )
        try:
            while (received := await reader.readline()).endswith(b"\n"):
                yield read_event(received)
        finally:
            transport.close()

    def give(self, sheet: SheetState) -> None:
        """Hand over the sheet that the worker has claimed."""
        self._send(line(sheet))

    def stop(self) -> None:
        """Tell the worker to stop its command and end."""
        assert self._process.stdin is not None, "it is a pipe"
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def kill(self) -> None:
        """End the worker and its command at once. Only before `ended`."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def ended(self) -> int:
        """Wait for the end, give the exit status: negative for the signal that killed it.

        When it did not end well, what is left of its process group is killed.
        """
        # Left unreaped until then, so that its number cannot have become another group's.
        ended = await asyncio.to_thread(os.waitid, os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None, "it is waited for"
        if (ended.si_code, ended.si_status) != (os.CLD_EXITED, 0):
            self.kill()
        self.stop()
        return self._process.wait()

    def _send(self, data: bytes) -> None:
        assert self._process.stdin is not None, "it is a pipe"
        # A worker that has died meanwhile is noticed by the end of its events.
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(data)
            self._process.stdin.flush()
