"""What the tests of faults share: a database to spoil copies of, and figures.

Figures are shown at the end of a run, and asserted nowhere.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.databases import fill, writing

FIGURES = "figures"
"""The property that a test records its figures under."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what was measured, a test after the other."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                if name == FIGURES and report.when == "call":
                    terminalreporter.write_line(f"{report.nodeid}: {value}")


@pytest.fixture(scope="session")
def filled_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with something in every table and 3 attempts, closed; not to be changed."""
    database = tmp_path_factory.mktemp("filled") / "state.db"
    with writing(database) as opened:
        fill(opened)
    return database
