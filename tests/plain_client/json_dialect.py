"""The JSON dialect: one request at a time, in objects that end with a NUL or a newline."""

import json
import socket
from collections.abc import Iterator
from typing import Any


class JsonError(Exception):
    """An error reply: the name of the error and its parameters."""

    def __init__(self, name: str, parameters: dict[str, Any]) -> None:
        super().__init__(f"{name}: {parameters}")
        self.name = name
        self.parameters = parameters


class JsonClient:
    """A connection that speaks JSON; ``ending`` is what each message ends with, both ways."""

    def __init__(self, path: str, ending: bytes = b"\0") -> None:
        self.ending = ending
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._received = b""

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return the parameters of the reply. Raises ``JsonError`` when it is an error."""
        self.send({"method": method, "parameters": parameters})
        return self.receive()[0]

    def more(self, method: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Yield the parameters of every reply, until the one after which nothing comes."""
        self.send({"method": method, "parameters": parameters, "more": True})
        continues = True
        while continues:
            reply, continues = self.receive()
            yield reply

    def oneway(self, method: str, **parameters: Any) -> None:
        """Send a request that has no reply."""
        self.send({"method": method, "parameters": parameters, "oneway": True})

    def send(self, message: dict[str, Any]) -> None:
        """Send one message."""
        self._socket.sendall(json.dumps(message).encode() + self.ending)

    def receive(self) -> tuple[dict[str, Any], bool]:
        """Return the parameters of the next reply and whether another one follows it."""
        while self.ending not in self._received:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("the daemon closed the connection")
            self._received += data
        text, _, self._received = self._received.partition(self.ending)
        reply = json.loads(text)
        if "error" in reply:
            raise JsonError(reply["error"], reply.get("parameters", {}))
        return reply.get("parameters", {}), reply.get("continues", False)

    def close(self) -> None:
        """End the connection, and with it a stream that is not read to its end."""
        self._socket.close()
