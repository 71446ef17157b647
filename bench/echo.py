"""A bare echo: the least that uvloop and msgspec need for a request and its reply.

What lives here: a server that decodes each message and sends it back, and its client. What may
not: anything a real protocol needs, such as frames, ids or limits. One request at a time, each
small enough to arrive in one piece.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import uvloop

from bench.trial import processes

START_SECONDS = 30.0

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class EchoClient(asyncio.Protocol):
    """One connection to the server."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Any] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        assert self._answer is not None, "one request, one reply"
        self._answer.set_result(_decode(data))

    async def ask(self, message: Any) -> Any:
        """Send a message; gives it back."""
        assert self._transport is not None, "connected before it is asked"
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(_encode(message))
        return await self._answer

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()


@contextmanager
def running_echo(directory: Path) -> Iterator[Path]:
    """The socket of an echo server in a process of its own."""
    path = directory / "echo.sock"
    process = processes.Process(target=_serve, args=(path,), daemon=True)
    process.start()
    try:
        deadline = time.monotonic() + START_SECONDS
        while not path.exists() and process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        yield path
    finally:
        process.terminate()
        process.join()


class _EchoServer(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(_encode(_decode(data)))


def _serve(path: Path) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        unready = path.with_suffix(".unready")
        server = await loop.create_unix_server(_EchoServer, os.fspath(unready))
        unready.rename(path)  # a path that is there accepts
        await server.serve_forever()

    uvloop.run(serve())
