"""The table: each figure, what it is compared with, the ratio, and whether its target is met."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

HEAD = (
    "| figure | measured | against | ratio (min to max) | must | met |\n"
    "| --- | --- | --- | --- | --- | --- |"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """What is measured, and against what.

    `must` and `beyond` are the targets of the ratio: its maximum, or with `more_is_better` its
    minimum. Without `must`, the figure is only information.
    """

    name: str
    unit: str
    against: str
    must: float | None = None
    beyond: float | None = None
    more_is_better: bool = False

    def row(self, pairs: Iterable[tuple[float, float]], note: str = "") -> Row:
        """Return the row of measured pairs, one a round; what drowned in noise is left out.

        `note` says what was measured instead, if the machine or the time did not suffice.
        """
        usable = tuple((ours, against) for ours, against in pairs if ours > 0 and against > 0)
        reason = "" if usable else "less than the noise"
        return Row(figure=self, pairs=usable, reason=reason, note=note)

    def missing(self, reason: str) -> Row:
        """Return the row that says what the machine lacks."""
        return Row(figure=self, pairs=(), reason=reason)

    def broken(self, error: Exception) -> Row:
        """Return the row that says what went wrong."""
        return Row(figure=self, pairs=(), reason=str(error) or repr(error), broken=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A measured figure: the pairs of all rounds, or the reason why there are none."""

    figure: Figure
    pairs: Sequence[tuple[float, float]]
    reason: str
    note: str = ""
    broken: bool = False

    @property
    def ratios(self) -> list[float]:
        """The ratio of each round."""
        return [ours / against for ours, against in self.pairs]

    def meets(self, target: float | None) -> bool | None:
        """Return whether the median meets a target; `None` without a target or a figure."""
        if target is None or not self.pairs:
            return None
        ratio = statistics.median(self.ratios)
        return ratio >= target if self.figure.more_is_better else ratio <= target

    @property
    def failed(self) -> bool:
        """Whether it misses what it must meet, or could not be measured because of an error."""
        return self.broken or self.meets(self.figure.must) is False

    def __str__(self) -> str:
        figure = self.figure
        cells = [figure.name, *self._measured(), _target(figure), self._met()]
        return f"| {' | '.join(cells)} |"

    def _measured(self) -> tuple[str, str, str]:
        if not self.pairs:
            what = "failed" if self.broken else "not measured"
            return f"{what}: {self.reason}", self.figure.against, "n/a"
        unit = self.figure.unit
        ours = statistics.median(ours for ours, _ in self.pairs)
        against = statistics.median(against for _, against in self.pairs)
        ratios = self.ratios
        return (
            f"{_shown(ours)} {unit}{self.note}",
            f"{self.figure.against}: {_shown(against)} {unit}",
            f"{_ratio(statistics.median(ratios))} ({_ratio(min(ratios))} to {_ratio(max(ratios))})",
        )

    def _met(self) -> str:
        if self.meets(self.figure.beyond):
            return "beyond"
        met = self.meets(self.figure.must)
        return "n/a" if met is None else "yes" if met else "**no**"

    def as_json(self) -> dict[str, Any]:
        """Return everything that was measured."""
        figure = self.figure
        return {
            "figure": figure.name,
            "unit": figure.unit,
            "against": figure.against,
            "must": figure.must,
            "beyond": figure.beyond,
            "more_is_better": figure.more_is_better,
            "rounds": [list(pair) for pair in self.pairs],
            "note": self.note or None,
            "not_measured": self.reason or None,
            "failed": self.failed,
        }


def exit_code(rows: Iterable[Row]) -> int:
    """Return 1 if a figure misses what it must meet."""
    return int(any(row.failed for row in rows))


def _target(figure: Figure) -> str:
    if figure.must is None:
        return "n/a"
    return f"{'≥' if figure.more_is_better else '≤'} {_ratio(figure.must)}"


def _ratio(ratio: float) -> str:
    """Show a ratio; a small one as a fraction of 1."""
    return f"1/{1 / ratio:.0f}" if ratio < 0.1 else f"{ratio:.3g}"


def _shown(number: float) -> str:
    return f"{number:,.{0 if number >= 1_000 else 1 if number >= 10 else 2}f}"
