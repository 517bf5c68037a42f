"""Two processes on a file: more than one delivers, and how late one pushes what another wrote."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from functools import partial

from stagecast.v1 import status_service_pb2 as s
from tests.bench.group import Part
from tests.bench.load.batches import make_work
from tests.bench.load.calls import REPORT, WATCH
from tests.bench.load.deliveries import WATCHES, Deliveries
from tests.bench.load.http2 import Stream, call, open_connection
from tests.bench.load.in_flight import watching
from tests.bench.machine import NotMeasuredError
from tests.bench.rounds import interleave
from tests.bench.servers import Bench
from tests.bench.table import Figure, Row
from tests.watches.pipeline import STAGES

_CONNECTIONS = 16  # the system distributes them over the processes
_PAUSE_S = 0.05
_LIMIT_S = 0.05

_UNARY = Figure(
    name="Two processes, watched unary reports/s",
    unit="/s",
    against="one process on the same two cores",
    must=1.3,
    beyond=1.6,
    more_is_better=True,
)
_BY_100 = Figure(
    name="Two processes, deliveries/s in calls of 100",
    unit="/s",
    against="one process on the same two cores",
    must=1.1,
    beyond=1.6,
    more_is_better=True,
)
_PUSHED = Figure(
    name="A commit, pushed by another process, median after its answer",
    unit="ms",
    against="limit",
    must=1,
)


async def _measure_deliveries(bench: Bench) -> AsyncIterator[Row]:
    if len(bench.machine.server | bench.machine.load) == 1:
        raise NotMeasuredError("only one core")
    seconds = bench.effort.seconds
    async with (
        bench.stagecast("two", "--processes", "2", both_cores=True) as two,
        bench.stagecast("one", both_cores=True) as one,
    ):
        for figure, in_flight, per_call in ((_UNARY, 64, 1), (_BY_100, 4, 100)):
            ours, theirs = (
                Deliveries(
                    server.grpc,
                    seconds,
                    in_flight=in_flight,
                    per_call=per_call,
                    connections=_CONNECTIONS,
                )
                for server in (two, one)
            )
            with bench.machine.on_both_cores():
                await ours.measure()  # finds out how many fit the time
                await theirs.measure()
                samples = await interleave(bench.effort.rounds, ours.measure, theirs.measure)
            # Of unary reports, each is delivered to all watches.
            share = WATCHES if per_call == 1 else 1
            yield figure.row((ours / share, theirs / share) for ours, theirs in samples)


async def _measure_pushed(bench: Bench) -> AsyncIterator[Row]:
    events = bench.effort.choose(quick=10, full=30)
    async with bench.stagecast("shared") as one, bench.stagecast("shared") as other:
        rounds = [
            await _pushed_ms(one.grpc, other.grpc, events) for _ in range(bench.effort.rounds)
        ]
    yield _PUSHED.row([(after, _LIMIT_S * 1e3) for after in rounds])


async def _pushed_ms(reported_to: str, watched_at: str, events: int) -> float:
    """Return after how long a report's answer its transition has come from the other server."""
    times: list[float] = []
    async with open_connection(reported_to) as connection:
        work = await make_work(connection, events // len(STAGES))
        async with watching(
            watched_at, WATCH, work.watch(), 1, connections=1, keep=True
        ) as streams:
            await streams.expect_messages(1)
            for revision, request in enumerate(work.by_stage(1), start=work.revision + 1):
                received = streams.expect(partial(_has_revision, revision))
                await call(connection, REPORT, request)
                answered = time.perf_counter()
                times.append(max(1e-6, await received - answered))
                await asyncio.sleep(_PAUSE_S)
    return statistics.median(times) * 1e3


def _has_revision(revision: int, stream: Stream) -> bool:
    return s.WatchBatchResponse.FromString(stream.last).revision >= revision


PARTS = (
    Part(figures=(_UNARY, _BY_100), measure=_measure_deliveries),
    Part(figures=(_PUSHED,), measure=_measure_pushed),
)
