"""Deliveries: the CPU of sending a transition to a watch of its batch, less that of the report."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from itertools import islice

from stagecast.v1 import status_service_pb2 as s
from tests.bench.floors import grpc_server
from tests.bench.group import Part
from tests.bench.load.batches import make_work
from tests.bench.load.calls import REPORT, WATCH
from tests.bench.load.http2 import Stream, call, open_connection
from tests.bench.load.in_flight import watching
from tests.bench.load.lone import (
    MESSAGE_BYTES,
    cpu_of_delivery_us,
    pause_s,
    report_alone,
    write_alone,
)
from tests.bench.machine import cpu_s
from tests.bench.rounds import interleave
from tests.bench.servers import Bench
from tests.bench.table import Figure, Row
from tests.process import ServerProcess
from tests.watches.pipeline import STAGES

_CONNECTIONS = 8
_BURST = 200  # transitions of a call
_BURST_DOCUMENTS = _BURST // len(STAGES)
_BURST_WATCHES = 100
_IN_A_ROW = 50  # writes to each stream of the floor
_TIMEOUT_S = 60

_LONE = {
    watches: Figure(
        name=f"CPU of a lone delivery, {watches:,} watches on 8 connections",
        unit="µs",
        against="lone write of an aio server to as many streams",
        must=1.6,
        beyond=1.2,
    )
    for watches in (100, 1_000)
}
_IN_BURST = Figure(
    name="CPU of a delivered transition, a burst of 200 to 100 watches",
    unit="µs",
    against="one of many writes in a row",
    must=1 / 60,
    beyond=1 / 100,
)


async def _measure_lone(bench: Bench) -> AsyncIterator[Row]:
    for watches, figure in _LONE.items():
        events = bench.effort.choose(quick=4, full=20 if watches <= 100 else 10)
        yield figure.row(await _lone_deliveries(bench, watches, events))


async def _lone_deliveries(
    bench: Bench, watches: int, events: int
) -> Sequence[tuple[float, float]]:
    """Return the CPU of a delivery and of a lone write, in each round."""
    async with bench.stagecast(f"lone-{watches}") as server, bench.floor("grpc_server") as floor:
        floor_address = await floor.ask()
        return await interleave(
            bench.effort.rounds,
            lambda: cpu_of_delivery_us(
                partial(report_alone, server.process.pid, server.grpc, _CONNECTIONS, events),
                watches,
            ),
            lambda: cpu_of_delivery_us(
                partial(write_alone, floor.pid, floor_address, _CONNECTIONS, events), watches
            ),
        )


async def _measure_burst(bench: Bench) -> AsyncIterator[Row]:
    bursts = bench.effort.choose(quick=5, full=20)
    async with bench.stagecast("burst") as server, bench.floor("grpc_server") as floor:
        floor_address = await floor.ask()

        async def deliver() -> float:
            watched = await _report_bursts(server, _BURST_WATCHES, bursts)
            unwatched = await _report_bursts(server, 0, bursts)
            return (watched - unwatched) / (bursts * _BURST * _BURST_WATCHES) * 1e6

        async def write() -> float:
            cpu = await _write_in_a_row(floor.pid, floor_address, _BURST_WATCHES)
            return cpu / (_IN_A_ROW * _BURST_WATCHES) * 1e6

        yield _IN_BURST.row(await interleave(bench.effort.rounds, deliver, write))


async def _report_bursts(server: ServerProcess, watches: int, bursts: int) -> float:
    """Return the seconds of CPU for bursts of reports, until all watches have received them."""
    pid = server.process.pid
    async with open_connection(server.grpc) as connection:
        # One document is left open, since the end of the watches is not to be measured.
        work = await make_work(connection, bursts * _BURST_DOCUMENTS + 1)
        async with watching(
            server.grpc, WATCH, work.watch(), watches, connections=_CONNECTIONS, keep=True
        ) as streams:
            await streams.expect_messages(1)
            before = cpu_s(pid)
            requests = islice(work.by_documents(_BURST_DOCUMENTS), bursts)
            for number, request in enumerate(requests, start=1):
                reached = streams.expect(partial(_has_revision, work.revision + number * _BURST))
                async with asyncio.timeout(_TIMEOUT_S):
                    await call(connection, REPORT, request)
                    await reached
                await asyncio.sleep(pause_s(watches))
            return cpu_s(pid) - before


def _has_revision(revision: int, stream: Stream) -> bool:
    return s.WatchBatchResponse.FromString(stream.last).revision >= revision


async def _write_in_a_row(pid: int, address: str, watches: int) -> float:
    """Return the seconds of CPU for many writes in a row to each stream of the floor."""
    async with (
        open_connection(address) as connection,
        watching(address, grpc_server.WATCH, b"", watches, connections=_CONNECTIONS) as streams,
    ):
        before = cpu_s(pid)
        reached = streams.expect_messages(_IN_A_ROW)
        request = grpc_server.published(_IN_A_ROW, MESSAGE_BYTES)
        async with asyncio.timeout(_TIMEOUT_S):
            await call(connection, grpc_server.PUBLISH, request)
            await reached
        return cpu_s(pid) - before


PARTS = (
    Part(figures=tuple(_LONE.values()), measure=_measure_lone),
    Part(figures=(_IN_BURST,), measure=_measure_burst),
)
