"""Throughput: transitions delivered in a second to 100 watches, beside etcd's Put and Watch."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator

from stagecast.v1 import status_service_pb2 as s
from tests.bench import etcd
from tests.bench.batches import make_work
from tests.bench.calls import REPORT, WATCH
from tests.bench.group import Part
from tests.bench.http2 import call, connect
from tests.bench.load import drive, watching
from tests.bench.rounds import interleave
from tests.bench.servers import Bench
from tests.bench.table import Figure, Row
from tests.watches.pipeline import STAGES

_WATCHES, _CONNECTIONS = 100, 8
_CALLING = 4  # connections for calls
_IN_FLIGHT = 64
_TIMEOUT_S = 120

_UNARY = Figure(
    name="Deliveries/s, 100 watches, unary reports, 64 in flight",
    unit="/s",
    against="etcd Put and Watch, 64 in flight",
    must=0.33,
    beyond=0.9,
    more_is_better=True,
)
_BY_100 = Figure(
    name="Deliveries/s, 100 watches, reports in calls of 100, 4 in flight",
    unit="/s",
    against="etcd Put and Watch, 64 in flight",
    must=5,
    beyond=8,
    more_is_better=True,
)


async def _measure(bench: Bench) -> AsyncIterator[Row]:
    seconds, rounds = bench.effort.seconds, bench.effort.rounds
    async with bench.etcd() as peer, bench.stagecast("throughput") as server:
        putting = EtcdDeliveries(peer, seconds)
        for figure, in_flight, per_call in ((_UNARY, _IN_FLIGHT, 1), (_BY_100, 4, 100)):
            ours = Deliveries(server.grpc, seconds, in_flight=in_flight, per_call=per_call)
            await ours.measure()  # finds out how many fit the time
            await putting.measure()
            yield figure.row(await interleave(rounds, ours.measure, putting.measure))


class Deliveries:
    """Reports on a watched batch, to its end; `reported` counts those of the last measurement."""

    def __init__(self, address: str, seconds: float, *, in_flight: int, per_call: int) -> None:
        self._address = address
        self._seconds = seconds
        self._in_flight = in_flight
        self._per_call = per_call
        # A stage of all documents needs more calls than are in flight.
        self._min_documents = 2 * in_flight * per_call
        self._documents = 0

    async def measure(self) -> float:
        """Return the deliveries in a second, until the last watch has received everything."""
        documents = max(self._min_documents, self._documents) // self._per_call * self._per_call
        calling = await connect(self._address, _CALLING)
        work = await make_work(calling[0], documents)
        requests = list(work.by_stage(self._per_call))
        async with watching(
            self._address, WATCH, work.watch(), _WATCHES, connections=_CONNECTIONS
        ) as streams:
            await streams.expect_messages(1)
            ended = streams.expect(lambda stream: stream.ended)
            began = time.perf_counter()
            async with asyncio.timeout(_TIMEOUT_S):
                await drive(calling, REPORT, requests, in_flight=self._in_flight)
                elapsed_s = await ended - began
            last = s.WatchBatchResponse.FromString(streams.all[0].last)
        for connection in calling:
            connection.close()
        reports = documents * len(STAGES)
        if last.revision != work.revision + reports:
            raise AssertionError(f"a watch ended at {last.revision} after {reports} reports")
        self._documents = round(documents * self._seconds / elapsed_s)
        return reports * _WATCHES / elapsed_s


class EtcdDeliveries:
    """Puts on a watched key of etcd."""

    def __init__(self, address: str, seconds: float) -> None:
        self._address = address
        self._seconds = seconds
        self._puts = 1_000

    async def measure(self) -> float:
        """Return the deliveries in a second, until the last watch has received everything."""
        calling = await connect(self._address, _CALLING)
        requests = itertools.repeat(etcd.put(), self._puts)
        async with watching(
            self._address,
            etcd.WATCH,
            etcd.watch(),
            _WATCHES,
            connections=_CONNECTIONS,
            half_open=True,
        ) as streams:
            await streams.expect_messages(1)
            reached = streams.expect(lambda stream: stream.tail == etcd.LAST)
            began = time.perf_counter()
            async with asyncio.timeout(_TIMEOUT_S):
                await drive(calling, etcd.PUT, requests, in_flight=_IN_FLIGHT)
                await call(calling[0], etcd.PUT, etcd.put(etcd.LAST))
                elapsed_s = await reached - began
        for connection in calling:
            connection.close()
        deliveries = (self._puts + 1) * _WATCHES
        self._puts = max(_IN_FLIGHT, round(self._puts * self._seconds / elapsed_s))
        return deliveries / elapsed_s


PARTS = (Part(figures=(_UNARY, _BY_100), measure=_measure),)
