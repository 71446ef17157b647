"""Each part of the benchmark runs for real, small, and finds what it is about."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bench import curves, learning, memory, normal, readers, reports, retention, search
from bench.machine import describe
from bench.memory import Sample
from tests.support import wait_until


def test_curves_have_every_size(data: Path) -> None:
    sizes = curves.Sizes([2, 4], [10, 20], [20, 30])
    panels = curves.measure(sizes, data)
    assert [panel.size for panel in panels] == ["sheets of the job", "records of the job", "jobs"]
    for panel, wanted in zip(panels, (sizes.sheets, sizes.records, sizes.jobs), strict=True):
        for one in panel.curves:
            assert list(one.seconds) == wanted
            assert all(taken > 0 for taken in one.seconds.values())
            assert one.relative[wanted[0]] == 1.0
    names = {one.operation for panel in panels for one in panel.curves}
    assert names >= {
        "save, one sheet changed",
        "mark_sheet_status",
        "claim_next_sheet",
        "get_next_sheet",
        "record_execution",
        "get_execution_history_count",
        "get_job_statistics",
        "query_jobs, first page",
        "query_jobs, since",
    }
    shown = curves.text(panels)
    assert all(name in shown for name in names)
    assert "query_jobs, since" in curves.picture(panels, describe(data))


def test_readers_read_beside_the_writers(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "KEPT_JOBS", 3)
    monkeypatch.setattr(readers, "WRITERS", 2)
    found = readers.measure(1, 2, 10, data)
    (measured,) = found.rounds
    assert [(one.system, one.errors) for one in measured.trials] == [
        ("alone", 0),
        ("while listing", 0),
        ("while paging", 0),
        ("while computing", 0),
    ]
    assert [one.name for one in found.readings] == [
        "while listing",
        "while paging",
        "while computing",
    ]
    assert all(one.rows > 0 for one in found.readings)
    assert "the reader got" in readers.text(found)


def test_the_budgets_of_readers_are_judged(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "KEPT_JOBS", 1)
    found = readers.measure(1, 1, 1, data)
    assert [(one.bound, one.limit, one.why, list(one.beside)) for one in found.verdicts] == [
        ("at most", 2, None, ["while computing"]),
        ("at most", 2, None, ["while computing"]),
    ]


def test_reports_are_asked_at_every_size_and_beside_writers(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "TIMES", 1)
    found = reports.measure([100, 300], 1, 2, data)
    assert [one.report for one in found.asked] == list(reports.QUESTIONS)
    assert all(list(one.seconds) == [100, 300] for one in found.asked)
    assert [(one.system, one.errors) for one in found.rounds[0].trials] == [
        ("alone", 0),
        ("while reporting", 0),
        ("while computing", 0),
    ]
    shown = reports.text(found)
    assert "timeline by hour" in shown
    assert "reports/s" in shown


def test_pruning_is_beside_writers(data: Path) -> None:
    found = retention.measure(1_000, 1, 2, data)
    assert [(one.system, one.errors) for one in found.rounds[0].trials] == [
        ("alone", 0),
        ("while pruning", 0),
        ("by its settings", 0),
        ("while computing", 0),
    ]
    assert 0 < found.pruned.attempts < found.pruned.executions
    assert f"of {found.pruned.executions:,} attempts went" in retention.text(found)


def test_search_on_is_beside_off(data: Path) -> None:
    rounds = search.measure(1, [1], 2, data)
    assert {(trial.system, trial.errors) for trial in rounds[0].trials} == {
        ("jobkeep", 0),
        ("jobkeep-search", 0),
    }
    assert "operations/s, 1 workers: search on / off" in search.text(rounds, [1])


def test_normal_is_beside_full(data: Path) -> None:
    rounds = normal.measure(1, [1], 2, data)
    assert [(one.system, one.errors) for one in rounds[0].trials] == [
        ("jobkeep", 0),
        ("jobkeep-normal", 0),
    ]
    assert "operations/s, 1 workers: normal / full" in normal.text(rounds, [1])


def test_endurance_samples_a_busy_daemon(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "KEPT_JOBS", 2)
    monkeypatch.setattr(memory, "CLIENTS", 2)
    found = memory.endure(0.01, data)
    assert found.errors == []
    assert found.operations > 0
    assert found.samples[0].rss > found.samples[0].pss > 0
    assert "says little after so short a time" in memory.text(found)


def test_the_slope_is_that_of_the_samples_after_the_warm_up() -> None:
    warming = [Sample(float(second), 5_000 * second, 0) for second in range(20)]
    steady = [Sample(float(second), 100_000 + 2 * second, 0) for second in range(20, 100)]
    assert memory.slope([*warming, *steady]) == pytest.approx(2 * 3600)
    assert memory.slope([Sample(0.0, 1, 1)]) == 0.0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "bench", "endurance", "--minutes", "5"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        directory = Path(said.removeprefix("data in ").partition(",")[0])
        wait_until(lambda: (directory / "endurance" / "memory" / "jobkeep.sock").exists())
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        said = process.stderr.read()
    assert process.returncode == 130, said
    assert "interrupted: the servers are stopped, the data is removed" in said
    assert not directory.exists()
    wait_until(lambda: not [one for one in children if is_alive(one)])


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    "command",
    ["quick", "full", "normal", "search", "readers", "reports", "curves", "learning", "endurance"],
)
def test_each_command_says_what_it_does(command: str) -> None:
    for words in ([], [command]):
        shown = subprocess.run(
            [sys.executable, "-m", "bench", *words, "--help"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert command in shown


def test_learning_asks_all_of_little_and_of_much(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "TIMES", 2)
    sizes = {
        "little": learning.Size(jobs=2, executions=30, failures=10, patterns=5),
        "much": learning.Size(jobs=4, executions=60, failures=20, patterns=5),
    }

    found = learning.measure(sizes, data)

    assert list(found.seconds) == ["little", "much"]
    for taken in found.seconds.values():
        assert {"load", "patterns: one", "similar: code"} <= taken.keys()
        assert all(seconds > 0 for seconds in taken.values())
    shown = learning.text(found)
    assert "much: 60 executions, 20 failures, 5 patterns in 4 jobs" in shown
    assert all(question in shown for question in found.seconds["much"])
