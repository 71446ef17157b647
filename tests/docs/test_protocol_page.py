"""docs/protocol.md lists every operation, reply and error as the code declares them."""

from __future__ import annotations

import re
from typing import Any, get_type_hints

import msgspec

from jobkeep_protocol import backend, messages, states
from jobkeep_protocol.codec import OPERATIONS
from jobkeep_protocol.errors import ERRORS_BY_CODE
from jobkeep_protocol.framing import MAX_FRAME_BYTES, MAX_HELLO_BYTES
from jobkeep_protocol.messages import PROTOCOL_VERSION, SLOTS
from jobkeep_protocol.request import operation_name
from jobkeep_protocol.weight import CONTAINER_BYTES, MAX_DEPTH, MAX_WEIGHT, VALUE_BYTES
from jobkeepd.store.readers import MAX_PAGE_BYTES
from tests.docs.pages import ROOT, read, table

PAGE = ROOT / "docs" / "protocol.md"
REPLIES: dict[str, Any] = {
    operation_name(kind.__name__): kind
    for kind in (
        *(messages.Welcome, messages.Loaded, messages.Saved, messages.StatesPage),
        *(messages.JobsPage, messages.HistoryPage, messages.DaemonStatus),
        messages.BackupPiece,
        *(backend.JobStatistics, backend.JobSummary, backend.ExecutionRecord),
        *(states.CheckpointState, states.SheetState),
    )
}

_FIELD = re.compile(r"`(\w+)`(?: = `([^`]*)`)?")


def fields(operation: Any) -> list[tuple[str, str]]:
    """Each field of a request, with its default as JSON; no text for one without."""
    return [
        (one.name, "" if one.required else msgspec.json.encode(default_of(one)).decode())
        for one in msgspec.structs.fields(operation)
    ]


def default_of(one: Any) -> Any:
    return one.default_factory() if one.default is msgspec.NODEFAULT else one.default


def test_operations() -> None:
    listed = {
        row[0].strip("`"): (_FIELD.findall(row[1]), row[3]) for row in table(PAGE, "operation")
    }

    assert listed == {name: (fields(one), one.role) for name, one in OPERATIONS.items()}


def test_replies() -> None:
    listed = {
        row[0].strip("`"): [name for name, _ in _FIELD.findall(row[1])]
        for row in table(PAGE, "reply")
    }

    assert listed == {
        name: list(getattr(kind, "__struct_fields__", get_type_hints(kind)))
        for name, kind in REPLIES.items()
    }


def test_errors() -> None:
    assert [row[0].strip("`") for row in table(PAGE, "code")] == list(ERRORS_BY_CODE)


def test_numbers() -> None:
    text = " ".join(read(PAGE).split())

    assert f"protocol version {PROTOCOL_VERSION}," in text
    assert f"({MAX_FRAME_BYTES} bytes)" in text
    assert f"({MAX_HELLO_BYTES} bytes)" in text
    assert f"more than {MAX_PAGE_BYTES} bytes is answered" in text
    assert f"more than {MAX_WEIGHT // 2**20} MiB of memory" in text
    assert (
        f"{CONTAINER_BYTES} bytes for each list and each map in it, and {VALUE_BYTES} for" in text
    )
    assert f"More than {MAX_DEPTH} levels" in text
    assert f"`sequence * {SLOTS} + slot`" in text
