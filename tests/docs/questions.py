"""The questions of docs/queries.md: read from the page, asked of a sample, and their answers.

What lives here: the parts of the page, and how each of the three forms of a question is run. What
may not: what the answers must be (that is `test_queries_page`).

    python -m tests.docs.questions --write

asks the daemon at $JOBKEEP_SOCKET and puts its answers on the page:

    python -m examples.sample DIRECTORY -- python -m tests.docs.questions --write
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from jobkeep import Client
from tests.docs.pages import ROOT, read

PAGE = ROOT / "docs" / "queries.md"
DATABASE = "/var/lib/jobkeep/state.db"
"""What the page calls the file of the daemon."""

MOST_LINES = 11
"""Of an answer on the page; what is left out is marked."""

MOST_CHARACTERS = 130
CUT = "…"

_SECTION = re.compile(r"^## (\d+\. .*?)$(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Question(NamedTuple):
    """One question: its heading, and its three forms with the answers that the page shows.

    `answer` is what the command prints, `table` what the statement gives.
    """

    title: str
    command: str
    answer: str
    program: str
    statement: str
    table: str

    @property
    def number(self) -> int:
        """Its place on the page."""
        return int(self.title.split(".")[0])


class Rows(NamedTuple):
    """What a statement gives."""

    columns: list[str]
    rows: list[tuple[Any, ...]]


def questions() -> list[Question]:
    """All questions of the page, in order."""
    return [_question(title, text) for title, text in _SECTION.findall(read(PAGE))]


def preamble() -> str:
    """The program that comes before the first question and makes `jobs`."""
    introduction = read(PAGE).split("\n## 1. ")[0]
    return "".join(text for language, text in _BLOCK.findall(introduction) if language == "python")


def _question(title: str, text: str) -> Question:
    blocks = _BLOCK.findall(text)
    kinds = [language for language, _ in blocks]
    assert kinds == ["text", "python", "sql", "text"], f"{title}: its blocks are {kinds}"
    (_, shown), (_, program), (_, statement), (_, table) = blocks
    first, _, answer = shown.partition("\n")
    assert first.startswith("$ "), f"{title}: no command: {first}"
    return Question(title, first.removeprefix("$ "), answer, program, statement, table)


def run_command(command: str, socket: Path, database: Path) -> tuple[int, str]:
    """Run a command of the page in a shell; gives its status and what it printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    finished = subprocess.run(
        ["bash", "-c", command.replace(DATABASE, shlex.quote(str(database)))],  # noqa: S607 # that of this machine
        env={**os.environ, "JOBKEEP_SOCKET": str(socket), "PATH": path, "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    output = finished.stdout.replace(str(database), DATABASE)
    return finished.returncode, output.replace(str(database.parent), str(Path(DATABASE).parent))


def run_program(program: str, names: dict[str, Any]) -> str:
    """Run a program of the page with these names; gives what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(program, names)  # noqa: S102 # this page is ours
    return printed.getvalue()


def run_statement(statement: str, database: Path) -> Rows:
    """Run a statement of the page on the file, which may be in use, without changing it."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        cursor = connection.execute(statement)
        return Rows([one[0] for one in cursor.description], cursor.fetchall())


def cut(lines: list[str]) -> list[str]:
    """As much of an answer as the page shows."""
    shown = [
        line if len(line) <= MOST_CHARACTERS else line[: MOST_CHARACTERS - 1] + CUT
        for line in (one.rstrip() for one in lines)
    ]
    return shown if len(shown) <= MOST_LINES else [*shown[: MOST_LINES - 1], CUT]


def as_table(found: Rows) -> list[str]:
    """Rows as text, as `sqlite3 -column` has them."""
    rows = [found.columns, *([_text(cell) for cell in row] for row in found.rows)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(found.columns))]
    rows.insert(1, ["-" * width for width in widths])
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]


def _text(cell: object) -> str:
    return "" if cell is None else " ".join(str(cell).split())


def write_answers(socket: Path, database: Path) -> None:
    """Put what the daemon and its file answer now on the page."""
    page = read(PAGE)
    for one in questions():
        _, output = run_command(one.command, socket, database)
        answer = cut(output.splitlines())
        table = cut(as_table(run_statement(one.statement, database)))
        page = _with_answer(page, f"```text\n$ {one.command}\n", one.answer, answer)
        page = _with_answer(page, f"```sql\n{one.statement}```\n\n```text\n", one.table, table)
    PAGE.write_text(page, encoding="utf-8")


def _with_answer(page: str, question: str, old: str, lines: list[str]) -> str:
    """The page with another answer below a question."""
    assert page.count(f"{question}{old}```") == 1, f"not once on the page: {question}"
    return page.replace(f"{question}{old}```", "\n".join([question.rstrip("\n"), *lines, "```"]))


if __name__ == "__main__":
    with Client() as client:
        status = client.status()
    assert sys.argv[1:] == ["--write"], "usage: python -m tests.docs.questions --write"
    write_answers(Path(status.socket), Path(status.database))
