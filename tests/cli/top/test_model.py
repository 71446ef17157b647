"""What is shown of jobs and clients, and what keys do to it."""

from __future__ import annotations

import pytest

from jobkeep import CheckpointState
from jobkeep.cli.top import keys
from jobkeep.cli.top.jobs import STUCK
from jobkeep.cli.top.model import Page, Top
from jobkeep.cli.top.sample import Silence
from jobkeep_protocol.backend import JobSummary
from tests.cli.top.samples import STUCK_AFTER, client, job, opened, sample


def top_with(*jobs: JobSummary, statuses: tuple[str, ...] = ()) -> Top:
    """A screen that has read these jobs and has a window for three."""
    top = Top(statuses, STUCK_AFTER)
    top.take(sample(*jobs))
    top.jobs.cursor.window(3)
    return top


def press(top: Top, *pressed: str) -> None:
    for key in pressed:
        top.press(key)


# -- jobs -------------------------------------------------------------------------------------


def test_a_running_job_in_which_nothing_changes_is_stuck() -> None:
    top = top_with(
        job("busy", changed=STUCK_AFTER - 1),
        job("hangs", changed=STUCK_AFTER),
        job("done", status="completed", changed=9 * STUCK_AFTER),
    )
    labels = {job_id: row.label for job_id, row in top.jobs.rows.items()}
    assert labels == {"busy": "running", "hangs": STUCK, "done": "completed"}
    assert top.jobs.stuck == 1


def test_rates_and_what_is_left_come_from_samples() -> None:
    top = top_with(job("job", done=10, total=100))
    assert top.jobs.rows["job"].per_second is None

    top.take(sample(job("job", done=30, total=100), at=10))
    row = top.jobs.rows["job"]
    assert (row.per_second, row.left_seconds) == (2.0, 35.0)


JOBS = (
    job("c", done=5, changed=400, name="alpha"),
    job("a", done=9, changed=20, status="failed", name="Gamma"),
    job("b", done=1, changed=10, name="beta"),
    job("d", done=10, changed=30, status="completed", name="delta"),
)


@pytest.mark.parametrize(
    ("order", "shown"),
    [
        ("updated", ["b", "a", "d", "c"]),
        ("name", ["a", "b", "c", "d"]),
        ("progress", ["d", "a", "c", "b"]),
        ("rate", ["b", "a", "d", "c"]),
        ("status", ["c", "b", "a", "d"]),
        ("stuck first", ["c", "b", "a", "d"]),
    ],
)
def test_jobs_are_sorted_by(order: str, shown: list[str]) -> None:
    top = top_with(*JOBS)
    while top.jobs.order != order:
        press(top, "s")
    assert top.jobs.shown == shown

    press(top, "r")
    assert top.jobs.shown == shown[::-1]


def test_the_fastest_job_comes_first_when_sorted_by_rate() -> None:
    top = top_with(job("slow", total=100), job("fast", total=100))
    top.take(sample(job("slow", 1, 100), job("fast", 9, 100), at=10))
    press(top, "s", "s", "s")
    assert (top.jobs.order, top.jobs.shown) == ("rate", ["fast", "slow"])


def test_a_filter_is_looked_for_in_ids_and_names_while_it_is_typed() -> None:
    top = top_with(*JOBS)
    press(top, "/", "A", "m")
    assert (top.is_typing, top.jobs.shown) == (True, ["a"])
    press(top, keys.BACKSPACE, "l")
    assert top.jobs.shown == ["c"]

    press(top, keys.ENTER)
    assert (top.is_typing, top.jobs.text, top.jobs.shown) == (False, "Al", ["c"])
    press(top, keys.ESCAPE)
    assert (top.jobs.text, len(top.jobs.shown)) == ("", 4)


def test_letters_of_a_filter_are_no_keys_and_escape_clears_it() -> None:
    top = top_with(*JOBS)
    press(top, "/", "q", "s", "?", " ", keys.ESCAPE)
    assert (top.has_quit, top.page, top.is_typing, top.jobs.text) == (False, Page.JOBS, False, "")
    assert (top.jobs.order, top.is_frozen) == ("updated", False)


def test_a_status_is_asked_for_from_the_daemon_and_shown_at_once() -> None:
    top = top_with(*JOBS, statuses=("failed", "paused"))
    assert (top.wanted.statuses, top.jobs.shown) == (("failed", "paused"), ["a"])

    press(top, "f")
    assert (top.wanted.statuses, len(top.jobs.shown)) == ((), 4)
    press(top, "f")
    assert (top.wanted.statuses, top.jobs.shown) == (("running",), ["b", "c"])


def test_details_are_wanted_of_the_jobs_in_the_window_only() -> None:
    top = top_with(*JOBS)
    assert top.wanted.visible == ("b", "a", "d")

    press(top, keys.END)
    top.jobs.cursor.window(3)
    assert top.wanted.visible == ("a", "d", "c")


