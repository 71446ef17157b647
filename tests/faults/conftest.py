"""Figures of the tests of faults: shown at the end of a run, and asserted nowhere."""

from __future__ import annotations

import pytest

FIGURES = "figures"
"""The property that a test records its figures under."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what was measured, a test after the other."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                if name == FIGURES and report.when == "call":
                    terminalreporter.write_line(f"{report.nodeid}: {value}")
