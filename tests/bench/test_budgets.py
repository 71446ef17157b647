"""Budgets are judged by the rounds, and said plainly."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from bench import compare, memory, report
from bench.budgets import (
    BUDGETS,
    MEMORY,
    Budget,
    Comparison,
    Round,
    judge,
    megabytes,
    seconds,
    throughput,
)
from bench.figures import Spread
from bench.kept import Kept
from bench.machine import describe
from bench.report import Result
from bench.systems import NATURAL
from bench.trial import Trial

AT_LEAST = Budget("a against b", "at least", 4, throughput("a", "b", 8))
AT_MOST = Budget("slow against fast", "at most", 2, seconds("slow", "fast"))


def trial(
    system: str, rate: float, workers: int = 8, errors: int = 0, operations: int = 100
) -> Trial:
    first_errors = ["E: no"] if errors else []
    return Trial(
        system, workers, operations, rate, 0.001, 0.002, 0.003, 0.0001, errors, first_errors
    )


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


def test_what_is_beside_a_budget_is_shown_and_not_judged() -> None:
    budget = Budget(
        "a against b",
        "at least",
        4,
        throughput("a", "b", 8),
        beside=Comparison("c", throughput("a", "c", 8)),
    )
    trials = [trial("a", 40.0), trial("b", 10.0), trial("c", 80.0)]
    (verdict,) = judge([budget], [Round(trials)])
    assert (verdict.met, verdict.beside) == (True, {"c": Spread(0.5, 0.5, 0.5)})
    assert report.verdict_line(verdict).endswith("at least 4 x; c: 0.50 x")
    (without,) = judge([budget], [Round(trials[:2])])
    assert (without.met, without.beside) == (True, {})


def test_a_budget_in_megabytes() -> None:
    budget = Budget("size", "at most", 150, megabytes("size"), "MB")
    (verdict,) = judge([budget], [Round([], megabytes={"size": 60.0}), Round([])])
    assert (verdict.met, verdict.ratio) == (True, Spread(60.0, 60.0, 60.0))


@pytest.mark.parametrize(
    ("budget", "measured", "why"),
    [
        (AT_LEAST, Round([trial("a", 1.0)]), "this run has no trial of b with 8 workers"),
        (
            AT_LEAST,
            Round([trial("a", 1.0)], left_out={"b": "no b (Debian: b)"}),
            "no b (Debian: b)",
        ),
        (
            AT_LEAST,
            Round([trial("a", 1.0), trial("b", 0.0, operations=0)]),
            "b completed nothing with 8 workers",
        ),
        (AT_MOST, Round([], {"fast": 0.1}), "this run did not measure slow"),
    ],
)
def test_what_was_not_measured_says_why(budget: Budget, measured: Round, why: str) -> None:
    (verdict,) = judge([budget], [measured])
    assert (verdict.ratio, verdict.met, verdict.why) == (None, None, why)


def test_a_round_that_lacks_a_figure_leaves_the_others_their_say() -> None:
    (verdict,) = judge([AT_MOST], [measured(1.0, 0.1), Round([])])
    assert (verdict.ratio, verdict.met, verdict.why) == (Spread(1.0, 1.0, 1.0), True, None)


def test_the_budgets_are_those_of_the_design() -> None:
    against = [(one.what, one.bound, one.limit, one.unit) for one in BUDGETS]
    assert against == [
        ("operations/s, 16 workers: jobkeep / plain", "at least", 40, "x"),
        ("operations/s, 1 workers: jobkeep / postgres", "at least", 1.3, "x"),
        ("operations/s, 8 workers: jobkeep / postgres", "at least", 2.5, "x"),
        ("operations/s, 16 workers: jobkeep / postgres", "at least", 3.0, "x"),
        ("operations/s, 8 workers: jobkeep / redis", "at least", 1.5, "x"),
        ("operations/s, 16 workers: jobkeep / redis", "at least", 2.0, "x"),
        ("p99, 16 workers: jobkeep / postgres", "at most", 0.5, "x"),
        ("reading a small job / a bare echo", "at most", 2, "x"),
        ("the daemon saves 1 changed sheet of 10,000 / of 10", "at most", 3, "x"),
        ("resident memory of a busy daemon", "at most", 150, "MB"),
        ("import jobkeep / import msgspec", "at most", 2, "x"),
        ("jobkeep status / python -c pass", "at most", 6, "x"),
    ]


def test_the_report_names_errors_and_verdicts() -> None:
    left_out = {"redis": "no redis (Debian: r)"}
    rounds = [
        Round(
            [trial("jobkeep", 800.0, 16), trial("plain", 10.0, 16, errors=3)],
            {"echo": 0.0001},
            {MEMORY: 34.5},
            left_out,
        ),
        Round(
            [trial("jobkeep", 900.0, 16), trial("plain", 10.0, 16, errors=2)],
            {"echo": 0.0003},
            left_out=left_out,
        ),
    ]
    text = report.text(report.result_of([16], 5, rounds))
    assert "E: no" in text
    assert "operations/s, 16 workers: jobkeep / plain" in text
    assert "85.00 x (80.00 to 90.00), at least 40 x" in text
    assert "34.50 MB (34.50 to 34.50), at most 150 MB" in text
    assert "redis           left out: no redis (Debian: r)" in text
    assert (
        "not measured: operations/s, 16 workers: jobkeep / redis (at least 2 x): "
        "no redis (Debian: r)"
    ) in text
    (line,) = [line for line in text.splitlines() if line.startswith("plain")]
    assert line.split() == ["plain", "16", "10", "1.00", "2.00", "3.0", "100", "5"]
    (line,) = [line for line in text.splitlines() if line.strip().startswith("echo")]
    assert line.split() == ["echo", "200", "µs"]


def test_a_result_is_kept_with_its_machine(tmp_path: Path) -> None:
    result = report.result_of([8], 5, [measured(40.0, 0.2)])
    kept = Kept("comparison", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), describe(tmp_path), result)
    path = kept.write(tmp_path / "results")
    assert path.name == "2026-01-02T030405Z-comparison.json"
    read = msgspec.json.decode(path.read_bytes(), type=Kept)
    assert (read.machine, msgspec.convert(read.result, Result)) == (kept.machine, result)


@pytest.mark.usefixtures("redis_is_here", "postgres_is_here")
def test_every_figure_that_a_budget_divides_is_measured(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "KEPT_JOBS", 5)
    (measured,) = compare.measure(NATURAL, [1, 8, 16], 1, 1, math.inf, 0.1, data)
    assert [one.why for one in judge(BUDGETS, [measured]) if one.met is None] == []
    assert all(value > 0 for value in measured.seconds.values())
