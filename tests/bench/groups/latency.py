"""Latency: until a lone transition has reached all watches, and of reads while many are served."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Iterable

from stagecast.v1 import status_service_pb2 as s
from tests.bench.group import Part
from tests.bench.load.batches import make_work
from tests.bench.load.calls import GET_BATCH, REPORT, WATCH
from tests.bench.load.http2 import Connection, call, open_connections
from tests.bench.load.in_flight import watching
from tests.bench.load.lone import Lone, report_alone, write_alone
from tests.bench.rounds import interleave
from tests.bench.servers import Bench
from tests.bench.table import Figure, Row
from tests.process import ServerProcess
from tests.watches.pipeline import STAGES

_MANY = 1_000
_OFFERED_EVERY_S = 1 / 20
_READ_EVERY_S = 1 / 50

_ALONE = {
    1: Figure(
        name="Lone transition, sent until received by 1 watch",
        unit="ms",
        against="empty aio call, then a lone write",
        must=2.2,
        beyond=1.7,
    ),
    _MANY: Figure(
        name="Lone transition, sent until received by 1,000 watches on own connections",
        unit="ms",
        against="empty aio call, then a lone write each",
        must=1.5,
        beyond=1.2,
    ),
}
_READS = Figure(
    name="p99 of `GetBatch` while 1,000 watches are offered 20 transitions/s",
    unit="ms",
    against="a round of lone writes of the aio server",
    must=4,
    beyond=2,
)


async def _measure_lone(bench: Bench) -> AsyncIterator[Row]:
    for watches, figure in _ALONE.items():
        events = bench.effort.choose(quick=4, full=12) * (5 if watches == 1 else 1)
        yield figure.row(await _lone_latencies(bench, watches, events))


async def _lone_latencies(bench: Bench, watches: int, events: int) -> list[tuple[float, float]]:
    """Return the medians of both in each round, in milliseconds."""
    async with bench.stagecast(f"lone-{watches}") as server, bench.floor("grpc_server") as floor:
        address = await floor.ask()
        samples = await interleave(
            bench.effort.rounds,
            lambda: report_alone(server.process.pid, server.grpc, watches, events, watches),
            lambda: write_alone(floor.pid, address, watches, events, watches),
        )
    return [(_median_ms(ours), _median_ms(theirs)) for ours, theirs in samples]


def _median_ms(lone: Lone) -> float:
    return statistics.median(lone.latencies_s) * 1e3


async def _measure_reads(bench: Bench) -> AsyncIterator[Row]:
    seconds = 4  # reads wait the longer, the longer too much is offered
    events = bench.effort.choose(quick=3, full=6)
    async with bench.stagecast("reads") as server, bench.floor("grpc_server") as floor:
        address = await floor.ask()
        samples = await interleave(
            bench.effort.rounds,
            lambda: _read_under_load(server, seconds),
            lambda: write_alone(floor.pid, address, _MANY, events, _MANY),
        )
        yield _READS.row((p99 * 1e3, _median_ms(theirs)) for p99, theirs in samples)


async def _read_under_load(server: ServerProcess, seconds: int) -> float:
    """Return the 99th percentile of the times of reads, of another batch."""
    async with open_connections(server.grpc, 2) as [reporting, reading]:
        work = await make_work(reporting, round(seconds / _OFFERED_EVERY_S) // len(STAGES) + 1)
        other = await make_work(reporting, 5)
        read = s.GetBatchRequest(**other.names).SerializeToString()
        async with watching(server.grpc, WATCH, work.watch(), _MANY, connections=_MANY) as streams:
            await streams.expect_messages(1)
            _, times_s = await asyncio.gather(
                _offer(reporting, REPORT, work.by_stage(1), _OFFERED_EVERY_S, seconds),
                _offer(reading, GET_BATCH, itertools.repeat(read), _READ_EVERY_S, seconds),
            )
    return statistics.quantiles(times_s, n=100, method="inclusive")[-1]


async def _offer(
    connection: Connection, path: str, requests: Iterable[bytes], every_s: float, seconds: int
) -> list[float]:
    """Make calls at a fixed rate, whether or not those before are answered; return their times."""
    calls: list[asyncio.Task[float]] = []
    began = time.perf_counter()
    for number, request in enumerate(requests):
        if number * every_s >= seconds:
            break
        due = began + number * every_s
        await asyncio.sleep(due - time.perf_counter())
        calls.append(asyncio.create_task(_time(connection, path, request, due)))
    return await asyncio.gather(*calls)


async def _time(connection: Connection, path: str, request: bytes, due: float) -> float:
    """Return how long after it was due a call is answered."""
    await call(connection, path, request)
    return time.perf_counter() - due


PARTS = (
    Part(figures=tuple(_ALONE.values()), measure=_measure_lone),
    Part(figures=(_READS,), measure=_measure_reads),
)
