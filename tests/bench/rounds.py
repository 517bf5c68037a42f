"""Rounds: in each, stagecast and what it is compared with are measured one after the other.

So other load of the machine affects both alike.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from tests.bench.machine import cpu_s

T = TypeVar("T")
U = TypeVar("U")

_TRIED = 32  # repetitions that find out how many fit the time


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """How much is done for a figure: `seconds` is about the length of one measurement."""

    rounds: int
    seconds: float
    quick: bool

    def choose(self, quick: int, full: int) -> int:
        """Return the size of a measurement that has a size instead of a length."""
        return quick if self.quick else full


def cpu_pairs(samples: Iterable[tuple[Sample, Sample]]) -> list[tuple[float, float]]:
    """Return the microseconds of CPU for one, of both in each round."""
    return [(ours.cpu_us, theirs.cpu_us) for ours, theirs in samples]


async def interleave(
    rounds: int, ours: Callable[[], Awaitable[T]], against: Callable[[], Awaitable[U]]
) -> list[tuple[T, U]]:
    """Measure both in each round; which of them is first alternates."""
    pairs: list[tuple[T, U]] = []
    for number in range(rounds):
        if number % 2 == 0:
            mine = await ours()
            theirs = await against()
        else:
            theirs = await against()
            mine = await ours()
        pairs.append((mine, theirs))
    return pairs


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """How many were done, in what time, and with how much CPU of the server."""

    count: int
    elapsed_s: float
    cpu_s: float

    @property
    def rate(self) -> float:
        """How many were done in a second."""
        return self.count / self.elapsed_s

    @property
    def cpu_us(self) -> float:
        """The microseconds of CPU for one."""
        return self.cpu_s / self.count * 1e6


class Stopwatch:
    """Measures a server process from its creation on."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._cpu_s = cpu_s(pid)
        self._started = time.perf_counter()

    def stop(self, count: int, *, ended: float | None = None) -> Sample:
        """Return the sample; `ended` is an earlier end by `perf_counter`."""
        elapsed_s = (ended or time.perf_counter()) - self._started
        return Sample(count=count, elapsed_s=elapsed_s, cpu_s=cpu_s(self._pid) - self._cpu_s)


class Repeated:
    """Does something as often as fits the time, and measures the server process meanwhile.

    Args:
        pid: the server process.
        seconds: about how long a measurement takes.
        repeat: does it so many times.
    """

    def __init__(
        self, pid: int, seconds: float, repeat: Callable[[int], Awaitable[object]]
    ) -> None:
        self._pid = pid
        self._seconds = seconds
        self._repeat = repeat
        self._count = 0

    async def measure(self) -> Sample:
        """Return the next sample; the first measurement also finds out how many fit."""
        if not self._count:
            self._count = _TRIED
            self._count = max(_TRIED, round((await self._sample()).rate * self._seconds))
        return await self._sample()

    async def _sample(self) -> Sample:
        stopwatch = Stopwatch(self._pid)
        await self._repeat(self._count)
        return stopwatch.stop(self._count)
