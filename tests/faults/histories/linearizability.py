"""Whether one order explains what was seen: a checker of linearizability.

What lives here: the search. What may not: what operations mean (that is a model, given as `step`).

A history is linearizable when each operation can be given one moment between its beginning and its
end at which it happened as a whole, such that, one after the other, all of them give the results
that were seen (Herlihy and Wing, "Linearizability: a correctness condition for concurrent
objects", 1990). An operation whose end is not known may have its moment at any time after its
beginning, or none. Objects can be looked at one by one: a history is linearizable when that of
each object is (theorem 1 there).

The search is that of Wing and Gong ("Testing and verifying concurrent objects", 1993) as Lowe
improved it ("Testing for linearizability", 2017): each operation is put in order as late as
possible, that is when one that ends now, itself or another, needs it; and what is left to search is
known by the set of operations under way that are in order already, and the state after them, so
that no such pair is looked at twice. All pairs are carried along from event to event, so the
operation at which the last of them fails is the first that nothing explains.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

MOST_CONFIGURATIONS = 100_000
"""As many as are looked at for one event before the search is given up."""


class Interval(Protocol):
    """What is to be put in order: when it began and when it ended, if that is known."""

    @property
    def invoked(self) -> int: ...

    @property
    def returned(self) -> int | None: ...


StateT = TypeVar("StateT", bound=Hashable)
OperationT = TypeVar("OperationT", bound=Interval)


class Violation(Struct, Generic[StateT, OperationT]):
    """The first operation that no order explains. `under_way` are those that began before its end
    and were not over at its beginning, and `states` what there could have been before its end."""

    operation: OperationT
    under_way: list[OperationT]
    states: list[StateT]


class UndecidedError(Exception):
    """The search was given up."""


Configuration = tuple[frozenset[int], StateT]
"""The operations under way that are in order already, and the state after them."""


def find_violation(
    history: Sequence[OperationT],
    initial: StateT,
    step: Callable[[StateT, OperationT], StateT | None],
    most: int = MOST_CONFIGURATIONS,
) -> Violation[StateT, OperationT] | None:
    """Check a history; None when it is linearizable.

    `step` gives the state after an operation, None when it could not have had its result in this
    state. Raises UndecidedError.
    """
    configurations: set[Configuration[StateT]] = {(frozenset(), initial)}
    under_way: set[int] = set()
    for number, is_end in _events(history):
        if not is_end:
            under_way.add(number)
            continue
        following = _order(number, configurations, under_way, history, step, most)
        if not following:
            states = {state for _, state in configurations}
            return Violation(
                history[number],
                [history[other] for other in sorted(under_way - {number})],
                list(states),
            )
        under_way.remove(number)
        configurations = following
    return None


def _events(history: Sequence[Interval]) -> Iterable[tuple[int, bool]]:
    """The beginnings and the known ends in the order of time, beginnings first."""
    begins = [(one.invoked, False, number) for number, one in enumerate(history)]
    ends = [
        (one.returned, True, number)
        for number, one in enumerate(history)
        if one.returned is not None
    ]
    return [(number, is_end) for _, is_end, number in sorted(begins + ends)]


def _order(
    ending: int,
    configurations: set[Configuration[StateT]],
    under_way: set[int],
    history: Sequence[OperationT],
    step: Callable[[StateT, OperationT], StateT | None],
    most: int,
) -> set[Configuration[StateT]]:
    """What there can be once `ending` is in order: put any others before it that are under way."""
    found: set[Configuration[StateT]] = set()
    seen = set(configurations)
    to_extend = list(configurations)
    while to_extend:
        ordered, state = to_extend.pop()
        if ending in ordered:
            found.add((ordered - {ending}, state))
            continue
        for number in under_way - ordered:
            after = step(state, history[number])
            if after is None:
                continue
            extended = (ordered | {number}, after)
            if extended not in seen:
                seen.add(extended)
                to_extend.append(extended)
        if len(seen) > most:
            raise UndecidedError(f"more than {most:,} configurations at {history[ending]}")
    return found
