"""Pictures show every figure in its place, with axes that are labelled."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from bench.figures import Spread
from bench.picture import Bars, Curves, Scale, bars, curves, linear_ticks, logarithmic_ticks

SVG = "{http://www.w3.org/2000/svg}"

BARS = Bars(
    "operations/s",
    {
        "1 worker": {"a": Spread(100.0, 50.0, 200.0), "b & c": Spread(50.0, 50.0, 50.0)},
        "8 workers": {"a": Spread(400.0, 400.0, 400.0)},
    },
)
CURVES = Curves("sheets", "times the smallest", {"save": [(10, 1.0), (1000, 5.0)]})


def texts(svg: str) -> list[str]:
    return [one.text or "" for one in ElementTree.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314  # ours


def elements(svg: str, name: str, css: str) -> list[ElementTree.Element]:
    found = ElementTree.fromstring(svg).iter(f"{SVG}{name}")  # noqa: S314  # ours
    return [one for one in found if css in one.get("class", "")]


@pytest.mark.parametrize(
    ("high", "expected"),
    [(4.0, [0, 1, 2, 3, 4]), (5.5, [0, 1, 2, 3, 4, 5, 6]), (7999.0, [0, 2000, 4000, 6000, 8000])],
)
def test_linear_ticks(high: float, expected: list[float]) -> None:
    assert linear_ticks(high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.7, 5.0, [0.1, 1, 10]), (1.0, 9.0, [1, 2, 5, 10]), (3.0, 2000.0, [1, 10, 100, 1000, 10000])],
)
def test_logarithmic_ticks(low: float, high: float, expected: list[float]) -> None:
    assert logarithmic_ticks(low, high) == pytest.approx(expected)


def test_a_scale_goes_from_start_to_end() -> None:
    linear = Scale(0, 4, 100, 200, is_logarithmic=False)
    assert [linear(value) for value in (0, 1, 4, 9)] == [100, 125, 200, 200]
    logarithmic = Scale(1, 100, 200, 100, is_logarithmic=True)
    assert [logarithmic(value) for value in (1, 10, 100)] == [200, 150, 100]


def test_bars_are_as_long_as_their_figures() -> None:
    svg = bars("title", "note", [BARS])
    widths = [float(one.get("width", "")) for one in elements(svg, "rect", "bar")]
    first, second, third = widths
    assert [first / second, third / first] == pytest.approx([2.0, 4.0], 0.01)


def test_bars_name_groups_rows_axis_and_values() -> None:
    shown = texts(bars("title", "note", [BARS]))
    for text in ("title", "note", "operations/s", "1 worker", "8 workers", "a", "b & c"):
        assert text in shown
    assert [one for one in shown if one in {"100", "50", "400"}][-3:] == ["100", "50", "400"]


def test_panels_that_lack_a_row_leave_its_place_empty() -> None:
    lacking = Bars("p99", {"1 worker": {"b & c": Spread(1.0, 1.0, 1.0)}}, is_logarithmic=True)
    svg = bars("title", "note", [BARS, lacking])
    assert len(elements(svg, "rect", "bar")) == 4
    ys = [one.get("y") for one in elements(svg, "rect", "bar")]
    assert ys[3] == ys[1]


def test_curves_name_their_axes_and_lines() -> None:
    svg = curves("title", "note", [CURVES])
    shown = texts(svg)
    for text in ("sheets", "times the smallest", "save", "10", "1k"):
        assert text in shown
    line, sample = elements(svg, "path", "line")
    start, end = (tuple(map(float, one.split())) for one in line.attrib["d"][1:].split("L"))
    assert end[0] > start[0]
    assert end[1] < start[1], "5 is above 1, and y goes down"
    assert sample.get("class") == line.get("class")


def test_a_picture_has_colours_for_dark_screens() -> None:
    svg = curves("title", "note", [CURVES])
    light, dark = svg.split("@media (prefers-color-scheme: dark)")
    for rule in (".ground", ".grid", "text", ".bar0", ".line0"):
        assert f"{rule} {{" in light
        assert f"{rule} {{" in dark
