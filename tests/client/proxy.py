"""A proxy between a client and a daemon that can lose replies, cut connections and listen in."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from pathlib import Path


class Proxy:
    """Listens on `path` and passes everything on to the daemon's socket, and back.

    While `loses_replies` is set, nothing goes back. `cut()` ends every connection. Use as a
    context manager.
    """

    def __init__(self, directory: Path, daemon: Path) -> None:
        self.path = directory / "proxy.sock"
        self.loses_replies = threading.Event()
        self.lost = threading.Event()
        """Set once bytes of a reply have been lost."""
        self.sent: list[bytearray] = []
        """What each connection's client has sent, in the order of the connections."""
        self._daemon = daemon
        self._open: set[socket.socket] = set()
        self._listening = socket.socket(socket.AF_UNIX)
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Proxy:
        self._listening.bind(str(self.path))
        self._listening.listen()
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join()
        self._listening.close()

    @property
    def connections(self) -> int:
        """How many there have been."""
        return len(self.sent)

    def cut(self) -> None:
        """End every connection, whatever is on its way."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _run(self, function: object, *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments)  # type: ignore[arg-type] # both are methods of this class
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self.sent.append(bytearray())
            self._run(self._pass_on, client, self.sent[-1])

    def _pass_on(self, client: socket.socket, sent: bytearray) -> None:
        with client, socket.socket(socket.AF_UNIX) as daemon:
            self._open |= {client, daemon}
            with contextlib.suppress(OSError):
                daemon.connect(str(self._daemon))
                while self._pass_on_some(client, daemon, sent):
                    pass
            self._open -= {client, daemon}

    def _pass_on_some(self, client: socket.socket, daemon: socket.socket, sent: bytearray) -> bool:
        """Move what is there; False at the end of either side."""
        ready, _, _ = select.select([client, daemon], [], [])
        for source in ready:
            data = source.recv(65536)
            if not data:
                return False
            if source is client:
                sent += data
                daemon.sendall(data)
            elif self.loses_replies.is_set():
                self.lost.set()
            else:
                client.sendall(data)
        return True
