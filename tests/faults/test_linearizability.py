"""The checker of linearizability, on histories made by hand, and against all orders there are."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from tests.faults.histories.linearizability import UndecidedError, find_violation


class Call(Struct, frozen=True):
    """Something done with a register, which is None at first.

    `write` sets it to `value`; `swap` does so if it is `expected`, and has `result` say whether it
    was; `read` has `result`.
    """

    name: str
    invoked: int
    returned: int | None
    value: Any = None
    expected: Any = None
    result: Any = None


def step(register: Any, call: Call) -> Any:
    """The register after a call, wrapped; None when the call cannot have had its result."""
    (value,) = register
    match call.name:
        case "write":
            return (call.value,)
        case "read":
            return register if value == call.result or call.returned is None else None
        case _:
            is_swapped = value == call.expected
            if call.returned is not None and call.result is not is_swapped:
                return None
            return (call.value,) if is_swapped else register


def write(value: Any, invoked: int, returned: int | None) -> Call:
    """A write."""
    return Call("write", invoked, returned, value=value)


def read(result: Any, invoked: int, returned: int) -> Call:
    """A read."""
    return Call("read", invoked, returned, result=result)


def swap(expected: Any, value: Any, result: bool, invoked: int, returned: int) -> Call:
    """A compare-and-swap."""
    return Call("swap", invoked, returned, value, expected, result)


def unexplained(history: Sequence[Call]) -> Call | None:
    """The first call that no order explains."""
    violation = find_violation(history, (None,), step)
    return None if violation is None else violation.operation


@pytest.mark.parametrize(
    "history",
    [
        pytest.param([], id="nothing"),
        pytest.param([read(None, 1, 2), write("a", 3, 4), read("a", 5, 6)], id="one by one"),
        pytest.param([write("a", 1, 9), read(None, 2, 3), read("a", 4, 5)], id="in the midst"),
        pytest.param([write("a", 1, 9), write("b", 2, 8), read("a", 10, 11)], id="either order"),
        pytest.param([write("a", 1, 2), read(None, 2, 3)], id="at the same moment"),
        pytest.param([write("a", 1, None), read(None, 2, 3), read("a", 8, 9)], id="perhaps later"),
        pytest.param([write("a", 1, None), read(None, 8, 9)], id="perhaps never"),
        pytest.param(
            [write("a", 1, None), write("b", 2, 3), read("b", 4, 5), read("a", 6, 7)],
            id="perhaps after another",
        ),
        pytest.param(
            [swap(None, "a", True, 1, 9), swap("a", "b", True, 2, 3), read("b", 4, 5)],
            id="a swap before it has ended",
        ),
    ],
)
def test_history_with_an_order_has_no_violation(history: list[Call]) -> None:
    assert unexplained(history) is None


@pytest.mark.parametrize(
    ("history", "place"),
    [
        pytest.param([write("a", 1, 2), read(None, 3, 4)], 1, id="a stale read"),
        pytest.param([read("a", 1, 2), write("a", 3, 4)], 0, id="read before it was written"),
        pytest.param(
            [write("a", 1, 9), read("a", 2, 3), read(None, 4, 5)], 2, id="new, and old again"
        ),
        pytest.param(
            [swap(None, "a", True, 1, 9), swap(None, "b", True, 2, 8)], 0, id="a lost update"
        ),
        pytest.param([swap("x", "a", True, 1, 2)], 0, id="a swap of what was never there"),
        pytest.param(
            [
                *(write("a", 1, None), read("a", 2, 3), write("b", 4, 5), read("a", 6, 7)),
            ],
            3,
            id="applied twice",
        ),
    ],
)
def test_first_call_that_no_order_explains_is_named(history: list[Call], place: int) -> None:
    assert unexplained(history) is history[place]


def test_violation_says_what_was_under_way_and_what_there_could_have_been() -> None:
    slow, perhaps, stale = write("b", 3, 9), write("c", 4, None), read(None, 5, 6)

    initial: Any = (None,)
    violation = find_violation([write("a", 1, 2), slow, perhaps, stale], initial, step)

    assert violation is not None
    assert (violation.operation, violation.under_way) == (stale, [slow, perhaps])
    assert violation.states == [("a",)]


def test_search_that_grows_too_large_is_given_up() -> None:
    history = [write(number, number, None) for number in range(12)]

    with pytest.raises(UndecidedError, match="more than 1,000 configurations"):
        find_violation([*history, read("x", 20, 21)], (None,), step, most=1_000)


# -- against all orders -------------------------------------------------------------------------


@st.composite
def calls(draw: st.DrawFn) -> Call:
    """Any call of a small register, within a few moments."""
    values = st.sampled_from(["a", "b", None])
    invoked = draw(st.integers(0, 8))
    return Call(
        name := draw(st.sampled_from(["read", "write", "swap"])),
        invoked,
        draw(st.none() | st.integers(invoked, 9)),
        draw(values),
        draw(values),
        draw(st.booleans() if name == "swap" else values),
    )


@settings(max_examples=400)
@given(st.lists(calls(), max_size=5))
def test_checker_agrees_with_a_look_at_every_order(history: list[Call]) -> None:
    assert (unexplained(history) is None) is any(map(explains, orders(history)))


def orders(history: Sequence[Call]) -> Iterator[tuple[Call, ...]]:
    """Every order of the calls with a known end and any of the others."""
    ended = [call for call in history if call.returned is not None]
    perhaps = [call for call in history if call.returned is None]
    for number in range(len(perhaps) + 1):
        for some in itertools.combinations(perhaps, number):
            yield from itertools.permutations([*ended, *some])


def explains(order: Sequence[Call]) -> bool:
    """Whether no call comes before one that had ended earlier, and each has its result."""
    for earlier, later in itertools.combinations(order, 2):
        if later.returned is not None and later.returned < earlier.invoked:
            return False
    register: Any = (None,)
    for call in order:
        register = step(register, call)
        if register is None:
            return False
    return True
