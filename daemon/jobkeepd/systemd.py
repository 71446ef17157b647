"""What a service manager and the daemon say to each other.

What lives here: the socket that systemd hands over (sd_listen_fds(3)), and what it is told in
return (sd_notify(3)), the sign of life included (sd_watchdog_enabled(3)). What may not: when
something is said (that is `daemon` and `reporter`), and logging to the journal (that is `journal`).

Without systemd, none of its variables is set: then there is no socket, and nothing is said.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, MutableMapping

from jobkeep_protocol.errors import InvalidRequest

log = logging.getLogger(__name__)

FIRST_DESCRIPTOR = 3
"""SD_LISTEN_FDS_START."""

SOCKET_NAME = "jobkeep"
"""FileDescriptorName= of the socket unit."""

EXTENSION_SECONDS = 30.0
"""How much longer a start may take each time it asks, which it does every third of this."""

TELLING_SECONDS = 1.0
"""How long a service manager that does not listen may hold us up."""


def take_socket(environment: MutableMapping[str, str]) -> socket.socket | None:
    """The listening socket that was handed over; None when nothing was.

    Takes the variables away, so that no process of ours believes they are for it. Raises
    InvalidRequest for descriptors among which there is no listening Unix socket of our name.
    """
    pid = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdecimal() or count == "0":
        return None
    handed = range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count))
    named = [fd for fd, name in zip(handed, names, strict=False) if name == SOCKET_NAME]
    if len(named) != 1:
        raise InvalidRequest(
            f"descriptors were handed over ({count}) with the names {':'.join(names)!r}; expected "
            f"one socket unit with FileDescriptorName={SOCKET_NAME}"
        )
    listening = _open_socket(named[0])
    os.set_inheritable(named[0], False)
    listening.setblocking(False)
    return listening


def _open_socket(descriptor: int) -> socket.socket:
    """The socket of a descriptor. Raises InvalidRequest for any but a listening one with a path."""
    try:
        found = socket.socket(fileno=descriptor)
    except OSError as error:
        raise _not_ours(descriptor, f"it is no socket ({error.strerror})") from error
    if (found.family, found.type) != (socket.AF_UNIX, socket.SOCK_STREAM):
        why = f"it is a socket of {found.family!r} and {found.type!r}"
    elif not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        why = "it does not listen"
    elif not isinstance(found.getsockname(), str) or not found.getsockname():
        why = "it has no path"
    else:
        return found
    found.close()
    raise _not_ours(descriptor, why)


def _not_ours(descriptor: int, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"descriptor {descriptor} was handed over as {SOCKET_NAME}, and {why}; the socket unit "
        "needs ListenStream= with a path, and Accept=no"
    )


class ServiceManager:
    """Tells the service manager how we are; silent when there is none.

    Takes its variables away from `environment`. `watchdog_seconds` is how often it wants a sign of
    life, None when it does not.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        self._address = environment.pop("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):  # an abstract socket, unix(7)
            self._address = "\0" + self._address[1:]
        microseconds = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", str(os.getpid()))
        self.watchdog_seconds: float | None = None
        if microseconds.isdecimal() and int(microseconds) and pid == str(os.getpid()):
            self.watchdog_seconds = int(microseconds) / 1e6

    @property
    def is_there(self) -> bool:
        """Whether anybody is told."""
        return bool(self._address)

    def ready(self, status: str) -> None:
        """Requests are answered from now on."""
        self._say(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """The configuration is being read again; `ready` ends it."""
        self._say(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self._say("STOPPING=1\nSTATUS=finishing what was received")

    def status(self, status: str) -> None:
        """A line for `systemctl status`."""
        self._say(f"STATUS={status}")

    def alive(self) -> None:
        """A sign of life."""
        self._say("WATCHDOG=1")

    @contextlib.contextmanager
    def patience(self, what: str) -> Iterator[None]:
        """Ask for more time, again and again, while something in the block takes it.

        Done on a thread, since the loop may be what is busy.
        """
        if not self.is_there:
            yield
            return
        is_done = threading.Event()

        def ask() -> None:
            while not is_done.wait(EXTENSION_SECONDS / 3):
                self._say(f"EXTEND_TIMEOUT_USEC={EXTENSION_SECONDS * 1e6:.0f}\nSTATUS={what}")

        asking = threading.Thread(target=ask, name="jobkeepd-patience", daemon=True)
        asking.start()
        try:
            yield
        finally:
            is_done.set()
            asking.join()

    def _say(self, words: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
                to.settimeout(TELLING_SECONDS)
                to.sendto(words.encode(errors="replace"), self._address)
        except OSError as error:
            log.warning("the service manager at %r is not told %r: %s", self._address, words, error)
