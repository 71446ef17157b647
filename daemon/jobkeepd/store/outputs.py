"""Keeping the head and the tail of an output that is large.

What lives here: cutting a text, and saying so in it. What may not: how much is kept (that is a
setting), and refusing what is larger than a record may be (that is `limits`).
"""

from __future__ import annotations

from msgspec.structs import replace

from jobkeep_protocol.messages import RecordExecution


def with_output_cut(request: RecordExecution, keep_bytes: int) -> RecordExecution:
    """The record with no more of its output than this, in UTF-8, and a line that tells of the rest;
    the record itself where all of it is kept: `keep_bytes` is 0, or the output is not longer."""
    output = request.output
    if not keep_bytes or output is None or len(output) * 4 <= keep_bytes:
        return request
    text = output.encode()
    if len(text) <= keep_bytes:
        return request
    return replace(request, output=_cut(text, keep_bytes))


def _cut(text: bytes, keep_bytes: int) -> str:
    """Head and tail of a text, each half of what is kept, on whole characters."""
    half = keep_bytes // 2
    head = text[: keep_bytes - half].decode(errors="ignore")
    tail = text[len(text) - half :].decode(errors="ignore")
    left_out = len(text) - len(head.encode()) - len(tail.encode())
    return f"{head}\n[… {left_out} bytes left out by max_kept_output_bytes …]\n{tail}"
