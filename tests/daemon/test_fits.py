"""What is kept can be read again: what no reply has room for is refused before it is kept."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from jobkeep_protocol.codec import decode_reply, encode_request
from jobkeep_protocol.errors import LimitExceeded
from jobkeep_protocol.framing import MAX_FRAME_BYTES, frame
from jobkeep_protocol.messages import (
    GetExecutionHistory,
    ListJobs,
    Load,
    MarkSheetStatus,
    QueryJobs,
    RecordExecution,
    Save,
    SaveSheet,
)
from jobkeep_protocol.request import Request
from jobkeep_protocol.states import CheckpointState, SheetState, SheetStatus
from jobkeepd.store.readers import MAX_PAGE_BYTES
from tests.daemon_process import DaemonProcess
from tests.wire import Wire

REQUEST_ID = 64


def job(description: str = "") -> Save:
    """A save of a job without sheets."""
    return Save(CheckpointState(job_id="job", total_sheets=1, description=description), [])


def sheet(error_message: str) -> SaveSheet:
    """A save of the job's sheet."""
    return SaveSheet("job", SheetState(sheet_num=1, error_message=error_message))


def record(text: str) -> RecordExecution:
    """An attempt with half of a text as its prompt and half as its output."""
    half = len(text) // 2
    return RecordExecution("job", 1, 1, text[:half], text[half:])


def filled(make: Callable[[str], Request[Any]], size: int) -> Request[Any]:
    """A request whose body has `size` bytes."""
    rest = len(encode_request(REQUEST_ID, make("x" * size))) - size
    request = make("x" * (size - rest))
    assert len(encode_request(REQUEST_ID, request)) == size
    return request


MAKERS: dict[str, tuple[Callable[[str], Request[Any]], Request[Any]]] = {
    "job": (job, Load("job")),
    "sheet": (sheet, Load("job", 0)),
    "record": (record, GetExecutionHistory("job")),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_what_fits_in_a_frame_and_in_no_reply_is_not_kept(daemon: DaemonProcess, kind: str) -> None:
    make, read = MAKERS[kind]
    with Wire(daemon.socket) as wire:
        wire.ask(job())
        before = wire.ask(read)

        with pytest.raises(LimitExceeded, match="and a reply has room for") as refused:
            wire.ask(filled(make, MAX_FRAME_BYTES), REQUEST_ID)

        assert refused.value.data["maximum"] == MAX_PAGE_BYTES
        assert wire.ask(read) == before
        assert len(wire.ask(ListJobs()).states) == 1
        assert len(wire.ask(QueryJobs()).jobs) == 1


@pytest.mark.parametrize("kind", MAKERS)
def test_largest_that_is_kept_is_read_again(daemon: DaemonProcess, kind: str) -> None:
    make, read = MAKERS[kind]
    with Wire(daemon.socket) as wire:
        wire.ask(job())

        wire.ask(filled(make, MAX_PAGE_BYTES), REQUEST_ID)

        assert "x" * 1_000 in str(wire.ask(read))
        assert len(wire.ask(ListJobs()).states) == 1
        assert len(wire.ask(QueryJobs()).jobs) == 1


def test_message_that_makes_a_large_sheet_too_large_is_not_kept(daemon: DaemonProcess) -> None:
    text = "x" * (MAX_PAGE_BYTES // 2)
    with Wire(daemon.socket) as wire:
        wire.ask(job())
        wire.ask(SaveSheet("job", SheetState(sheet_num=1, extra={"text": text})))

        with pytest.raises(LimitExceeded, match=r"sheet 1 has \d+ bytes, and a reply has room"):
            wire.ask(MarkSheetStatus("job", 1, SheetStatus.FAILED, text))

        _, sheets = wire.load()
        assert sheets[1].status is SheetStatus.PENDING
        assert sheets[1].extra == {"text": text}


def test_numbers_that_came_short_and_are_sent_long_are_not_kept(daemon: DaemonProcess) -> None:
    count = 1_000_000
    numbers = b"\xdd" + count.to_bytes(4, "big") + (b"\xca" + struct.pack(">f", 0.1)) * count
    text = "x" * (MAX_PAGE_BYTES - 8 * count)
    extra = {"numbers": msgspec.Raw(numbers), "text": text}
    body = msgspec.msgpack.encode(
        [REQUEST_ID, ["save_sheet", "job", {"sheet_num": 1, "extra": extra}]]
    )
    assert len(body) < MAX_PAGE_BYTES
    with Wire(daemon.socket) as wire:
        wire.ask(job())

        wire.send_bytes(frame(body))

        with pytest.raises(LimitExceeded, match=r"sheet 1 has \d+ bytes, and a reply has room"):
            decode_reply(SaveSheet, wire.receive()[1])
