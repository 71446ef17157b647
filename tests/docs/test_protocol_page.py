"""docs/protocol.md has every operation, type, error and number as the code has them, and shows
bytes as a daemon sends them."""

from __future__ import annotations

import json
import re
import socket
import sys
from datetime import datetime
from types import NoneType
from typing import Any

import msgspec
import pytest

from jobkeep_protocol import interface, messages, request, states
from jobkeep_protocol.codec import OPERATIONS
from jobkeep_protocol.errors import ERRORS_BY_CODE
from jobkeep_protocol.framing import HEADER_BYTES, MAX_FRAME_BYTES, MAX_HELLO_BYTES
from jobkeep_protocol.interface import FieldDescription, TypeDescription
from jobkeep_protocol.messages import PROTOCOL_VERSION, SLOTS
from jobkeep_protocol.request import MAX_TEXT_BYTES, MAX_WAIT_SECONDS, reply_type
from jobkeep_protocol.values import MAX_JOB_ID_BYTES, MAX_JSON_DEPTH
from jobkeep_protocol.varlink import ERROR_NAMES
from jobkeep_protocol.weight import CONTAINER_BYTES, MAX_DEPTH, MAX_WEIGHT, VALUE_BYTES
from jobkeepd.limits import DEFAULT_LIMITS
from jobkeepd.store.readers import MAX_PAGE_BYTES
from tests.daemon_process import DaemonProcess
from tests.docs.pages import ROOT, Block, blocks, read, table
from tests.support import PATIENCE, scaled

PAGE = ROOT / "docs" / "protocol.md"

CHECKED_IN_STATES = {"execution_duration_seconds": 0, "confidence_score": 0}
"""Numbers that no table of the code has."""


class WireTypes(interface._Types):
    """Types as the page writes them: Varlink's, and names for what JSON has as text."""

    def text(self, kind: Any) -> str:
        own = {datetime: "time", bytes: "bytes", NoneType: "null"}
        return own.get(kind) or super().text(kind)


def written(field: FieldDescription) -> str:
    """A field as the page writes it; a default that is no value is told in words there."""
    default = f" = {field.default}" if is_json(field.default) else ""
    return f"{field.name}: {field.type}{default}"


def is_json(text: str | None) -> bool:
    try:
        msgspec.json.decode(text or "")
    except msgspec.DecodeError:
        return False
    return True


def types_on_the_wire() -> dict[str, TypeDescription]:
    """Every type that a request or a reply has."""
    types = WireTypes()
    for operation in OPERATIONS.values():
        list(interface._fields_of(operation, types, may_be_left_out=True))
        types.text(reply_type(operation))
    return types.named


def is_array(name: str) -> bool:
    ours = [module for path, module in sys.modules.items() if path.startswith("jobkeep_protocol.")]
    kind = next(getattr(module, name) for module in ours if hasattr(module, name))
    config = getattr(kind, "__struct_config__", None)
    return config is not None and config.array_like


def spans(cell: str) -> list[str]:
    """What a cell has between backticks."""
    return re.findall(r"`([^`]+)`", cell)


def rows(heading: str) -> dict[str, list[str]]:
    """The second column of a table, by the first."""
    return {row[0].strip("`"): spans(row[1]) for row in table(PAGE, heading)}


def test_operations() -> None:
    types = WireTypes()

    assert {
        row[0].strip("`"): (spans(row[1]), spans(row[2])[0], row[3].split(";")[0])
        for row in table(PAGE, "operation")
    } == {
        name: (
            [*map(written, interface._fields_of(one, types, may_be_left_out=True))],
            types.text(reply_type(one)),
            one.role,
        )
        for name, one in OPERATIONS.items()
    }


def test_it_says_of_every_operation_what_it_does() -> None:
    told = re.findall(r"\*\*(\w+)\*\*", read(PAGE))

    assert {*OPERATIONS} <= {*told}


def test_types() -> None:
    named = types_on_the_wire()
    fields = {name: [*map(written, one.fields)] for name, one in named.items() if one.fields}

    assert rows("array") == {name: one for name, one in fields.items() if is_array(name)}
    assert rows("map") == {name: one for name, one in fields.items() if not is_array(name)}
    assert rows("enum") == {name: [*one.values] for name, one in named.items() if one.values}


def test_kinds_of_events() -> None:
    told = {row[0].strip("`"): spans(row[2]) for row in table(PAGE, "kind")}
    (kinds,) = (one.type for one in types_on_the_wire()["Event"].fields if one.name == "kind")

    assert f"({', '.join(told)})" == kinds
    assert {*told["job"], *told["execution"], *told["sheet"]} <= {*messages.Event.__struct_fields__}


def test_least_values() -> None:
    listed = {name: int(row[0]) for row in table(PAGE, "least") for name in spans(row[1])}
    numbers = {
        name: int(check.keywords["low"])
        for name, check in request.CHECKS.items()
        if hasattr(check, "keywords")
    }
    integers = {**request.LEAST, **states._JOB_INTEGERS, **states._SHEET_INTEGERS, "removed": 1}

    assert listed == {
        **{name: least for name, least in integers.items() if least >= 0},
        **numbers,
        **CHECKED_IN_STATES,
    }


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
    assert f"{MAX_JOB_ID_BYTES} bytes, a prompt and an output {MAX_TEXT_BYTES // 2**20} MiB" in text
    assert f"at most {MAX_JSON_DEPTH} levels" in text
    assert f"`wait_seconds` is {MAX_WAIT_SECONDS:g} at the most" in text
    assert f"within {DEFAULT_LIMITS.hello_seconds:g} seconds" in text
    assert f"within {DEFAULT_LIMITS.frame_seconds:g} seconds of its first byte" in text


# -- the examples ---------------------------------------------------------------------------------

_LINE = re.compile(r"(up|down) +(\{.*\}|(?:[0-9a-f]{2} )+)(…?)")


def conversations() -> list[Block]:
    """The blocks that show what goes up and down."""
    return [block for block in blocks(PAGE) if _LINE.match(block.text)]


def receive(connection: socket.socket) -> bytes:
    """A frame, or a line."""
    data = b""
    while not (data.endswith(b"\n") if data[:1] == b"{" else is_frame(data)):
        received = connection.recv(65_536)
        assert received, f"the daemon hung up after {data!r}"
        data += received
    return data


def is_frame(data: bytes) -> bool:
    return len(data) >= HEADER_BYTES and len(data) == HEADER_BYTES + int.from_bytes(data[:4], "big")


@pytest.mark.parametrize("block", conversations(), ids=["msgpack", "json"])
def test_daemon_says_what_the_page_shows(block: Block, daemon: DaemonProcess) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(scaled(PATIENCE))
        connection.connect(str(daemon.socket))
        for direction, data, is_cut in _LINE.findall(block.text):
            if direction == "up":
                line = f"{data}\n".encode()
                connection.sendall(line if data[0] == "{" else bytes.fromhex(data))
            elif data[0] == "{":
                assert json.loads(receive(connection)) == json.loads(data)
            else:
                received = receive(connection)
                assert received[: len(bytes.fromhex(data))] == bytes.fromhex(data)
                assert is_cut or received == bytes.fromhex(data)
