"""Curves as SVG: how costs grow with sizes."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_WIDTH, _HEIGHT = 720, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 150, 44, 48
_COLORS = ("#1b6ac9", "#c2410c", "#15803d", "#7e22ce", "#0e7490", "#a16207")
_MAX_RATIO = 2.0  # the axis shows at least so much growth


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """The cost at each size; the chart shows how many times that of the first it is."""

    name: str
    points: Sequence[tuple[int, float]]

    @property
    def ratios(self) -> list[tuple[int, float]]:
        """Each size, with its cost compared with that of the smallest."""
        first = self.points[0][1]
        return [(size, cost / first) for size, cost in self.points]


def draw(path: Path, title: str, sizes: str, curves: Sequence[Curve]) -> None:
    """Write the chart; `sizes` says what the sizes count."""
    axes = _Axes(curves)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        _text(_LEFT, 24, title, size=15),
        *axes.draw(),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, sizes, anchor="middle"),
    ]
    for number, curve in enumerate(curves):
        color = _COLORS[number % len(_COLORS)]
        lines += _draw_curve(axes, curve, color)
        lines.append(_text(_WIDTH - _RIGHT + 12, _TOP + 18 * (number + 1), curve.name, color=color))
    path.write_text("\n".join([*lines, "</svg>"]) + "\n")


class _Axes:
    """Sizes to the right by powers of ten; ratios upwards, from 0."""

    def __init__(self, curves: Sequence[Curve]) -> None:
        sizes = [size for curve in curves for size, _ in curve.points]
        self._decades = max(1, math.ceil(math.log10(max(sizes))))
        self._top = max(
            _MAX_RATIO, *(math.ceil(ratio) for curve in curves for _, ratio in curve.ratios)
        )

    def x(self, size: float) -> float:
        return _LEFT + math.log10(size) / self._decades * (_WIDTH - _LEFT - _RIGHT)

    def y(self, ratio: float) -> float:
        return _HEIGHT - _BOTTOM - ratio / self._top * (_HEIGHT - _TOP - _BOTTOM)

    def draw(self) -> Iterator[str]:
        for decade in range(self._decades + 1):
            x = self.x(10**decade)
            yield _line((x, self.y(0)), (x, self.y(self._top)), "#e5e5e5")
            yield _text(x, _HEIGHT - _BOTTOM + 18, f"{10**decade:,}", anchor="middle")
        step = max(1, round(self._top / 5))
        for ratio in range(0, int(self._top) + 1, step):
            y = self.y(ratio)
            yield _line((_LEFT, y), (_WIDTH - _RIGHT, y), "#e5e5e5")
            yield _text(_LEFT - 8, y + 4, f"{ratio} x", anchor="end")


def _draw_curve(axes: _Axes, curve: Curve, color: str) -> Iterator[str]:
    dots = [(axes.x(size), axes.y(ratio)) for size, ratio in curve.ratios]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in dots)
    yield f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>'
    for x, y in dots:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>'


def _line(start: tuple[float, float], end: tuple[float, float], color: str) -> str:
    return (
        f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" '
        f'stroke="{color}"/>'
    )


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 12,
    anchor: str = "start",
    color: str = "#333",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-family="sans-serif" '
        f'text-anchor="{anchor}" fill="{color}">{html.escape(text)}</text>'
    )
