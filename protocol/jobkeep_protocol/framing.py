"""Frames: a 4-byte big-endian length and that many bytes of body.

What lives here: the frame cap, splitting a byte stream into bodies, and putting a length before a
body. What may not: the meaning of a body (that is `messages`), and any I/O.

The length is checked against the cap before anything is kept for it, on every frame, both ways.
"""

from __future__ import annotations

from collections.abc import Iterator

from jobkeep_protocol.errors import LimitExceeded, ProtocolError

HEADER_BYTES = 4

MAX_FRAME_BYTES = 32 * 1024 * 1024
"""The largest body either side sends or accepts.

Room for one record with a prompt and an output of the largest allowed size (16 MiB each would be
too much together, and is refused by name), and below 64 MiB, so that the first byte of a frame is
always below 5 and a `{` can announce another dialect.
"""

MAX_HELLO_BYTES = 64 * 1024
"""The largest body accepted from a peer that has not said hello yet."""


def frame(body: bytes, limit: int = MAX_FRAME_BYTES) -> bytes:
    """Put the length before `body`.

    Raises LimitExceeded when the body is larger than the peer accepts.
    """
    if len(body) > limit:
        raise LimitExceeded(
            f"a message of {len(body)} bytes does not fit in a frame of {limit} bytes; "
            "save the sheets one at a time with save_sheet, or make the outputs smaller",
            {"limit": "max_frame_bytes", "maximum": limit, "value": len(body)},
        )
    return len(body).to_bytes(HEADER_BYTES, "big") + body


class FrameReader:
    """Splits a stream of bytes into bodies, however the bytes arrive.

    `limit` is the largest body accepted and may be raised once the peer is known.
    """

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        self.limit = limit
        self._pending = bytearray()
        self._wanted = HEADER_BYTES

    @property
    def pending_bytes(self) -> int:
        """How much has arrived of a frame that is not complete; 0 between two frames."""
        return len(self._pending)

    def receive_data(self, data: bytes) -> Iterator[bytes]:
        """Take the next bytes of the stream; give the bodies that are now complete, one by one.

        Iterate to the end. `limit` may change between two bodies. Raises ProtocolError for a frame
        that announces more than `limit` bytes, or none; the reader is of no use afterwards.
        """
        if self._pending:
            self._pending += data
            if len(self._pending) < self._wanted:
                return  # a large frame arrives in many pieces: look at it once, not every time
            data = bytes(self._pending)
        start, end = 0, len(data)
        self._wanted = HEADER_BYTES
        while end - start >= HEADER_BYTES:
            length = int.from_bytes(data[start : start + HEADER_BYTES], "big")
            self._check_length(length)
            stop = start + HEADER_BYTES + length
            if stop > end:
                self._wanted = stop - start
                break
            yield data[start + HEADER_BYTES : stop]
            start = stop
        self._pending = bytearray(data[start:])

    def _check_length(self, length: int) -> None:
        if not 0 < length <= self.limit:
            raise ProtocolError(
                f"a frame announces {length} bytes; 1 to {self.limit} are allowed here",
                {"limit": "max_frame_bytes", "maximum": self.limit, "value": length},
            )