# -- a job ------------------------------------------------------------------------------------


def test_enter_opens_the_selected_job_and_escape_goes_back_to_it() -> None:
    top = top_with(*JOBS)
    press(top, keys.DOWN, keys.ENTER)
    assert (top.page, top.wanted.opened) == (Page.JOB, "a")

    press(top, keys.ESCAPE)
    assert (top.page, top.wanted.opened) == (Page.JOBS, None)
    assert top.jobs.cursor.selected == "a"
    press(top, keys.ENTER, "q")
    assert (top.page, top.has_quit) == (Page.JOBS, False)


def test_an_opened_job_begins_where_the_work_is_and_stays_where_one_goes() -> None:
    state = CheckpointState(job_id="job", total_sheets=500)
    state.mark_sheet_started(240)
    top = top_with(job("job"))
    press(top, keys.ENTER)
    assert top.opened is not None

    top.take(sample(job("job"), opened=opened(state)))
    assert top.opened.sheets.selected == 240
    assert top.opened.sheet(240).status == "in_progress"
    assert top.opened.sheet(500).status == "pending"
    press(top, keys.HOME)
    top.take(sample(job("job"), opened=opened(state)))
    assert top.opened.sheets.selected == 1


def test_tab_moves_between_the_sheets_and_the_outputs() -> None:
    state = CheckpointState(job_id="job", total_sheets=5)
    top = top_with(job("job"))
    press(top, keys.ENTER)
    assert top.opened is not None
    top.take(sample(job("job"), opened=opened(state, "output")))
    top.opened.outputs.set_count(100)
    top.opened.outputs.window(10)

    press(top, keys.TAB, keys.DOWN)
    assert (top.opened.sheets.selected, top.opened.outputs.window(10).start) == (1, 1)
    press(top, keys.TAB, keys.DOWN)
    assert (top.opened.sheets.selected, top.opened.outputs.window(10).start) == (2, 1)


def test_the_answer_about_a_job_that_was_left_does_not_fill_the_next_one() -> None:
    top = top_with(job("one"), job("two"))
    press(top, keys.ENTER, keys.ESCAPE, keys.DOWN, keys.ENTER)
    assert top.opened is not None

    late = opened(CheckpointState(job_id="one", total_sheets=1), job_id="one")
    top.take(sample(job("one"), job("two"), opened=late))
    assert (top.opened.job_id, top.opened.read) == ("two", None)


# -- clients, and the whole -------------------------------------------------------------------


def test_clients_are_read_while_they_are_shown_and_the_busiest_come_first() -> None:
    top = top_with(*JOBS)
    assert not top.wanted.clients
    press(top, "c")
    assert (top.page, top.wanted.clients) == (Page.CLIENTS, True)

    top.take(sample(clients=[client(1, 10), client(2, 10)], users={0: "root"}))
    top.take(sample(clients=[client(1, 12), client(2, 30)], users={0: "root"}, at=2))
    rates = [(row.client.connection_id, row.per_second) for row in top.clients.rows.values()]
    assert rates == [(2, 10.0), (1, 1.0)]
    press(top, "c")
    assert top.page is Page.JOBS


def test_without_an_answer_the_last_picture_stays_and_goes_on_with_the_next_one() -> None:
    top = top_with(*JOBS)
    top.take(Silence(5.0, "no daemon answers"))
    top.take(Silence(7.0, "no daemon answers yet"))
    silence, expected = top.silence, Silence(5.0, "no daemon answers yet")
    assert silence == expected
    assert len(top.jobs.shown) == 4

    top.take(sample(job("new"), at=9))
    assert top.silence is None
    assert top.jobs.shown == ["new"]


def test_a_frozen_picture_stays_but_a_job_can_be_opened_in_it() -> None:
    top = top_with(job("job"))
    press(top, " ")
    top.take(sample(job("job"), job("new"), at=1))
    assert top.jobs.shown == ["job"]

    press(top, keys.ENTER)
    first = opened(CheckpointState(job_id="job", total_sheets=1))
    top.take(sample(job("job"), opened=first, at=2))
    top.take(sample(job("job"), opened=opened(None), at=3))
    assert top.opened is not None
    assert top.opened.read == first
    press(top, keys.ESCAPE, " ")
    top.take(sample(job("job"), job("new"), at=4))
    assert top.jobs.shown == ["job", "new"]


def test_any_key_leaves_the_help_and_does_nothing_else() -> None:
    top = top_with(*JOBS)
    press(top, "?")
    assert top.page is Page.HELP
    press(top, "q")
    assert (top.page, top.has_quit) == (Page.JOBS, False)
    press(top, "q")
    assert top.has_quit
