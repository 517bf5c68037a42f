"""Durable reports: one at a time, many concurrent calls, many reports in a call.

The floors are empty calls, and rows appended to a plain table.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stagecast.client import Client
from tests.bench import bare_grpc, bare_rows
from tests.bench.batches import MAX_DOCUMENTS, check_applied, make_work
from tests.bench.figures import Figure, compare_cpu, compare_rates
from tests.bench.measurement import Effort, Measurement, Stopwatch, repeat
from tests.bench.sides import REPORT, Side, both, drive
from tests.watches.pipeline import STAGES


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pattern:
    """How reports are sent."""

    name: str
    in_flight: int
    per_call: int

    @property
    def at_once(self) -> int:
        """How many reports are in flight."""
        return self.in_flight * self.per_call


_PATTERNS = (
    _Pattern(name="one at a time", in_flight=1, per_call=1),
    _Pattern(name="one by one, 64 in flight", in_flight=64, per_call=1),
    _Pattern(name="in calls of 100, 4 in flight", in_flight=4, per_call=100),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Round:
    reported: Measurement
    called: Measurement
    appended: Measurement


async def measure(directory: Path, effort: Effort) -> AsyncIterator[Figure]:
    """Yield the figures of each pattern."""
    async with both(directory / "reports.db") as (ours, bare), Client(ours.address) as client:
        for pattern in _PATTERNS:
            load = _Load(pattern, effort.seconds, ours, bare, client, directory / "rows.db")
            await load.report()  # finds out how many reports fit the time
            for figure in _figures(pattern, await repeat(load.round, effort)):
                yield figure


def _figures(pattern: _Pattern, rounds: Sequence[_Round]) -> Iterator[Figure]:
    calls = [(r.reported, r.called) for r in rounds]
    rows = [(r.reported, r.appended) for r in rounds]
    call = "an empty call" + (f" for {pattern.per_call}" if pattern.per_call > 1 else "")
    row = f"a plain row, {pattern.at_once} a commit"
    yield compare_rates(f"reports {pattern.name}", calls, call)
    yield compare_rates("", rows, row)
    yield compare_cpu("  CPU a report", calls, call)
    yield compare_cpu("", rows, row)


class _Load:
    """Reports in one pattern, and its floors."""

    def __init__(
        self, pattern: _Pattern, seconds: float, ours: Side, bare: Side, client: Client, rows: Path
    ) -> None:
        self._pattern = pattern
        self._seconds = seconds
        self._ours = ours
        self._bare = bare
        self._client = client
        self._rows = rows
        self._expected = 1_000  # reports in a measurement

    async def round(self) -> _Round:
        reported = await self.report()
        called = await self._call_empty()
        return _Round(reported=reported, called=called, appended=self._append(reported.count))

    async def report(self) -> Measurement:
        """Report on new documents until the time is over."""
        pattern = self._pattern
        # A stage of all documents needs more calls than are in flight.
        documents = max(2 * pattern.at_once, self._expected // len(STAGES))
        documents -= documents % pattern.per_call
        work = await make_work(self._client, min(documents, MAX_DOCUMENTS))
        requests = list(work.by_stage(pattern.per_call))
        stopwatch = Stopwatch(self._ours.pid)
        answers = await drive(
            self._ours.call(REPORT), requests, in_flight=pattern.in_flight, seconds=self._seconds
        )
        measurement = stopwatch.stop(len(answers) * pattern.per_call)
        check_applied(work, answers, measurement.count)
        self._expected = round(1.5 * measurement.rate * self._seconds)
        return measurement

    async def _call_empty(self) -> Measurement:
        """Make empty calls until the time is over."""
        stopwatch = Stopwatch(self._bare.pid)
        answers = await drive(
            self._bare.call(bare_grpc.NOTHING),
            itertools.repeat(b""),
            in_flight=self._pattern.in_flight,
            seconds=self._seconds,
        )
        return stopwatch.stop(len(answers) * self._pattern.per_call)

    def _append(self, rows: int) -> Measurement:
        """Append as many rows, in commits of as many as were in flight."""
        stopwatch = Stopwatch(os.getpid())
        bare_rows.append(self._rows, rows, commit_every=self._pattern.at_once)
        return stopwatch.stop(rows)
