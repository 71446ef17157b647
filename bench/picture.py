"""Pictures of figures, as SVG.

What lives here: bars and curves, their axes, and how they look, also where the reader's screen is
dark. What may not: what the figures mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

from msgspec import Struct

from bench.figures import Spread

WIDTH = 860
MARGIN = 24
_ROW = 17
_LIGHT = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf8700", "#bf3989")
_DARK = ("#58a6ff", "#f0883e", "#3fb950", "#bc8cff", "#d29922", "#f778ba")
"""The colours of bars and lines; a seventh begins again."""


class Bars(Struct, frozen=True):
    """A panel of bars. `groups` has, by the head of a group, the figure of each row."""

    label: str
    groups: Mapping[str, Mapping[str, Spread]]
    is_logarithmic: bool = False


class Curves(Struct, frozen=True):
    """A panel of curves over a size, both axes logarithmic. `lines` has points by name."""

    x_label: str
    y_label: str
    lines: Mapping[str, Sequence[tuple[float, float]]]


class Scale:
    """From values to places on an axis."""

    def __init__(
        self, low: float, high: float, start: float, end: float, is_logarithmic: bool
    ) -> None:
        self._map = math.log10 if is_logarithmic else float
        self.ticks = logarithmic_ticks(low, high) if is_logarithmic else linear_ticks(high)
        self._low, self._high = self._map(self.ticks[0]), self._map(self.ticks[-1])
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        """The place of a value; one beyond the axis is at its end."""
        part = (self._map(value) - self._low) / (self._high - self._low)
        return self._start + min(max(part, 0.0), 1.0) * (self._end - self._start)


def linear_ticks(high: float) -> list[float]:
    """From 0 to at least `high` (above 0), in some four to six even steps."""
    power = 10.0 ** math.floor(math.log10(high))
    step = next(one * power for one in (0.1, 0.2, 0.5, 1.0, 2.0) if high <= 6 * one * power)
    return [number * step for number in range(math.ceil(high / step) + 1)]


def logarithmic_ticks(low: float, high: float) -> list[float]:
    """Powers of ten around these (above 0); where that would be one decade, 1, 2 and 5 of it."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if last - first <= 1:
        return [factor * 10.0**first for factor in (1, 2, 5, 10)]
    return [10.0**power for power in range(first, last + 1)]


def bars(title: str, note: str, panels: Sequence[Bars]) -> str:
    """Panels beside each other, with the same groups and rows; what a bar varied between is a
    thin line on it."""
    groups: dict[str, list[str]] = {}
    for panel in panels:
        for head, rows in panel.groups.items():
            groups[head] = list(dict.fromkeys((*groups.get(head, ()), *rows)))
    names = max(len(name) for rows in groups.values() for name in rows) * 7 + MARGIN
    height = sum(22 + _ROW * len(rows) for rows in groups.values())
    top = 76
    room = (WIDTH - names - MARGIN) / len(panels)
    parts = [_text(name, names - 8, y, "end") for name, y in _rows(groups, top)]
    parts += [_text(head, MARGIN, y, css="head") for head, y in _heads(groups, top)]
    for number, panel in enumerate(panels):
        left = names + number * room
        parts += _bars_panel(panel, groups, left, left + room - 70, top, top + height)
    return _document(title, note, top + height + 34, parts)


def curves(title: str, note: str, panels: Sequence[Curves]) -> str:
    """Panels beside each other with the same height of the same value; the names of the lines are
    below each."""
    top, height = 86, 220
    room = (WIDTH - MARGIN) / len(panels)
    heights = [y for panel in panels for line in panel.lines.values() for _, y in line]
    y_scale = Scale(min(heights), max(heights), top + height, top, is_logarithmic=True)
    parts: list[str] = []
    for number, panel in enumerate(panels):
        left = MARGIN + 26 + number * room
        parts += _curves_panel(panel, y_scale, left, left + room - 56, top, top + height)
    most = max(len(panel.lines) for panel in panels)
    return _document(title, note, top + height + 52 + 17 * most, parts)


def _bars_panel(
    panel: Bars,
    groups: Mapping[str, Sequence[str]],
    left: float,
    right: float,
    top: float,
    bottom: float,
) -> Iterator[str]:
    values = [one for rows in panel.groups.values() for one in rows.values()]
    low, high = min(one.low for one in values), max(one.high for one in values)
    scale = Scale(low, high, left, right, panel.is_logarithmic)
    yield _text(panel.label, left, top - 12, css="head")
    for tick in scale.ticks:
        x = scale(tick)
        yield f'<path class="grid" d="M{x:.1f} {top}V{bottom}"/>'
        yield _text(f"{tick:,g}", x, bottom + 16, "middle", "faint")
    places = _rows(groups, top)
    found = [panel.groups.get(head, {}).get(row) for head, rows in groups.items() for row in rows]
    colours = [number for rows in groups.values() for number in range(len(rows))]
    for (_, y), one, colour in zip(places, found, colours, strict=True):
        if one is not None:
            yield from _bar(scale, one, left, y, colour)


