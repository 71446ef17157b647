"""Reading the pages: their blocks of code, their links, their tables.

What lives here: helpers without fixtures. What may not: running anything.

A block's language says what is done with it: `python` is run, `console` is run line by line and
its output compared, `sh` and `text` are only shown.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
LANGUAGES = {"python", "console", "sh", "sql", "text", "toml"}

_BLOCK = re.compile(r"^( *)```(\S*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    """A block of code: the page it is on, its language, its text."""

    page: Path
    language: str
    text: str


class Step(NamedTuple):
    """A command of a console block, and what it prints."""

    command: str
    output: list[str]


def read(page: Path) -> str:
    """The text of a page."""
    return page.read_text(encoding="utf-8")


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    return [
        Block(page, language, textwrap.dedent(text))
        for _, language, text in _BLOCK.findall(read(page))
    ]


def prose(page: Path) -> str:
    """A page without its blocks."""
    return _BLOCK.sub("", read(page))


def links(page: Path) -> list[str]:
    """Where a page's links lead, in its own words."""
    return _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


def code_spans(page: Path) -> list[str]:
    """What a page's prose has between backticks."""
    return _CODE.findall(prose(page))


def steps(block: Block) -> list[Step]:
    """The commands of a console block: the lines after `$ `, each with its output."""
    found: list[Step] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(Step(line.removeprefix("$ "), []))
        else:
            assert found, f"{block.page.name}: output before the first command: {line}"
            found[-1].output.append(line)
    return found


def table(page: Path, heading: str) -> list[list[str]]:
    """The rows of the tables whose first column has this heading."""
    rows: list[list[str]] = []
    is_wanted = False
    for line in prose(page).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            is_wanted = False
        elif cells[0] == heading:
            is_wanted = True
        elif is_wanted and not set(line) <= set("|- "):
            rows.append(cells)
    return rows
