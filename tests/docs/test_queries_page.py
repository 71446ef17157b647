"""docs/queries.md: every command, program and statement runs, and their answers agree.

The sample that they are asked of is a small one of the same kind as that of the page, so figures
differ, and what is compared is their shape: the columns of a table.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.docs.pages import ROOT
from tests.docs.questions import (
    Question,
    as_table,
    preamble,
    questions,
    run_command,
    run_program,
    run_statement,
)
from tests.support import PATIENCE, scaled, wait_until

SIZE = "0.01"
QUESTIONS = questions()


class Sample(NamedTuple):
    """A daemon with a small sample, and a job that is under way and stands still."""

    socket: Path
    database: Path
    names: dict[str, Any]
    """What the program at the beginning of the page has made."""


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    directory = tmp_path_factory.mktemp("sample")
    line = [sys.executable, "-m", "examples.sample", str(directory), "--size", SIZE, "--", "cat"]
    log = directory / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(line, cwd=ROOT, stdin=subprocess.PIPE, stderr=output) as process,
        pytest.MonkeyPatch.context() as patch,
    ):
        database = directory / "state.db"
        stopped: list[int] = []
        wait_until(
            lambda: process.poll() is not None or stop_at_work(database, stopped), 3 * PATIENCE
        )
        assert process.poll() is None, log.read_text(encoding="utf-8")
        names: dict[str, Any] = {}
        patch.setenv("JOBKEEP_SOCKET", str(directory / "jobkeep.sock"))
        run_program(preamble(), names)
        yield Sample(directory / "jobkeep.sock", database, names)
        names["jobs"].close()
        os.kill(stopped[0], signal.SIGCONT)
        assert process.stdin is not None, "it is a pipe"
        process.stdin.close()  # `cat` ends, and the sample with it
        assert process.wait(scaled(PATIENCE)) == 0, log.read_text(encoding="utf-8")


def stop_at_work(database: Path, stopped: list[int]) -> bool:
    """Stop the process that is at the job which is under way, in the middle of a sheet; False when
    it is between two of them."""
    worker = worker_of_survey(database)
    if not worker:  # to signal 0 would be to stop this process and all of its group
        return False
    os.kill(worker, signal.SIGSTOP)
    if worker_of_survey(database) == worker:
        stopped.append(worker)
        return True
    os.kill(worker, signal.SIGCONT)
    return False


def worker_of_survey(database: Path) -> int:
    """The process that is at the job which is under way, 0 before it has done anything."""
    statement = (
        "SELECT claims.pid FROM claims JOIN jobs ON jobs.id = job_id "
        "WHERE name = 'survey' AND executions > 1"
    )
    try:
        rows = run_statement(statement, database).rows
    except sqlite3.OperationalError as error:
        if "unable to open" in str(error) or "no such table" in str(error):
            return 0  # the daemon has not made it yet
        raise
    return int(rows[0][0]) if rows else 0


def words(cells: tuple[Any, ...] | list[str]) -> list[object]:
    """The words of a line; numbers as numbers, and about the same when they are nearly."""
    found: list[object] = []
    for word in " ".join(str(cell) for cell in cells).split():
        try:
            found.append(pytest.approx(float(word), rel=1e-6, abs=0.011))
        except ValueError:
            found.append(word)
    return found


def plain(cells: tuple[Any, ...] | list[str]) -> list[object]:
    """The words of a line, numbers as they are."""
    return [getattr(word, "expected", word) for word in words(cells)]


def test_there_are_twenty_questions() -> None:
    assert [one.number for one in QUESTIONS] == list(range(1, 21))


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda one: one.number)
def test_command_runs_and_has_the_columns_of_the_page(question: Question, sample: Sample) -> None:
    status, output = run_command(question.command, sample.socket, sample.database)

    assert status == 0, output
    assert _shape(output) == _shape(question.answer)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda one: one.number)
def test_program_and_statement_give_the_same(question: Question, sample: Sample) -> None:
    printed = run_program(question.program, dict(sample.names)).splitlines()
    found = run_statement(question.statement, sample.database)

    assert found.rows, "the sample has nothing to ask this of"
    assert [plain([line]) for line in printed] == [words(row) for row in found.rows]
    assert as_table(found)[0].split() == question.table.splitlines()[0].split()


def _shape(output: str) -> list[str]:
    """The headings of a table; of what is no table, the first word."""
    words = output.split("\n", 1)[0].split()
    return [one for one in words if one.isalpha()] if words[0].isupper() else words[:1]
