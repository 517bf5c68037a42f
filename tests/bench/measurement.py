"""Measurements in rounds: in each, stagecast and its floors are measured one after the other.

So other load of the machine affects all of them alike.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

T = TypeVar("T")

_MAX_TIMES = 10  # the length of a measurement that a round may take


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """How much is done for a figure.

    `seconds` is the approximate length of a measurement, `rounds` their maximum number, `watches`
    the numbers of watches of a batch.
    """

    seconds: float
    rounds: int
    watches: Sequence[int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """How many were done in what time; `cpu_s` is the CPU of the server, if it can be measured."""

    count: int
    elapsed_s: float
    cpu_s: float | None

    @property
    def rate(self) -> float:
        """How many were done in a second."""
        return self.count / self.elapsed_s

    @property
    def cpu_us(self) -> float | None:
        """The cost of one in microseconds of CPU."""
        return None if self.cpu_s is None else self.cpu_s / self.count * 1e6

    def counting(self, count: int) -> Measurement:
        """Return the same measurement with the count of something else done in it."""
        return replace(self, count=count)

    def followed_by(self, other: Measurement) -> Measurement:
        """Return both measurements as one, with the count of this one."""
        return replace(self, elapsed_s=self.elapsed_s + other.elapsed_s, cpu_s=None)

    def without(self, other: Measurement) -> Measurement:
        """Subtract the CPU of another measurement; unknown if the difference drowns in noise."""
        if self.cpu_s is None or other.cpu_s is None or self.cpu_s <= other.cpu_s:
            return replace(self, cpu_s=None)
        return replace(self, cpu_s=self.cpu_s - other.cpu_s)


class Stopwatch:
    """Measures the load of a server process, from its creation on."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._cpu_s = _cpu_s(pid)
        self._started = time.perf_counter()

    def stop(self, count: int, *, ended: float | None = None) -> Measurement:
        """Return the measurement; `ended` is an earlier end by `perf_counter`."""
        elapsed_s = (ended or time.perf_counter()) - self._started
        cpu_s = _cpu_s(self._pid)
        if cpu_s is not None and self._cpu_s is not None:
            cpu_s -= self._cpu_s
        return Measurement(count=count, elapsed_s=elapsed_s, cpu_s=cpu_s)


async def repeat(one_round: Callable[[], Awaitable[T]], effort: Effort) -> list[T]:
    """Return the results of the rounds: fewer if they take too long, but at least one."""
    end = time.monotonic() + _MAX_TIMES * effort.rounds * effort.seconds
    rounds = [await one_round()]
    while len(rounds) < effort.rounds and time.monotonic() < end:
        rounds.append(await one_round())
    return rounds


def _cpu_s(pid: int) -> float | None:
    """Return the seconds of CPU that a process has used, on Linux.

    `/proc` has steps of 10 ms, the CPU clock of the process nanoseconds. Its number is that of
    `clock_getcpuclockid`, which Python lacks.
    """
    return time.clock_gettime((~pid << 3) | 2) if sys.platform == "linux" else None
