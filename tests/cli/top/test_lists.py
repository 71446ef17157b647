"""Being somewhere in a list that changes, and how fast counters grow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobkeep.cli.top import keys
from jobkeep.cli.top.cursor import Cursor, Scroll
from jobkeep.cli.top.rates import Rates

MOVES = [keys.UP, keys.DOWN, keys.PAGE_UP, keys.PAGE_DOWN, keys.HOME, keys.END]


@given(
    st.lists(
        st.one_of(
            st.sampled_from(MOVES),
            st.integers(0, 12),  # the window has another height
            st.lists(st.integers(0, 20), unique=True),  # the list has other entries
        )
    )
)
def test_the_selected_entry_is_in_the_window_whatever_happens(
    steps: list[str | int | list[int]],
) -> None:
    cursor: Cursor[int] = Cursor()
    height = 3
    for step in steps:
        if isinstance(step, str):
            assert cursor.press(step)
        elif isinstance(step, int):
            height = step
        else:
            cursor.show(step)
        window = cursor.window(height)
        assert len(window) <= height
        if height and cursor.selected is not None:
            assert cursor.selected in cursor.visible
            assert len(cursor.visible) == len(window)


def test_a_selected_entry_stays_selected_where_ever_it_goes() -> None:
    cursor: Cursor[str] = Cursor()
    cursor.show(["a", "b", "c"])
    cursor.press(keys.DOWN)

    cursor.show(["b", "c", "a"])
    assert cursor.selected == "b"
    cursor.show(["c", "a", "b"])
    assert cursor.selected == "b"


def test_who_has_not_moved_goes_on_seeing_what_comes_first() -> None:
    cursor: Cursor[str] = Cursor()
    cursor.show(["a", "b", "c"])
    cursor.show(["c", "a", "b"])
    assert cursor.selected == "c"

    cursor.press(keys.END)
    cursor.press(keys.HOME)
    cursor.show(["b", "c", "a"])
    assert cursor.selected == "b"


def test_an_entry_that_is_gone_leaves_the_next_one_selected() -> None:
    cursor: Cursor[str] = Cursor()
    cursor.show(["a", "b", "c"])
    cursor.press(keys.DOWN)

    cursor.show(["a", "c"])
    assert cursor.selected == "c"
    cursor.show(["a"])
    assert cursor.selected == "a"
    cursor.show([])
    assert cursor.selected is None


def test_a_page_is_what_the_window_shows() -> None:
    cursor: Cursor[int] = Cursor()
    cursor.show(range(1, 101))
    cursor.window(10)

    cursor.press(keys.PAGE_DOWN)
    assert cursor.selected == 11
    assert list(cursor.window(10)) == list(range(1, 11))
    cursor.press(keys.END)
    assert (cursor.selected, cursor.window(10).stop) == (100, 100)


def test_lines_without_a_cursor_scroll_no_further_than_their_ends() -> None:
    scroll = Scroll()
    scroll.set_count(25)
    assert scroll.window(10) == range(10)

    scroll.press(keys.PAGE_DOWN)
    assert scroll.window(10) == range(10, 20)
    scroll.press(keys.END)
    assert scroll.window(10) == range(15, 25)
    scroll.press(keys.UP)
    assert scroll.window(10) == range(14, 24)
    scroll.set_count(3)
    assert scroll.window(10) == range(3)


def test_a_rate_is_over_the_window_and_not_over_what_was_before() -> None:
    rates: Rates[str] = Rates(window=60)
    rates.sample(0, {"job": 0})
    assert rates.per_second("job") is None

    rates.sample(10, {"job": 5})
    assert rates.per_second("job") == 0.5
    for second in range(11, 131):
        rates.sample(second, {"job": 5 + 2 * (second - 10)})
    assert rates.per_second("job") == 2


def test_a_counter_that_stands_still_slows_down_to_nothing() -> None:
    rates: Rates[str] = Rates(window=60)
    rates.sample(0, {"job": 0})
    rates.sample(10, {"job": 10})
    rates.sample(20, {"job": 10})
    assert rates.per_second("job") == 0.5

    rates.sample(100, {"job": 10})
    assert rates.per_second("job") == 0


def test_a_counter_that_has_become_less_begins_anew() -> None:
    rates: Rates[str] = Rates(window=60)
    rates.sample(0, {"job": 100})
    rates.sample(10, {"job": 2})
    assert rates.per_second("job") is None

    rates.sample(20, {"job": 4})
    assert rates.per_second("job") == 0.2
    assert rates.per_second("other") is None
