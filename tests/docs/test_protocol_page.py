"""docs/protocol.md lists every operation, reply and error as the code declares them."""

from __future__ import annotations

import re
from typing import Any, get_type_hints

import msgspec

from jobkeep_protocol import backend, messages, states
from jobkeep_protocol.codec import OPERATIONS
from jobkeep_protocol.errors import ERRORS_BY_CODE
from jobkeep_protocol.framing import MAX_FRAME_BYTES, MAX_HELLO_BYTES
from jobkeep_protocol.interface import FieldDescription, describe
from jobkeep_protocol.messages import PROTOCOL_VERSION, SLOTS
from jobkeep_protocol.request import operation_name
from jobkeep_protocol.varlink import BINARY_ONLY, ERROR_NAMES
from jobkeep_protocol.weight import CONTAINER_BYTES, MAX_DEPTH, MAX_WEIGHT, VALUE_BYTES
from jobkeepd.store.readers import MAX_PAGE_BYTES
from tests.docs.pages import ROOT, read, table

PAGE = ROOT / "docs" / "protocol.md"
REPLIES: dict[str, Any] = {
    operation_name(kind.__name__): kind
    for kind in (
        *(messages.Welcome, messages.Loaded, messages.Saved, messages.StatesPage),
        *(messages.JobsPage, messages.HistoryPage, messages.DaemonStatus),
        *(messages.BackupPiece, messages.MonitorPage, messages.EventsPage),
        *(messages.OperationFigures, messages.Worry, messages.ConnectedClient),
        *(messages.ServedRequest, messages.Event),
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
        row[0].strip("`"): (_FIELD.findall(row[1]), row[3].split(";")[0])
        for row in table(PAGE, "operation")
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


def test_types() -> None:
    listed = {row[0].strip("`"): row[1] for row in table(PAGE, "type")}

    assert listed == {name: " ".join(text.split()) for name, text in types().items()}


def types() -> dict[str, str]:
    """Every type that a request or a reply has, and the fields of every request."""
    found: dict[str, str] = {}
    for operation in OPERATIONS.values():
        if operation not in BINARY_ONLY:
            told = describe(operation)
            if told.fields:
                found[told.name] = ", ".join(map(_about, told.fields))
            if told.reply.isidentifier() and told.reply[0].isupper():
                found[told.reply] = ", ".join(map(_about, told.reply_fields))
            for one in told.types:
                found[one.name] = ", ".join(
                    map(_about, one.fields) if one.fields else (f"`{v}`" for v in one.values)
                )
    return found


def _about(field: FieldDescription) -> str:
    default = f" = `{field.default}`" if _is_json(field.default) else ""
    return f"`{field.name}` {field.type.replace('|', ' or ')}{default}"


def _is_json(text: str | None) -> bool:
    """Whether a default is a value, and not words."""
    try:
        msgspec.json.decode(text or "")
    except msgspec.DecodeError:
        return False
    return True


def test_errors_of_the_json_dialect() -> None:
    listed = {row[0].strip("`"): row[1].strip("`") for row in table(PAGE, "error")}

    assert {code: listed[code] for code in ERROR_NAMES} == ERROR_NAMES


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
