"""What a command wrote, and what is kept of it."""

from __future__ import annotations

import pytest

from jobkeep.cli.attempt import KEPT_BYTES, Attempt, Output, signal_name
from jobkeep_protocol.request import MAX_TEXT_BYTES


def output_of(*parts: bytes, kept_bytes: int = 10) -> str:
    output = Output(kept_bytes)
    for part in parts:
        output.add(part)
    return output.text()


@pytest.mark.parametrize("parts", [(), (b"",), (b"abc",), (b"abc", b"defghijklmnopqrst")])
def test_an_output_is_kept_whole(parts: tuple[bytes, ...]) -> None:
    assert output_of(*parts) == b"".join(parts).decode()


def test_of_too_much_the_head_and_the_tail_are_kept() -> None:
    text = output_of(b"0123456789", b"x" * 1000, b"abcdefghij")
    assert text == "0123456789\n[… 1000 bytes left out by jobkeep …]\nabcdefghij"


def test_how_it_came_in_pieces_makes_no_difference() -> None:
    data = bytes(range(65, 91)) * 3
    whole = output_of(data)
    assert output_of(*(bytes([one]) for one in data)) == whole
    assert output_of(data[:7], data[7:40], data[40:]) == whole
    assert "58 bytes left out" in whole


def test_bytes_that_are_no_text_are_escaped() -> None:
    assert output_of(b"caf\xc3\xa9 \xff\n", kept_bytes=100) == "café \\xff\n"


def test_a_character_cut_in_the_middle_spoils_nothing() -> None:
    text = output_of("é".encode() * 100, kept_bytes=9)
    assert text.startswith("éééé")
    assert text.endswith("éééé")


def test_escapes_count_too() -> None:
    text = output_of(b"\xff" * 20)
    assert len(text.encode()) <= 20 + 60
    assert "left out by jobkeep" in text


@pytest.mark.parametrize("data", [b"\xff" * 5000, "é".encode() * 1001, b"x" * 10**6])
def test_what_is_kept_fits_in_a_record(data: bytes) -> None:
    room_for_notes = 200
    assert len(output_of(data, kept_bytes=1000).encode()) <= 2 * 1000 + room_for_notes
    assert 2 * KEPT_BYTES + room_for_notes <= MAX_TEXT_BYTES


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (Attempt("", 2, None, 1.0), "exit code 2"),
        (Attempt("first\n  no such file \n\n", 1, None, 1.0), "exit code 1: no such file"),
        (Attempt("", None, 11, 1.0), "killed by SIGSEGV"),
    ],
)
def test_a_failure_says_how_and_gives_the_last_line(attempt: Attempt, message: str) -> None:
    assert attempt.message() == message
    assert not attempt.has_succeeded


def test_a_signal_without_a_name_keeps_its_number() -> None:
    assert signal_name(9) == "SIGKILL"
    assert signal_name(40) == "signal 40"
