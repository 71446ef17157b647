"""A real daemon, as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support import PATIENCE, scaled, wait_until


class DaemonProcess:
    """`jobkeepd` on a database and a socket in one directory.

    `log` is what it wrote to its standard error, over all its starts.
    """

    def __init__(self, directory: Path) -> None:
        self.database = directory / "state.db"
        self.socket = directory / "jobkeep.sock"
        self.wrapper: list[str] = []
        """What runs the daemon, such as `unshare`; empty for the daemon itself."""
        self.program: list[str] = ["-m", "jobkeepd"]
        """What the interpreter is told to run."""
        self.inherited: tuple[int, ...] = ()
        """Descriptors that it has under the same numbers."""
        self._log = directory / "jobkeepd.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process that was started."""
        assert self._process is not None, "the daemon was not started"
        return self._process.pid

    @property
    def log(self) -> str:
        """What the daemon has said so far."""
        return self._log.read_text(encoding="utf-8") if self._log.exists() else ""

    @property
    def is_running(self) -> bool:
        """Whether there is a process now."""
        return self._process is not None and self._process.poll() is None

    @property
    def descriptors(self) -> int:
        """How many files it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))  # noqa: PTH208 # a number is wanted

    @property
    def is_accepting(self) -> bool:
        """Whether the socket takes connections."""
        return accepts(self.socket)

    def spawn(self, *options: str, environment: Mapping[str, str] | None = None) -> None:
        """Start it without waiting for anything."""
        command = [
            *self.wrapper,
            *(sys.executable, *self.program),
            *("--db", str(self.database), "--socket", str(self.socket)),
            *options,
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stderr=log,
                env={**os.environ, **(environment or {})},
                umask=0o022,
                pass_fds=self.inherited,
            )

    def start(self, *options: str, environment: Mapping[str, str] | None = None) -> None:
        """Start it and wait until it is ready."""
        self.spawn(*options, environment=environment)
        wait_until(lambda: self.is_accepting or not self.is_running)
        assert self.is_running, self.log

    def reload(self) -> None:
        """Have it read its settings again, as systemd would; does not wait for it."""
        assert self._process is not None, "the daemon was not started"
        self._process.send_signal(signal.SIGHUP)

    def wait(self) -> int:
        """Wait for its end; gives its exit status."""
        assert self._process is not None, "the daemon was not started"
        return self._process.wait(scaled(PATIENCE))

    def stop(self) -> None:
        """End it as systemd would, and hold it to an exit status of 0."""
        assert self._process is not None, "the daemon was not started"
        self._process.send_signal(signal.SIGTERM)
        status = self.wait()
        assert status == 0, self.log

    def kill(self) -> None:
        """End it without a chance to do anything."""
        assert self._process is not None, "the daemon was not started"
        self._process.kill()
        self.wait()

    def restart(self) -> None:
        """Kill it and start another."""
        self.kill()
        self.start()

    def clean_up(self) -> None:
        """Leave no process behind, whatever the test did."""
        if self.is_running:
            self.kill()


def accepts(path: Path) -> bool:
    """Whether somebody listens on this socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0
