"""Budgets are judged by the rounds, and said plainly."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench import costs, report
from bench.budgets import BUDGETS, Budget, Round, judge, seconds, throughput
from bench.machine import describe
from bench.report import Result
from bench.trial import Trial

AT_LEAST = Budget("a against b", "at least", 4, throughput("a", "b", 8))
AT_MOST = Budget("slow against fast", "at most", 2, seconds("slow", "fast"))


def trial(system: str, rate: float, workers: int = 8, errors: int = 0) -> Trial:
    first_errors = ["E: no"] if errors else []
    return Trial(system, workers, 100, rate, 0.001, 0.002, 0.003, errors, first_errors)


def measured(rate: float, slow: float) -> Round:
    return Round([trial("a", rate), trial("b", 10.0)], {"slow": slow, "fast": 0.1})


def test_met() -> None:
    least, most = judge([AT_LEAST, AT_MOST], [measured(40.0, 0.2), measured(60.0, 0.1)])
    assert (least.met, most.met) == (True, True)
    assert least.ratio is not None
    assert (least.ratio.low, least.ratio.median, least.ratio.high) == (4.0, 5.0, 6.0)


def test_not_met() -> None:
    least, most = judge([AT_LEAST, AT_MOST], [measured(39.0, 0.21)])
    assert (least.met, most.met) == (False, False)


def test_not_measured() -> None:
    least, most = judge([AT_LEAST, AT_MOST], [Round([trial("a", 1.0)], {})])
    assert (least.ratio, least.met, most.ratio, most.met) == (None, None, None, None)


def test_the_report_names_errors_and_verdicts(tmp_path: Path) -> None:
    rounds = [
        Round([trial("jobkeep", 800.0, 16), trial("plain", 10.0, 16, errors=3)], {"echo": 0.0001}),
        Round([trial("jobkeep", 900.0, 16), trial("plain", 10.0, 16, errors=2)], {"echo": 0.0003}),
    ]
    result = report.result_of(datetime.now(UTC), describe(tmp_path), [16], 5, rounds)
    text = report.text(result)
    assert "E: no" in text
    assert "operations/s, 16 workers: jobkeep / plain" in text
    assert "85.00 x (80.00 to 90.00), at least 40 x" in text
    assert "not measured  reading a small job" in text
    (line,) = [line for line in text.splitlines() if line.startswith("plain")]
    assert line.split() == ["plain", "16", "10", "1.00", "2.00", "3.0", "5"]
    (line,) = [line for line in text.splitlines() if line.strip().startswith("echo")]
    assert line.split() == ["echo", "200", "µs"]


def test_a_result_can_be_read_again(tmp_path: Path) -> None:
    result = report.result_of(datetime.now(UTC), describe(tmp_path), [8], 5, [measured(40.0, 0.2)])
    path = report.write(result, tmp_path / "results")
    assert msgspec.json.decode(path.read_bytes(), type=Result) == result


def test_every_figure_that_a_budget_divides_is_measured(tmp_path: Path) -> None:
    taken: dict[str, float] = {}
    for cost in (costs.round_trips, costs.daemon_saves, costs.starts):
        directory = tmp_path / cost.__name__
        directory.mkdir()
        taken |= cost(directory)
    assert all(value > 0 for value in taken.values())
    trials = [trial("jobkeep", 50.0, 16), trial("plain", 1.0, 16)]
    verdicts = judge(BUDGETS, [Round(trials, taken)])
    assert [one.what for one in verdicts if one.met is None] == []
