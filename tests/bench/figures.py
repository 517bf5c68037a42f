"""Figures beside their floors, and the lines that print them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from tests.bench.measurement import Measurement

HEAD = f"{'':<42}{'stagecast':>14}{'floor':>14}{'times':>8}  the floor is"


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A figure and its floor; `times` is the ratio of their times or CPU.

    `None` is a value that cannot be measured.
    """

    what: str
    unit: str
    value: float | None
    floor: float | None
    times: float | None
    beside: str

    def __str__(self) -> str:
        value, floor = _shown(self.value, f" {self.unit}"), _shown(self.floor, f" {self.unit}")
        return f"{self.what:<42}{value:>14}{floor:>14}{_shown(self.times):>8}  {self.beside}"


def compare_rates(
    what: str, pairs: Iterable[tuple[Measurement, Measurement]], beside: str
) -> Figure:
    """Compare the numbers done in a second."""
    rates = [(ours.rate, floor.rate) for ours, floor in pairs]
    return _compare(what, "/s", rates, [floor / rate for rate, floor in rates], beside)


def compare_cpu(what: str, pairs: Iterable[tuple[Measurement, Measurement]], beside: str) -> Figure:
    """Compare the CPU of the server process for one."""
    costs = [
        (ours.cpu_us, floor.cpu_us)
        for ours, floor in pairs
        if ours.cpu_us is not None and floor.cpu_us is not None
    ]
    if not costs:
        return Figure(what=what, unit="µs", value=None, floor=None, times=None, beside=beside)
    return _compare(what, "µs", costs, [cost / floor for cost, floor in costs], beside)


def compare_times(what: str, pairs: Iterable[tuple[float, float]], beside: str) -> Figure:
    """Compare durations; the pairs are in seconds."""
    times = [(1e3 * took, 1e3 * floor) for took, floor in pairs]
    return _compare(what, "ms", times, [took / floor for took, floor in times], beside)


def _compare(
    what: str,
    unit: str,
    pairs: list[tuple[float, float]],
    times: list[float],
    beside: str,
) -> Figure:
    """Return medians over the rounds; each ratio compares measurements of the same round."""
    return Figure(
        what=what,
        unit=unit,
        value=statistics.median(value for value, _ in pairs),
        floor=statistics.median(floor for _, floor in pairs),
        times=statistics.median(times),
        beside=beside,
    )


def _shown(number: float | None, unit: str = "") -> str:
    if number is None:
        return "n/a"
    return f"{number:,.{0 if number >= 1_000 else 1 if number >= 10 else 2}f}{unit}"
