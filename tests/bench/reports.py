"""Durable reports: one at a time, many calls under way, many reports in a call.

Beside them stands what a call costs that says nothing, and what rows cost that nobody looks at.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stagecast.client import Client
from tests.bench import bare_grpc, blind_rows
from tests.bench.batches import MAX_DOCUMENTS, check_applied, make_work
from tests.bench.figures import Figure, compare_cpu, compare_rates
from tests.bench.sides import REPORT, Side, both, drive
from tests.bench.turns import Effort, Stopwatch, Turn, repeat
from tests.watches.pipeline import STAGES


@dataclass(frozen=True, kw_only=True, slots=True)
class _Manner:
    """How reports are sent."""

    name: str
    in_flight: int
    per_call: int

    @property
    def at_once(self) -> int:
        """How many reports are under way."""
        return self.in_flight * self.per_call


_MANNERS = (
    _Manner(name="one at a time", in_flight=1, per_call=1),
    _Manner(name="one by one, 64 under way", in_flight=64, per_call=1),
    _Manner(name="in calls of 100, 4 under way", in_flight=4, per_call=100),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Round:
    reported: Turn
    called: Turn
    appended: Turn


async def measure(directory: Path, effort: Effort) -> AsyncIterator[Figure]:
    """Yield the figures of each manner."""
    async with both(directory / "reports.db") as (ours, bare), Client(ours.address) as client:
        for manner in _MANNERS:
            load = _Load(manner, effort.seconds, ours, bare, client, directory / "rows.db")
            await load.report()  # tells how many reports there is time for
            for figure in _figures(manner, await repeat(load.round, effort)):
                yield figure


def _figures(manner: _Manner, rounds: Sequence[_Round]) -> Iterator[Figure]:
    calls = [(r.reported, r.called) for r in rounds]
    rows = [(r.reported, r.appended) for r in rounds]
    call = "an empty call" + (f" for {manner.per_call}" if manner.per_call > 1 else "")
    row = f"a blind row, {manner.at_once} a commit"
    yield compare_rates(f"reports {manner.name}", calls, call)
    yield compare_rates("", rows, row)
    yield compare_cpu("  CPU a report", calls, call)
    yield compare_cpu("", rows, row)


class _Load:
    """Reports in one manner, and its floors."""

    def __init__(
        self, manner: _Manner, seconds: float, ours: Side, bare: Side, client: Client, rows: Path
    ) -> None:
        self._manner = manner
        self._seconds = seconds
        self._ours = ours
        self._bare = bare
        self._client = client
        self._rows = rows
        self._expected = 1_000  # reports in a turn

    async def round(self) -> _Round:
        reported = await self.report()
        called = await self._call_empty()
        return _Round(reported=reported, called=called, appended=self._append(reported.count))

    async def report(self) -> Turn:
        """Report on fresh documents, as often as there is time for."""
        manner = self._manner
        # A stage of all documents takes more calls than are under way.
        documents = max(2 * manner.at_once, self._expected // len(STAGES))
        documents -= documents % manner.per_call
        work = await make_work(self._client, min(documents, MAX_DOCUMENTS))
        requests = list(work.by_stage(manner.per_call))
        watch = Stopwatch(self._ours.pid)
        answers = await drive(
            self._ours.call(REPORT), requests, in_flight=manner.in_flight, seconds=self._seconds
        )
        turn = watch.stop(len(answers) * manner.per_call)
        check_applied(work, answers, turn.count)
        self._expected = round(1.5 * turn.rate * self._seconds)
        return turn

    async def _call_empty(self) -> Turn:
        """Make empty calls, as often as there is time for."""
        watch = Stopwatch(self._bare.pid)
        answers = await drive(
            self._bare.call(bare_grpc.NOTHING),
            itertools.repeat(b""),
            in_flight=self._manner.in_flight,
            seconds=self._seconds,
        )
        return watch.stop(len(answers) * self._manner.per_call)

    def _append(self, rows: int) -> Turn:
        """Append as many rows, in commits of as many as were under way."""
        watch = Stopwatch(os.getpid())
        blind_rows.append(self._rows, rows, commit_every=self._manner.at_once)
        return watch.stop(rows)
