"""Items: where they come from, and how they get into a command."""

from __future__ import annotations

import io

import pytest

from jobkeep import InvalidRequest
from jobkeep.cli.items import command_for, read_items, split_arguments


def test_items_follow_three_colons() -> None:
    assert split_arguments(["gzip", "{}", ":::", "a", "b"]) == (["gzip", "{}"], ["a", "b"])


def test_without_colons_the_items_are_elsewhere() -> None:
    assert split_arguments(["gzip", "{}"]) == (["gzip", "{}"], None)


def test_only_the_first_colons_separate() -> None:
    assert split_arguments(["echo", ":::", "a", ":::"]) == (["echo"], ["a", ":::"])


@pytest.mark.parametrize("arguments", [[], [":::", "a"]])
def test_a_command_is_needed(arguments: list[str]) -> None:
    with pytest.raises(InvalidRequest, match="the command is missing; give it after --"):
        split_arguments(arguments)


def test_items_are_needed_after_colons() -> None:
    with pytest.raises(InvalidRequest, match="no item follows :::"):
        split_arguments(["echo", ":::"])


def test_an_argument_that_is_no_text_is_refused_by_its_place() -> None:
    with pytest.raises(InvalidRequest, match=r"item 2 is .*valid UTF-8"):
        split_arguments(["echo", ":::", "a", "\udcff"])
    with pytest.raises(InvalidRequest, match=r"argument 2 of the command is .*valid UTF-8"):
        split_arguments(["echo", "\udcff", ":::", "a"])


def test_lines_are_items_and_keep_their_spaces() -> None:
    assert read_items(io.BytesIO(b"a\n b c \n\nlast"), False) == ["a", " b c ", "last"]


def test_with_nul_an_item_may_hold_newlines() -> None:
    assert read_items(io.BytesIO(b"a\nb\0c\0"), True) == ["a\nb", "c"]


@pytest.mark.parametrize("is_nul_separated", [False, True])
def test_no_item_is_refused(is_nul_separated: bool) -> None:
    with pytest.raises(InvalidRequest, match="standard input holds no item"):
        read_items(io.BytesIO(b""), is_nul_separated)


def test_nul_in_a_line_is_refused_with_a_hint() -> None:
    with pytest.raises(InvalidRequest, match=r"item 1 .* give -0"):
        read_items(io.BytesIO(b"a\0b\0"), False)


def test_a_line_that_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"item 2 is .*valid UTF-8"):
        read_items(io.BytesIO(b"a\n\xff\n"), False)


def test_every_place_is_replaced() -> None:
    template = ["cp", "{}", "{}.bak", "--name={}{}"]
    assert command_for(template, "x y") == ["cp", "x y", "x y.bak", "--name=x yx y"]


def test_without_a_place_the_item_is_the_last_argument() -> None:
    assert command_for(["gzip", "-k"], "x y") == ["gzip", "-k", "x y"]


def test_an_item_is_put_in_once() -> None:
    assert command_for(["echo", "{}"], "{}") == ["echo", "{}"]
