"""The whole window, at any size.

What lives here: how the head, a page and the last line share the window. What may not: what is in
them.
"""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Group
from rich.text import Text

from jobkeep.cli.top.clients_page import clients_lines
from jobkeep.cli.top.head import foot, head
from jobkeep.cli.top.help_page import help_lines
from jobkeep.cli.top.job_page import job_lines
from jobkeep.cli.top.jobs_page import jobs_lines
from jobkeep.cli.top.model import Page, Top

LEAST_BODY = 3
"""Lines that the page has before the head gets any."""


def screen(top: Top, at: float, width: int, height: int) -> Group:
    """What fills a window of this size, at this moment of the monotonic clock."""
    above = head(top, at, width)[: max(0, height - 1 - LEAST_BODY)]
    left = max(0, height - 1 - len(above))
    body = _page(top, width, left)[:left]
    body += [Text()] * (left - len(body))
    lines = [*above, *body, foot(top)]
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(*lines)


def _page(top: Top, width: int, height: int) -> list[Text]:
    pages: dict[Page, Callable[[], list[Text]]] = {
        Page.JOBS: lambda: jobs_lines(top.jobs, width, height),
        Page.CLIENTS: lambda: clients_lines(top.clients, width, height),
        Page.HELP: lambda: help_lines(top.stuck_after),
        Page.JOB: lambda: _job(top, width, height),
    }
    return pages[top.page]()


def _job(top: Top, width: int, height: int) -> list[Text]:
    if top.opened is None:
        return []
    now = None if top.sample is None else top.sample.now
    return job_lines(top.opened, now, width, height)
