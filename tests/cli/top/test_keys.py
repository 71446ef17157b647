"""From the bytes of a terminal to keys."""

from __future__ import annotations

import pytest

from jobkeep.cli.top import keys
from jobkeep.cli.top.keys import KeyReader

TYPED: list[tuple[bytes, list[str]]] = [
    (b"jq/", ["j", "q", "/"]),
    (b"\x1b[A\x1bOA\x1b[B\x1bOB", [keys.UP, keys.UP, keys.DOWN, keys.DOWN]),
    (b"\x1b[5~\x1b[6~", [keys.PAGE_UP, keys.PAGE_DOWN]),
    (b"\x1b[H\x1bOH\x1b[1~\x1b[7~", [keys.HOME] * 4),
    (b"\x1b[F\x1bOF\x1b[4~\x1b[8~", [keys.END] * 4),
    (b"\r\n\t\x7f\x08", [keys.ENTER, keys.ENTER, keys.TAB, keys.BACKSPACE, keys.BACKSPACE]),
    ("ä日".encode(), ["ä", "日"]),
    (b"\x1bq", [keys.ESCAPE, "q"]),
    (b"\x1b\x1b[A", [keys.ESCAPE, keys.UP]),
    (b"\x1b[1;5A\x1b[200~j\x01", ["j"]),  # Ctrl-Up, the begin of a paste, Ctrl-A
]


@pytest.mark.parametrize(("typed", "meant"), TYPED)
def test_keys_are_known_however_their_bytes_arrive(typed: bytes, meant: list[str]) -> None:
    assert KeyReader().feed(typed) == meant

    reader = KeyReader()
    assert [key for byte in typed for key in reader.feed(bytes([byte]))] == meant
    assert not reader.is_undecided


def test_escape_is_a_key_when_nothing_follows() -> None:
    reader = KeyReader()
    assert reader.feed(b"\x1b") == []
    assert reader.is_undecided

    assert reader.decide() == [keys.ESCAPE]
    assert not reader.is_undecided
    assert reader.decide() == []


def test_a_sequence_without_an_end_is_no_key() -> None:
    reader = KeyReader()
    assert reader.feed(b"\x1b[1;") == []
    assert reader.decide() == []
    assert reader.feed(b"j") == ["j"]
