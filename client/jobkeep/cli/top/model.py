"""What `jobkeep top` shows, and what each key does to it.

What lives here: `Top`, which takes samples and keys and is what the pages are drawn from. What may
not: drawing, the terminal, the daemon, the clock (times are arguments), so that all of it can be
tried without any of them.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence

from jobkeep.cli.top import keys
from jobkeep.cli.top.clients import ClientList
from jobkeep.cli.top.job import OpenJob
from jobkeep.cli.top.jobs import JobList
from jobkeep.cli.top.sample import Sample, Silence, Wanted


class Page(enum.Enum):
    """What fills the window."""

    JOBS = enum.auto()
    CLIENTS = enum.auto()
    JOB = enum.auto()
    HELP = enum.auto()


class Top:
    """The state of the screen. `has_quit` says that it is to be closed."""

    def __init__(self, statuses: Sequence[str] = (), stuck_after: float = 300.0) -> None:
        self.stuck_after = stuck_after
        self.jobs = JobList(statuses, stuck_after)
        self.clients = ClientList()
        self.opened: OpenJob | None = None
        self.sample: Sample | None = None
        """The newest that is shown."""
        self.silence: Silence | None = None
        """Since when the daemon does not answer; None while it does."""
        self.is_frozen = False
        self.is_typing = False
        self.has_quit = False
        self._list_page = Page.JOBS
        self._helps = False

    @property
    def page(self) -> Page:
        """What fills the window now."""
        if self._helps:
            return Page.HELP
        return self._list_page if self.opened is None else Page.JOB

    @property
    def wanted(self) -> Wanted:
        """What the next sample should have."""
        return Wanted(
            statuses=self.jobs.statuses,
            visible=tuple(self.jobs.cursor.visible),
            clients=self._list_page is Page.CLIENTS,
            opened=None if self.opened is None else self.opened.job_id,
        )

    def take(self, sample: Sample | Silence) -> None:
        """The daemon was read, or could not be."""
        if isinstance(sample, Silence):
            began = sample.at if self.silence is None else self.silence.at
            self.silence = Silence(began, sample.reason)
            return
        self.silence = None
        if not self.is_frozen or self.sample is None:
            self.sample = sample
            self.jobs.take(sample)
            self.clients.take(sample)
        if (
            self.opened is not None
            and sample.opened is not None
            and not (self.is_frozen and self.opened.read)
        ):
            self.opened.take(sample.opened)

    def press(self, key: str) -> None:
        """Do what a key does here; keys that do nothing here do nothing."""
        if self._helps:
            self._helps = False
        elif self.is_typing:
            self._type(key)
        elif not self._move(key) and key in self._actions:
            self._actions[key]()

    def _type(self, key: str) -> None:
        if key == keys.ENTER:
            self.is_typing = False
        elif key == keys.ESCAPE:
            self.is_typing = False
            self.jobs.filter("")
        elif key == keys.BACKSPACE:
            self.jobs.filter(self.jobs.text[:-1])
        elif len(key) == 1:
            self.jobs.filter(self.jobs.text + key)
        else:
            self._move(key)

    def _move(self, key: str) -> bool:
        if self.opened is not None:
            return self.opened.press(key)
        if self._list_page is Page.CLIENTS:
            return self.clients.cursor.press(key)
        return self.jobs.cursor.press(key)

    @property
    def _actions(self) -> dict[str, Callable[[], None]]:
        common = {"?": self._help, " ": self._freeze}
        if self.opened is not None:
            return common | {
                keys.TAB: self.opened.switch_focus,
                keys.ESCAPE: self._close,
                "q": self._close,
            }
        common |= {"q": self._quit, "c": self._switch}
        if self._list_page is Page.CLIENTS:
            return common | {keys.ESCAPE: self._switch}
        return common | {
            keys.ENTER: self._open,
            keys.ESCAPE: self._clear,
            "s": self.jobs.next_order,
            "r": self.jobs.reverse,
            "f": self.jobs.next_statuses,
            "/": self._begin_typing,
        }

    def _open(self) -> None:
        if (selected := self.jobs.cursor.selected) is not None:
            self.opened = OpenJob(selected)

    def _close(self) -> None:
        self.opened = None

    def _switch(self) -> None:
        self._list_page = Page.JOBS if self._list_page is Page.CLIENTS else Page.CLIENTS

    def _clear(self) -> None:
        self.jobs.filter("")

    def _begin_typing(self) -> None:
        self.is_typing = True

    def _freeze(self) -> None:
        self.is_frozen = not self.is_frozen

    def _help(self) -> None:
        self._helps = True

    def _quit(self) -> None:
        self.has_quit = True
