"""What the pages name exists: files, modules, commands and their flags."""

from __future__ import annotations

import pydoc
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from jobkeep.cli.app import COMMANDS
from tests.docs.pages import PAGES, ROOT, anchors, code_spans, links, read, table

README = ROOT / "README.md"
TOP_FOLDERS = (
    "protocol/",
    "client/",
    "daemon/",
    "tests/",
    "docs/",
    "bench/",
    "examples/",
    "install/",
)

OTHER_FLAGS = {
    *("--create", "--now", "--priority", "--since", "--unit", "--user"),
    *("--get", "--ppid", "--uds"),
}
"""Of systemd, as docs/operations.md shows it; of ps and Datasette, in docs/inspection.md."""

_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_PYTHON_NAME = re.compile(r"(?:jobkeep|jobkeepd|jobkeep_protocol)(?:\.\w+)+")


@cache
def flags_of(*command: str) -> frozenset[str]:
    """The flags that the help of a command names."""
    text = subprocess.run(
        [sys.executable, "-m", *command, "--help"], capture_output=True, text=True, check=True
    ).stdout
    return frozenset(re.findall(r"(?<![\w-])--?[A-Za-z0-9][a-z-]*", text))


def each_page_and(find: Callable[[Path], list[str]]) -> list[tuple[Path, str]]:
    return [(page, one) for page in PAGES for one in dict.fromkeys(find(page))]


def label(value: Path | str) -> str:
    return value.name if isinstance(value, Path) else value


@pytest.mark.parametrize(("page", "link"), each_page_and(links), ids=label)
def test_a_link_leads_somewhere(page: Path, link: str) -> None:
    if link.startswith(("https://", "http://")):
        return
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page

    assert target.is_file()
    assert target.is_relative_to(ROOT)
    assert not anchor or anchor in anchors(target)


@pytest.mark.parametrize(("page", "name"), each_page_and(code_spans), ids=label)
def test_a_path_or_module_that_is_named_exists(page: Path, name: str) -> None:
    del page
    if name.startswith(TOP_FOLDERS) and "…" not in name:
        assert (ROOT / name).exists()
    elif name in {"jobkeep.service", "jobkeep.socket"}:
        assert (ROOT / "systemd" / "system" / name).exists()
    elif _PYTHON_NAME.fullmatch(name):
        assert pydoc.locate(name) is not None


def test_the_readme_has_every_command_and_only_its_flags() -> None:
    rows = {cells[0].strip("`").split()[1]: cells[1] for cells in table(README, "command")}

    assert set(rows) == set(COMMANDS)
    for name, description in rows.items():
        flags = set(re.findall(r"`(--?[A-Za-z0-9][a-z-]*)", description))
        assert flags <= flags_of("jobkeep.cli", name), name
        assert "--json" in flags_of("jobkeep.cli", name)


@pytest.mark.parametrize("page", [README, *sorted((ROOT / "docs").glob("*.md"))], ids=label)
def test_every_flag_exists(page: Path) -> None:
    known = flags_of("jobkeepd").union(
        flags_of("jobkeep.cli"),
        *(flags_of("jobkeep.cli", name) for name in COMMANDS),
        flags_of("bench", "full"),
        flags_of("bench", "curves"),
        OTHER_FLAGS,
    )

    assert set(_FLAG.findall(read(page))) <= known
