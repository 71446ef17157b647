"""What stands for systemd in tests: it hands over sockets, and is told how the daemon is.

What lives here: both ends as systemd has them: real descriptors, a real datagram socket. Run as a
program, it gives a command the descriptors NAME=NUMBER as systemd does, and becomes that command.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from tests.support import wait_until

FIRST_DESCRIPTOR = 3
_ABOVE_ALL = 100


class Listener:
    """The socket that is told (sd_notify(3)). `said` is every variable so far, in order."""

    def __init__(self, directory: Path) -> None:
        self.address = str(directory / "notify.sock")
        self.said: list[tuple[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a service has."""
        return {"NOTIFY_SOCKET": self.address}

    def take(self) -> list[tuple[str, str]]:
        """What was said since the last time, and not looked at yet."""
        found: list[tuple[str, str]] = []
        while True:
            try:
                data = self._socket.recv(65_536)
            except BlockingIOError:
                break
            for line in data.decode().splitlines():
                name, _, value = line.partition("=")
                found.append((name, value))
        self.said += found
        return found

    def has(self, name: str, times: int = 1) -> bool:
        """Whether a variable was given so many times by now."""
        self.take()
        return len(self.values(name)) >= times

    def values(self, name: str) -> list[str]:
        """The values of a variable so far."""
        return [value for one, value in self.said if one == name]

    def wait_for(self, name: str, times: int = 1) -> str:
        """Wait until a variable was given so many times; gives its last value."""
        wait_until(lambda: self.has(name, times))
        return self.values(name)[-1]

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()


def handing_over(*sockets: tuple[str, socket.socket]) -> tuple[list[str], tuple[int, ...]]:
    """The command before that of a daemon which hands it these, and what it has to inherit."""
    named = [f"{name}={one.fileno()}" for name, one in sockets]
    return [sys.executable, "-m", __name__, *named, "--"], tuple(one.fileno() for _, one in sockets)


def _become(names: dict[str, int], command: list[str]) -> None:
    for place, descriptor in enumerate(names.values()):
        os.dup2(descriptor, _ABOVE_ALL + place)
    for place in range(len(names)):
        os.dup2(_ABOVE_ALL + place, FIRST_DESCRIPTOR + place)
        os.close(_ABOVE_ALL + place)
    variables = {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": str(len(names)),
        "LISTEN_FDNAMES": ":".join(name.partition("#")[0] for name in names),
    }
    os.execve(command[0], command, {**os.environ, **variables})  # noqa: S606 # it is the command we are given


if __name__ == "__main__":
    before, after = sys.argv[1 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
    _become({one.split("=")[0]: int(one.split("=")[1]) for one in before}, after)
