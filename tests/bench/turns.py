"""Turns of load: what is measured and its floors take them one after the other, for some rounds.

So whatever else the machine does hits all alike.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

T = TypeVar("T")

_TIMEOUT = 10  # times the length of a turn that a round may take


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """How much is done for a figure.

    `seconds` is about how long a turn lasts, `rounds` how many there are at most, `watches` the
    numbers of watches that share a batch.
    """

    seconds: float
    rounds: int
    watches: Sequence[int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """What was done in one turn; `cpu_s` is what the serving process used, if that can be known."""

    count: int
    elapsed_s: float
    cpu_s: float | None

    @property
    def rate(self) -> float:
        """How many were done in a second."""
        return self.count / self.elapsed_s

    @property
    def cpu_us(self) -> float | None:
        """What one of them cost, in microseconds of CPU."""
        return None if self.cpu_s is None else self.cpu_s / self.count * 1e6

    def counting(self, count: int) -> Turn:
        """Return the same turn by the count of something else that was done in it."""
        return replace(self, count=count)

    def followed_by(self, other: Turn) -> Turn:
        """Return both turns as one, which counts what this one does."""
        return replace(self, elapsed_s=self.elapsed_s + other.elapsed_s, cpu_s=None)

    def without(self, other: Turn) -> Turn:
        """Return what this turn cost more than another; unknown where that drowns in the noise."""
        if self.cpu_s is None or other.cpu_s is None or self.cpu_s <= other.cpu_s:
            return replace(self, cpu_s=None)
        return replace(self, cpu_s=self.cpu_s - other.cpu_s)


class Stopwatch:
    """Measures a turn that a process serves, from when it is made."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._cpu_s = _cpu_s(pid)
        self._started = time.perf_counter()

    def stop(self, count: int, *, ended: float | None = None) -> Turn:
        """Return the turn, which may have ended some time ago by `perf_counter`."""
        elapsed_s = (ended or time.perf_counter()) - self._started
        cpu_s = _cpu_s(self._pid)
        if cpu_s is not None and self._cpu_s is not None:
            cpu_s -= self._cpu_s
        return Turn(count=count, elapsed_s=elapsed_s, cpu_s=cpu_s)


async def repeat(one_round: Callable[[], Awaitable[T]], effort: Effort) -> list[T]:
    """Return what the rounds gave: fewer than wanted where they take too long, but at least one."""
    over = time.monotonic() + _TIMEOUT * effort.rounds * effort.seconds
    rounds = [await one_round()]
    while len(rounds) < effort.rounds and time.monotonic() < over:
        rounds.append(await one_round())
    return rounds


def _cpu_s(pid: int) -> float | None:
    """Return the seconds of CPU that a process has used, on Linux.

    `/proc` tells them in steps of 10 ms, the clock of the process in nanoseconds. Its number is
    what `clock_getcpuclockid` would return, which Python does not have.
    """
    return time.clock_gettime((~pid << 3) | 2) if sys.platform == "linux" else None
