"""Fan-out: the cost of sending every transition of a batch to all its watches.

Batches run to their end, and so do their watches. So it is known when every watch has received
every transition, although none of them decodes anything.
The cost of the reports themselves is measured without a watch.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagecast.client import Client
from tests.bench import bare_grpc, peer, watchers
from tests.bench.batches import MAX_DOCUMENTS, Work, check_applied, make_work
from tests.bench.figures import Figure, compare_cpu, compare_rates
from tests.bench.measurement import Effort, Measurement, Stopwatch, repeat
from tests.bench.peer import Peer
from tests.bench.sides import REPORT, Side, both, drive
from tests.watches.pipeline import STAGES

_DOCUMENTS = 20  # taken through all stages by a call
_IN_FLIGHT = 4
_MAX_CALLS = MAX_DOCUMENTS // _DOCUMENTS


@dataclass(frozen=True, kw_only=True, slots=True)
class _Round:
    """The cost of reports with watches, and of its parts alone.

    `sent` and `written` count messages, `reported` counts reports.
    """

    deliveries: int
    message_bytes: int
    sent: Measurement
    reported: Measurement
    written: Measurement


async def measure(directory: Path, effort: Effort) -> AsyncIterator[Figure]:
    """Yield the figures for each number of watches."""
    async with (
        peer.running("watchers") as crowd,
        both(directory / "fanout.db") as (ours, bare),
        Client(ours.address) as client,
    ):
        for watches in effort.watches:
            load = _Load(watches, effort.seconds, ours, bare, client, crowd)
            await load.round()  # finds out how many reports fit the time
            for figure in _figures(watches, await repeat(load.round, effort)):
                yield figure


def _figures(watches: int, rounds: Sequence[_Round]) -> Iterator[Figure]:
    net = [(r.sent.without(r.reported), r.written) for r in rounds]
    yield compare_rates(
        f"deliveries to {named(watches)}",
        [(r.sent.counting(r.deliveries), _parts(r)) for r in rounds],
        "as many reports unwatched, then the empty writes",
    )
    yield compare_cpu(
        "  CPU a message, less that of the reports",
        net,
        f"an empty write of {rounds[-1].message_bytes:,} bytes",
    )
    yield compare_cpu(
        "  CPU a delivery",
        [
            (ours.counting(r.deliveries), bare.counting(r.deliveries))
            for r, (ours, bare) in zip(rounds, net, strict=True)
        ],
        f"its share of that: a message has {rounds[-1].deliveries // rounds[-1].sent.count}",
    )


def named(watches: int) -> str:
    """Return the number of watches in words."""
    return "1 watch" if watches == 1 else f"{watches:,} watches"


def _parts(r: _Round) -> Measurement:
    """Return the cost of the parts, one after the other."""
    return r.written.counting(r.deliveries).followed_by(r.reported)


class _Load:
    """Reports on a batch with so many watches, and their floors."""

    def __init__(
        self, watches: int, seconds: float, ours: Side, bare: Side, client: Client, crowd: Peer
    ) -> None:
        self._watches = watches
        self._seconds = seconds
        self._ours = ours
        self._bare = bare
        self._client = client
        self._crowd = crowd
        self._calls = 1  # in a measurement

    async def round(self) -> _Round:
        work = await make_work(self._client, self._calls * _DOCUMENTS)
        sent, received = await self._send(work)
        again = await make_work(self._client, len(work.document_ids))
        reported = await self._report(again)
        written = await self._write(received["messages"], received["bytes"])
        self._calls = min(_MAX_CALLS, _fitting(self._calls, sent.elapsed_s / self._seconds))
        return _Round(
            deliveries=self._watches * received["transitions"],
            message_bytes=received["bytes"] // received["messages"],
            sent=sent,
            reported=reported,
            written=written,
        )

    async def _send(self, work: Work) -> tuple[Measurement, dict[str, Any]]:
        """Report on a batch to its end, and wait for the end of the last watch."""
        await self._open(self._ours, watchers.WATCH, work.watch())
        stopwatch = Stopwatch(self._ours.pid)
        received, _ = await asyncio.gather(self._crowd.ask(do="drain"), self._drive(work))
        if received["transitions"] != len(work.document_ids) * len(STAGES):
            raise AssertionError(f"{received} of {len(work.document_ids)} documents")
        return stopwatch.stop(received["messages"], ended=received["ended_s"]), received

    async def _report(self, work: Work) -> Measurement:
        """Send as many reports on a batch without watches."""
        stopwatch = Stopwatch(self._ours.pid)
        await self._drive(work)
        return stopwatch.stop(len(work.document_ids) * len(STAGES))

    async def _write(self, messages: int, size: int) -> Measurement:
        """Let the bare server write as much to as many streams."""
        await self._open(self._bare, bare_grpc.WATCH, b"")
        publish = self._bare.call(bare_grpc.PUBLISH)
        each = max(1, round(messages / self._watches))
        stopwatch = Stopwatch(self._bare.pid)
        received, _ = await asyncio.gather(
            self._crowd.ask(do="drain"),
            publish(bare_grpc.published(each, size // messages, over=True)),
        )
        return stopwatch.stop(received["messages"], ended=received["ended_s"])

    async def _open(self, side: Side, method: str, request: bytes) -> None:
        await watchers.open_streams(self._crowd, side, method, request, self._watches)

    async def _drive(self, work: Work) -> None:
        answers = await drive(
            self._ours.call(REPORT),
            list(work.by_documents(_DOCUMENTS)),
            in_flight=_IN_FLIGHT,
            seconds=math.inf,
        )
        check_applied(work, answers, len(work.document_ids) * len(STAGES))


def _fitting(calls: int, times_too_long: float) -> int:
    """Return how many calls would have taken the intended time."""
    return max(1, round(calls / times_too_long))
