"""A terminal as a person has one: a shell in a window of tmux, keys that are typed, and a look.

What lives here: helpers without fixtures. What may not: assertions about what programs show.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import psutil

from tests.support import wait_until

PROMPT = "ready> "

MISSING = [command for command in ("tmux", "bash", "stty") if shutil.which(command) is None]


class Window:
    """A window of a tmux server of its own, with bash in it."""

    def __init__(self, environment: Mapping[str, str], columns: int, lines: int) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="jobkeep-tmux-")
        self._server = ("tmux", "-S", str(Path(self._directory.name) / "s"), "-f", os.devnull, "-u")
        # The variables of a terminal that the tests are run in are not those of this one.
        kept = {
            name: value for name, value in os.environ.items() if name not in {"TMUX", "NO_COLOR"}
        }
        subprocess.run(
            [
                *self._server,
                *("new-session", "-d", "-x", str(columns), "-y", str(lines)),
                *("bash", "--noprofile", "--norc", "-i"),
            ],
            env={**kept, **environment, "PS1": PROMPT, "HISTFILE": ""},
            check=True,
        )
        self.wait_for(PROMPT.strip())

    @property
    def text(self) -> str:
        """What is on the screen."""
        return self._tmux("capture-pane", "-p")

    @property
    def cursor_is_visible(self) -> bool:
        """Whether the terminal shows its cursor."""
        return self._tmux("display-message", "-p", "#{cursor_flag}").strip() == "1"

    @property
    def is_on_alternate_screen(self) -> bool:
        """Whether a program has the window to itself."""
        return self._tmux("display-message", "-p", "#{alternate_on}").strip() == "1"

    @property
    def program(self) -> int:
        """The process that the shell has started."""
        (child,) = psutil.Process(
            int(self._tmux("display-message", "-p", "#{pane_pid}"))
        ).children()
        return child.pid

    def type(self, *keys: str) -> None:
        """Press keys, by their names in tmux."""
        self._tmux("send-keys", *keys)

    def enter(self, line: str) -> None:
        """Type a line to the shell."""
        self._tmux("send-keys", "-l", line)
        self._tmux("send-keys", "Enter")

    def resize(self, columns: int, lines: int) -> None:
        """Make the window as large as this."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def wait_for(self, pattern: str) -> None:
        """Wait until the screen has what this regular expression describes."""

        def is_there() -> bool:
            return re.search(pattern, self.text, re.MULTILINE) is not None

        try:
            wait_until(is_there)
        except AssertionError as error:
            raise AssertionError(f"{pattern!r} is not on the screen:\n{self.text}") from error

    def wait_until_gone(self, pattern: str) -> None:
        """Wait until the screen has nothing that this regular expression describes."""
        wait_until(lambda: re.search(pattern, self.text, re.MULTILINE) is None)

    def close(self) -> None:
        """End the server, and with it all that runs in the window."""
        self._tmux("kill-server")
        self._directory.cleanup()

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run([*self._server, *arguments], capture_output=True, check=True)
        return done.stdout.decode()
