"""The window at any size, and what may not get into it."""

from __future__ import annotations

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from jobkeep import CheckpointState
from jobkeep.cli.top import keys
from jobkeep.cli.top.model import Top
from jobkeep.cli.top.sample import JobDetail, OpenedJob, Silence
from jobkeep.cli.top.screen import screen
from jobkeep_protocol.messages import Worry
from tests.cli.top.samples import (
    NOW,
    STUCK_AFTER,
    client,
    daemon_status,
    job,
    opened,
    sample,
)

COLOUR = re.compile("\x1b\\[[0-9;]*m")
HOSTILE = "\x1b[2J\nline\r\u202ebidi\x07"
JOBS = (
    job("nightly", done=3, changed=2),
    job("hangs", done=1, changed=400),
    job("import", status="failed", changed=60, error="no space left"),
    job("日本語のジョブ" * 9, done=10, status="completed", changed=90),
    job(HOSTILE, name=HOSTILE, status="failed", changed=100, error=HOSTILE),
)


def shown(top: Top, width: int = 160, height: int = 30, at: float = 0.0) -> list[str]:
    """The lines of the window, without their colours."""
    out = io.StringIO()
    console = Console(
        file=out, width=width, height=height, force_terminal=True, color_system="standard"
    )
    console.print(screen(top, at, width, height))
    return COLOUR.sub("", out.getvalue()).split("\n")[:-1]


@pytest.fixture
def top() -> Top:
    """A screen with jobs of all kinds."""
    top = Top((), STUCK_AFTER)
    details = {
        "nightly": JobDetail(4711, True, 2, (4, 5, 6)),
        "hangs": JobDetail(4712, False, 0, (2,)),
    }
    top.take(sample(*JOBS, details=details, clients=[client(1, 10)], users={0: "root"}))
    return top


def line_with(text: str, lines: list[str]) -> str:
    return next(line for line in lines if text in line)


def test_the_head_says_how_the_daemon_and_the_jobs_are(top: Top) -> None:
    first, second, *_ = shown(top)
    for text in ("jobkeepd 1.2.3", "up 1 h", "2 clients", "0 queued", "1,234 writes/s"):
        assert text in first
    assert "0.5 commits/s" in first
    for text in ("5 jobs:", "1 STUCK", "2 running", "2 failed", "1 completed"):
        assert text in second


def test_a_job_has_a_line(top: Top) -> None:
    lines = shown(top)
    nightly, hangs = line_with("nightly", lines), line_with("hangs", lines)
    for text in ("running", "━━━───────", "3/10", "30%", "4 +2", "2 s", "4711 alive"):
        assert text in nightly
    for text in ("STUCK", "1/10", "6 min 40 s", "4712 GONE"):
        assert text in hangs
    assert "no space left" in line_with("import", lines)


def test_a_worry_of_the_daemon_is_shown_with_what_to_do(top: Top) -> None:
    status = daemon_status(JOBS, [Worry("the log is large", "end long reads")])
    top.take(sample(*JOBS, status=status))
    assert "! the log is large; end long reads" in shown(top)[2]

    status = daemon_status(JOBS, [Worry("the log is large", "end long reads")] * 3)
    top.take(sample(*JOBS, status=status))
    assert "end long reads (of 3: `jobkeep status`)" in shown(top)[2]


def test_a_daemon_without_an_answer_is_told_above_the_last_picture(top: Top) -> None:
    top.take(Silence(10.0, f"no daemon answers; {'start one ' * 20}with `jobkeepd`"))
    lines = shown(top, width=80, at=22.5)
    assert lines[2].startswith("NO ANSWER (12 s): no daemon answers; start one")
    assert "with `jobkeepd`" in "".join(lines[3:6])
    assert "nightly" in "".join(lines)


@pytest.mark.parametrize("page", ["jobs", "clients", "job", "job outputs", "help", "typing"])
@pytest.mark.parametrize("silent", [False, True])
def test_every_page_fits_every_window_exactly(top: Top, page: str, silent: bool) -> None:
    pressed = {
        "jobs": [],
        "clients": ["c"],
        "job": [keys.ENTER],
        "job outputs": [keys.ENTER, keys.TAB],
        "help": ["?"],
        "typing": ["/", *"日本"],
    }
    for key in pressed[page]:
        top.press(key)
    state = CheckpointState(job_id="nightly", total_sheets=70, error_message=HOSTILE)
    state.mark_sheet_started(40)
    state.mark_sheet_failed(40, HOSTILE)
    top.take(sample(*JOBS, opened=opened(state, "long " * 90, HOSTILE, job_id="nightly")))
    if silent:
        top.take(Silence(0.0, "no daemon answers " * 9))

    for width, height in ((200, 60), (100, 30), (80, 24), (40, 10), (21, 5), (7, 3), (1, 1)):
        lines = shown(top, width, height)
        assert len(lines) == height, (width, height)
        assert max(map(cell_len, lines)) <= width, (width, height)
        for text in ("\x1b", "\r", "\x07", "\u202e"):
            assert text not in "".join(lines), (width, height)


def test_a_narrow_window_keeps_what_tells_jobs_apart(top: Top) -> None:
    lines = shown(top, width=40, height=12)
    assert re.search(r"hangs +STUCK +1/10 +10%", line_with("hangs", lines))
    assert "ERROR" not in "".join(lines)


def test_a_text_of_a_job_is_written_out_where_a_terminal_would_act_upon_it(top: Top) -> None:
    assert "\\x1b[2J\\nline\\r\\u202ebidi\\x07" in line_with("bidi", shown(top))


def test_an_opened_job_shows_its_sheets_and_its_last_outputs(top: Top) -> None:
    state = CheckpointState(job_id="nightly", job_name="Every night", total_sheets=3)
    state.mark_sheet_started(1)
    state.mark_sheet_failed(1, "no space left", exit_code=28, execution_duration_seconds=1.5)
    top.press(keys.ENTER)
    assert "it is being read" in "".join(shown(top))

    read = opened(state, "newest\r\nof two", "older", job_id="nightly")
    top.take(sample(*JOBS, opened=read))
    lines = shown(top)
    text = "\n".join(lines)
    assert "nightly  Every night" in text
    assert re.search(r"1 +failed +1 +1\.5 s +28 +no space left", text)
    assert re.search(r"3 +pending +0 +- +- +-", text)
    places = [next(n for n, line in enumerate(lines) if line.startswith(text))
              for text in ("newest", "of two", "older")]  # fmt: skip
    assert places == sorted(places)
    top.take(sample(*JOBS, opened=opened(None, job_id="nightly")))
    assert "it is not kept any more" in "\n".join(shown(top))


@pytest.mark.parametrize("state", [None, CheckpointState(job_id="nightly", total_sheets=3)])
def test_an_opened_job_that_cannot_be_read_says_why(
    top: Top, state: CheckpointState | None
) -> None:
    top.press(keys.ENTER)
    read = OpenedJob("nightly", state, trouble="it changed while it was read")
    top.take(sample(*JOBS, opened=read))

    text = "\n".join(shown(top))
    assert "it changed while it was read" in text
    assert "not kept" not in text


def test_clients_have_a_line_each(top: Top) -> None:
    top.press("c")
    line = line_with("python", shown(top))
    for text in ("1001", "root", "load", "2 s", "jobkeep-python 1.2.3"):
        assert text in line


def test_the_time_of_what_is_shown_is_in_the_head(top: Top) -> None:
    assert f"{NOW:%H:%M:%S}" in shown(top)[0]
