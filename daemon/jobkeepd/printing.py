"""What `jobkeepd` prints for those who install it: its units, and a configuration to begin with.

What lives here: the texts of --print-unit and --print-config. What may not: the units themselves,
which are files in `units`, and the settings (that is `settings`).
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobkeep_protocol.errors import InvalidRequest
from jobkeepd.settings import RELOADABLE, default_of, description_of, names_of_settings

UNITS = Path(__file__).parent / "units"
GROUPS = {
    "system": ("system/jobkeep.service", "system/jobkeep.socket"),
    "user": ("user/jobkeep.service", "user/jobkeep.socket"),
}
"""What is printed together."""

FILES = (*GROUPS["system"], *GROUPS["user"], "sysusers.conf", "tmpfiles.conf")

HOMES = ("/home", "/root", "/run/user")
"""What ProtectHome= hides (systemd.exec(5))."""

WIDTH = 96


def text_of(option: str, value: Any) -> str:
    """What an option prints. Raises InvalidRequest for a value that is none of its own."""
    texts: dict[str, Callable[[], str]] = {
        "--print-unit": lambda: units(value),
        "--print-config": sample_configuration,
    }
    return texts[option]()


def units(name: str) -> str:
    """One file as it is to be installed, or all of a group, each after a line with its name, as
    `systemctl cat` has it.

    Raises InvalidRequest for an unknown name, and for a system service that could not start.
    """
    if name not in (*GROUPS, *FILES):
        raise InvalidRequest(f"--print-unit is {name!r}; expected {', '.join((*GROUPS, *FILES))}")
    if name in GROUPS:
        return "\n".join(f"# {one}\n{units(one)}" for one in GROUPS[name])
    directory = directory_of_command()
    if name.startswith("system/") and any(directory.is_relative_to(one) for one in HOMES):
        raise InvalidRequest(
            f"--print-unit: this jobkeepd is in {directory}, which a system service cannot see "
            "(ProtectHome=); install jobkeep elsewhere, in /opt/jobkeep for instance, or print the "
            "units of a user"
        )
    text = (UNITS / name).read_text(encoding="utf-8")
    return text.replace("@BINDIR@", str(directory))


def directory_of_command() -> Path:
    """Where the `jobkeepd` is that this process runs, or that is beside its interpreter."""
    command = Path(sys.argv[0])
    if command.name == "jobkeepd":
        return command.absolute().parent
    return Path(sys.executable).parent


def sample_configuration() -> str:
    """A configuration file in which every setting is a comment with its default."""
    lines = [
        "# Settings of jobkeepd, each with its default, for /etc/jobkeep/jobkeepd.toml or",
        "# ~/.config/jobkeep/jobkeepd.toml. Flags and variables of the same names come before it.",
        "# What is marked with [reload] is read again on `systemctl reload jobkeep` or SIGHUP, the",
        "# rest at the start only. See jobkeepd(8).",
    ]
    for name in names_of_settings():
        mark = " [reload]" if name in RELOADABLE else ""
        text = f"{description_of(name)}{mark}"
        lines += ["", *(f"# {line}" for line in textwrap.wrap(text, WIDTH))]
        lines.append(f"#{name} = {json.dumps(default_of(name))}")
    return "\n".join(lines) + "\n"