def _bar(scale: Scale, figure: Spread, left: float, y: float, colour: int) -> Iterator[str]:
    end = scale(figure.median)
    yield (
        f'<rect x="{left:.1f}" y="{y - 10:.1f}" width="{max(end - left, 1):.1f}" height="12" '
        f'rx="2" class="bar{colour % len(_LIGHT)}"/>'
    )
    low, high = scale(figure.low), scale(figure.high)
    yield f'<path class="range" d="M{low:.1f} {y - 4:.1f}H{high:.1f}"/>'
    yield _text(_short(figure.median), max(end, high) + 5, y, css="faint")


def _curves_panel(
    panel: Curves, y_scale: Scale, left: float, right: float, top: float, bottom: float
) -> Iterator[str]:
    sizes = [x for line in panel.lines.values() for x, _ in line]
    x_scale = Scale(min(sizes), max(sizes), left, right, is_logarithmic=True)
    yield _text(panel.y_label, left - 26, top - 14, css="head")
    for tick in x_scale.ticks:
        yield f'<path class="grid" d="M{x_scale(tick):.1f} {top}V{bottom}"/>'
        yield _text(_power(tick), x_scale(tick), bottom + 16, "middle", "faint")
    for tick in y_scale.ticks:
        yield f'<path class="grid" d="M{left:.1f} {y_scale(tick):.1f}H{right:.1f}"/>'
        yield _text(f"{tick:g}", left - 6, y_scale(tick) + 4, "end", "faint")
    yield _text(panel.x_label, (left + right) / 2, bottom + 34, "middle", "faint")
    for number, (name, line) in enumerate(panel.lines.items()):
        css = f"line line{number % len(_LIGHT)}"
        path = "L".join(f"{x_scale(x):.1f} {y_scale(y):.1f}" for x, y in line)
        dashes = "" if number < len(_LIGHT) else ' stroke-dasharray="5 3"'
        yield f'<path class="{css}"{dashes} d="M{path}"/>'
        y = bottom + 56 + 17 * number
        yield (
            f'<path class="{css}"{dashes} d="M{left:.1f} {y - 4}h18"/>' + _text(name, left + 24, y)
        )


def _rows(groups: Mapping[str, Sequence[str]], top: float) -> list[tuple[str, float]]:
    """Each row of each group, with the line that its text stands on."""
    found = []
    for head, y in zip(groups, _group_tops(groups, top), strict=True):
        found += [(row, y + 22 + 13 + _ROW * number) for number, row in enumerate(groups[head])]
    return found


def _heads(groups: Mapping[str, Sequence[str]], top: float) -> Iterable[tuple[str, float]]:
    return [(head, y + 16) for head, y in zip(groups, _group_tops(groups, top), strict=True)]


def _group_tops(groups: Mapping[str, Sequence[str]], top: float) -> list[float]:
    tops = [top]
    for rows in groups.values():
        tops.append(tops[-1] + 22 + _ROW * len(rows))
    return tops[:-1]


def _document(title: str, note: str, height: float, parts: Iterable[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
            f'width="{WIDTH}" height="{height:.0f}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{_style()}</style>",
            f'<rect class="ground" width="{WIDTH}" height="{height:.0f}"/>',
            _text(title, MARGIN, 26, css="title"),
            _text(note, MARGIN, 44, css="faint"),
            *parts,
            "</svg>",
            "",
        ]
    )


def _style() -> str:
    """Plain rules, for viewers that know no variables; those for dark screens come last."""
    return "\n".join(
        [
            "text { font: 12px system-ui, sans-serif; }",
            "text.title { font-size: 15px; font-weight: 600; } text.head { font-weight: 600; }",
            "text.faint { font-size: 11px; }",
            ".range { stroke-width: 1.5; } .line { fill: none; stroke-width: 2; }",
            *_palette("#ffffff", "#1f2328", "#656d76", "#d8dee4", _LIGHT),
            "@media (prefers-color-scheme: dark) {",
            *_palette("#0d1117", "#e6edf3", "#9198a1", "#30363d", _DARK),
            "}",
        ]
    )


def _palette(ground: str, ink: str, faint: str, grid: str, colours: Sequence[str]) -> Iterator[str]:
    yield f".ground {{ fill: {ground}; }} .grid {{ stroke: {grid}; }} .range {{ stroke: {ink}; }}"
    yield f"text {{ fill: {ink}; }} text.faint {{ fill: {faint}; }}"
    for number, colour in enumerate(colours):
        yield f".bar{number} {{ fill: {colour}; }} .line{number} {{ stroke: {colour}; }}"


def _text(text: str, x: float, y: float, anchor: str = "start", css: str = "") -> str:
    kind = f' class="{css}"' if css else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(text)}</text>'


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _power(value: float) -> str:
    """1000000 -> 1M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
