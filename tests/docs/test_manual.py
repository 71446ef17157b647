"""The manual pages that `make install` puts in place have every flag, and roff understands them."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from install.manual import PAGES
from jobkeep.cli.app import COMMANDS
from tests.docs.test_names import flags_of


def plain(name: str) -> str:
    """A page without the marks of roff."""
    return re.sub(r"\\f[BR]", "", PAGES[name]().replace(r"\-", "-"))


def flags_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[A-Za-z0-9][a-z-]*", text))


def test_page_of_the_daemon_has_every_flag() -> None:
    assert flags_of("jobkeepd") <= flags_in(plain("jobkeepd"))


@pytest.mark.parametrize("command", COMMANDS)
def test_page_of_the_client_has_every_command_with_every_flag(command: str) -> None:
    _, found, rest = plain("jobkeep").partition(f".SS jobkeep {command} ")
    section = re.split(r"^\.S[SH] ", rest, flags=re.MULTILINE)[0]

    assert found
    assert flags_of("jobkeep.cli", command) <= flags_in(section)


@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff to format pages")
@pytest.mark.parametrize("name", PAGES)
def test_page_is_understood_by_roff(name: str) -> None:
    finished = subprocess.run(
        ["groff", "-man", "-Tascii", "-ww", "-z"],  # noqa: S607 # that of this machine
        input=PAGES[name](),
        capture_output=True,
        text=True,
        check=True,
    )
    assert finished.stderr == ""
