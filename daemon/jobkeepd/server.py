"""The listening socket: where clients connect.

What lives here: making the socket file, taking over a stale one, accepting, and letting go. What
may not: what is said on a connection (that is `session`).

A stale socket file is one that nobody listens on; it is removed only by the holder of the
database's lock, and only after connecting to it was refused.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import stat
from pathlib import Path

from jobkeep_protocol.errors import JobkeepError
from jobkeepd.access import Access, number_of_group
from jobkeepd.connections import Connections
from jobkeepd.files import FileIdentity
from jobkeepd.limits import Limits
from jobkeepd.operations import Operations
from jobkeepd.session import Session

log = logging.getLogger(__name__)

BACKLOG = 4096
"""Connections the kernel keeps while we are busy; create_unix_server would set 100."""

SO_PASSRIGHTS = 83
"""Linux 6.16 (asm-generic/socket.h); inherited by the sockets of connections."""

MAX_PATH_BYTES = 107
"""The longest path of a Unix socket: sun_path is 108 bytes with its NUL (unix(7))."""


class SocketError(JobkeepError):
    """The socket cannot be made."""


class SocketInUse(SocketError):
    """Somebody listens there already."""


class Server:
    """Listens on one socket; the sessions that come in through it are among `connections`.

    `mode` and `group` are those of the socket file: who may connect. A socket that was `handed`
    over has its own.
    """

    def __init__(
        self,
        path: Path,
        operations: Operations,
        connections: Connections,
        *,
        access: Access,
        limits: Limits,
        mode: int = 0o600,
        group: str = "",
        handed: socket.socket | None = None,
    ) -> None:
        self.path = path
        self._connections = connections
        self._operations = operations
        self._access = access
        self._limits = limits
        self._handed = handed
        self._mode = mode
        self._gid = number_of_group(group) if group else -1
        self._server: asyncio.Server | None = None
        self._identity: FileIdentity | None = None

    async def start(self) -> None:
        """Accept connections. When this returns, the daemon is ready.

        Raises SocketError, or SocketInUse when another process listens there.
        """
        listening = self._handed
        if listening is None:
            listening = _listen(self.path, self._mode, self._gid)
            self._identity = FileIdentity.of(self.path)
        else:
            _refuse_descriptors(listening)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            self._new_session, sock=listening, backlog=BACKLOG
        )

    def reconfigure(self, access: Access, limits: Limits) -> None:
        """Hold new connections to these rules; those that are open keep what they were told."""
        self._access = access
        self._limits = limits
        self._connections.reconfigure(limits)

    def stop_accepting(self) -> None:
        """Take no more connections, and the file away, so that clients do not wait for us.

        A socket that was handed over stays: those who connect wait for the next daemon.
        """
        if self._server is not None:
            self._server.close()
        if self._identity is not None and FileIdentity.of(self.path) == self._identity:
            self.path.unlink()
        self._identity = None

    def _new_session(self) -> Session:
        return Session(self._operations, self._connections, self._access, self._limits)


def _listen(path: Path, mode: int, gid: int) -> socket.socket:
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise SocketError(
            f"the socket path {path} has {len(os.fsencode(path))} bytes; a Unix socket's has at "
            f"most {MAX_PATH_BYTES}: give a shorter one with --socket"
        )
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    _refuse_descriptors(listening)
    umask = os.umask(0o177)  # the file must never be open to others, not even for a moment
    try:
        listening.bind(os.fspath(path))
        os.chown(path, -1, gid)
        path.chmod(mode)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise SocketError(f"cannot listen on {path}: {error.strerror}") from error
    finally:
        os.umask(umask)
    listening.setblocking(False)
    return listening


def _refuse_descriptors(listening: socket.socket) -> None:
    """Have the kernel refuse open files that a peer sends along, where it can.

    Before Linux 6.16 it cannot, and closes them when the message is read: nothing here asks for
    them (unix(7), SCM_RIGHTS).
    """
    try:
        listening.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise SocketError(f"cannot look at {path}: {error.strerror}") from error
    if not stat.S_ISSOCK(mode):
        raise SocketError(f"{path} exists and is no socket; move it away or give another --socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        result = probe.connect_ex(os.fspath(path))
    if result == errno.ECONNREFUSED:
        log.info("removing the stale socket %s", path)
        path.unlink()
    elif result != errno.ENOENT:
        why = "another process listens there" if result == 0 else os.strerror(result)
        raise SocketInUse(f"cannot listen on {path}: {why}; give another path with --socket")
