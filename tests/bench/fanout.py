"""Fan-out: what it costs to send every transition of a batch to all who watch it.

Batches run to their end, and their watches with them: so it is known that every watcher has
received every transition, and when, although none of them decodes anything.
What the reports themselves cost is measured without a watch.
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
from tests.bench.peer import Peer
from tests.bench.sides import REPORT, Side, both, drive
from tests.bench.turns import Effort, Stopwatch, Turn, repeat
from tests.watches.pipeline import STAGES

_DOCUMENTS = 20  # that a call brings through all stages
_IN_FLIGHT = 4
_MAX_CALLS = MAX_DOCUMENTS // _DOCUMENTS


@dataclass(frozen=True, kw_only=True, slots=True)
class _Round:
    """What went to all watchers together, and what the parts of that cost by themselves.

    `sent` and `written` count messages, `reported` the reports.
    """

    deliveries: int
    message_bytes: int
    sent: Turn
    reported: Turn
    written: Turn


async def measure(directory: Path, effort: Effort) -> AsyncIterator[Figure]:
    """Yield the figures for each number of watches."""
    async with (
        peer.running("watchers") as crowd,
        both(directory / "fanout.db") as (ours, bare),
        Client(ours.address) as client,
    ):
        for watches in effort.watches:
            load = _Load(watches, effort.seconds, ours, bare, client, crowd)
            await load.round()  # tells how many reports there is time for
            for figure in _figures(watches, await repeat(load.round, effort)):
                yield figure


def _figures(watches: int, rounds: Sequence[_Round]) -> Iterator[Figure]:
    net = [(r.sent.without(r.reported), r.written) for r in rounds]
    yield compare_rates(
        f"deliveries to {named(watches)}",
        [(r.sent.counting(r.deliveries), _in_turn(r)) for r in rounds],
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
        f"its share of that: a message bears {rounds[-1].deliveries // rounds[-1].sent.count}",
    )


def named(watches: int) -> str:
    """Return the number of watches in words."""
    return "1 watch" if watches == 1 else f"{watches:,} watches"


def _in_turn(r: _Round) -> Turn:
    """Return what the parts took by themselves."""
    return r.written.counting(r.deliveries).followed_by(r.reported)


class _Load:
    """Reports on a batch that so many watch, and the floors of that."""

    def __init__(
        self, watches: int, seconds: float, ours: Side, bare: Side, client: Client, crowd: Peer
    ) -> None:
        self._watches = watches
        self._seconds = seconds
        self._ours = ours
        self._bare = bare
        self._client = client
        self._crowd = crowd
        self._calls = 1  # in a turn

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

    async def _send(self, work: Work) -> tuple[Turn, dict[str, Any]]:
        """Report on a batch to its end, and wait until the last watch has ended."""
        await self._open(self._ours, watchers.WATCH, work.watch())
        watch = Stopwatch(self._ours.pid)
        received, _ = await asyncio.gather(self._crowd.ask(do="drain"), self._drive(work))
        if received["transitions"] != len(work.document_ids) * len(STAGES):
            raise AssertionError(f"{received} of {len(work.document_ids)} documents")
        return watch.stop(received["messages"], ended=received["ended_s"]), received

    async def _report(self, work: Work) -> Turn:
        """Report as much on a batch that nobody watches."""
        watch = Stopwatch(self._ours.pid)
        await self._drive(work)
        return watch.stop(len(work.document_ids) * len(STAGES))

    async def _write(self, messages: int, size: int) -> Turn:
        """Have the bare server write as much to as many streams."""
        await self._open(self._bare, bare_grpc.WATCH, b"")
        publish = self._bare.call(bare_grpc.PUBLISH)
        each = max(1, round(messages / self._watches))
        watch = Stopwatch(self._bare.pid)
        received, _ = await asyncio.gather(
            self._crowd.ask(do="drain"),
            publish(bare_grpc.published(each, size // messages, over=True)),
        )
        return watch.stop(received["messages"], ended=received["ended_s"])

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
    """Return how many calls would have taken as long as they should."""
    return max(1, round(calls / times_too_long))
