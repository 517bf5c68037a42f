"""Latency: how long a single report takes to reach all watches of its batch.

It is measured from the call, because the transition may arrive before the answer. The time of the
answer is printed as well, to show what lies between commit and delivery.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stagecast.client import Client
from tests.bench import bare_grpc, peer, watchers
from tests.bench.batches import make_work
from tests.bench.fanout import named
from tests.bench.figures import Figure, compare_times
from tests.bench.measurement import Effort, repeat
from tests.bench.peer import Peer
from tests.bench.sides import REPORT, Call, Side, both
from tests.watches.pipeline import STAGES

_DOCUMENTS = 2  # with a report for each stage, one after the other
_PAUSE_S = 0.02  # after which no work of the last report is left
_MESSAGE_BYTES = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class _Times:
    """Times of single calls in seconds: until the answer, and until all watches have it."""

    answered: float
    median: float
    p99: float


async def measure(directory: Path, effort: Effort) -> AsyncIterator[Figure]:
    """Yield the figures for each number of watches."""
    async with (
        peer.running("watchers") as crowd,
        both(directory / "latency.db") as (ours, bare),
        Client(ours.address) as client,
    ):
        for watches in effort.watches:
            lone = _Lone(watches, ours, bare, client, crowd)
            await lone.round()
            for figure in _figures(watches, await repeat(lone.round, effort)):
                yield figure


def _figures(watches: int, rounds: Sequence[tuple[_Times, _Times]]) -> Iterator[Figure]:
    yield compare_times(
        f"lone report to {named(watches)}, median",
        [(ours.median, bare.median) for ours, bare in rounds],
        "an empty call that has an empty write made",
    )
    yield compare_times("  99th percentile", [(ours.p99, bare.p99) for ours, bare in rounds], "")
    yield compare_times(
        "  its answer, median", [(ours.answered, bare.answered) for ours, bare in rounds], ""
    )


class _Lone:
    """Single reports on a batch with so many watches, and single writes of the bare server."""

    def __init__(self, watches: int, ours: Side, bare: Side, client: Client, crowd: Peer) -> None:
        self._watches = watches
        self._ours = ours
        self._bare = bare
        self._client = client
        self._crowd = crowd

    async def round(self) -> tuple[_Times, _Times]:
        return await self._report(), await self._write()

    async def _report(self) -> _Times:
        work = await make_work(self._client, _DOCUMENTS)
        await self._open(self._ours, watchers.WATCH, work.watch())
        # A resumed watch begins with a message at once, which is no report's.
        await self._crowd.ask(do="expect")
        await self._crowd.ask(do="arrival_times")
        return await self._time(self._ours.call(REPORT), work.by_stage(1))

    async def _write(self) -> _Times:
        await self._open(self._bare, bare_grpc.WATCH, b"")
        count = _DOCUMENTS * len(STAGES)
        requests = [
            bare_grpc.published(1, _MESSAGE_BYTES, over=number == count)
            for number in range(1, count + 1)
        ]
        return await self._time(self._bare.call(bare_grpc.PUBLISH), requests)

    async def _open(self, side: Side, method: str, request: bytes) -> None:
        await watchers.open_streams(self._crowd, side, method, request, self._watches)

    async def _time(self, call: Call, requests: Iterable[bytes]) -> _Times:
        """Make calls, each when the one before has reached all watches; then read to the end."""
        answered: list[float] = []
        received: list[float] = []
        for request in requests:
            await asyncio.sleep(_PAUSE_S)
            await self._crowd.ask(do="expect")
            began = time.perf_counter()
            await call(request)
            answered.append(time.perf_counter() - began)
            received += [at - began for at in await self._crowd.ask(do="arrival_times")]
        await self._crowd.ask(do="drain")
        return _Times(
            answered=statistics.median(answered),
            median=statistics.median(received),
            p99=statistics.quantiles(received, n=100, method="inclusive")[-1],
        )
