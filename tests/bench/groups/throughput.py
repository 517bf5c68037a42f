"""Throughput: transitions delivered in a second to 100 watches, beside etcd's Put and Watch."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator

from tests.bench.group import Part
from tests.bench.load import etcd
from tests.bench.load.deliveries import WATCHES, Deliveries
from tests.bench.load.http2 import call, open_connections
from tests.bench.load.in_flight import drive, watching
from tests.bench.rounds import interleave
from tests.bench.servers import Bench
from tests.bench.table import Figure, Row

_CONNECTIONS = 8
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
            ours = Deliveries(
                server.grpc,
                seconds,
                in_flight=in_flight,
                per_call=per_call,
                connections=_CONNECTIONS,
            )
            await ours.measure()  # finds out how many fit the time
            await putting.measure()
            yield figure.row(await interleave(rounds, ours.measure, putting.measure))


class EtcdDeliveries:
    """Puts on a watched key of etcd."""

    def __init__(self, address: str, seconds: float) -> None:
        self._address = address
        self._seconds = seconds
        self._puts = 1_000

    async def measure(self) -> float:
        """Return the deliveries in a second, until the last watch has received everything."""
        requests = itertools.repeat(etcd.put(), self._puts)
        async with (
            open_connections(self._address, _CONNECTIONS) as calling,
            watching(
                self._address,
                etcd.WATCH,
                etcd.watch(),
                WATCHES,
                connections=_CONNECTIONS,
                half_open=True,
            ) as streams,
        ):
            await streams.expect_messages(1)
            reached = streams.expect(lambda stream: stream.tail == etcd.LAST)
            began = time.perf_counter()
            async with asyncio.timeout(_TIMEOUT_S):
                await drive(calling, etcd.PUT, requests, in_flight=_IN_FLIGHT)
                await call(calling[0], etcd.PUT, etcd.put(etcd.LAST))
                elapsed_s = await reached - began
        deliveries = (self._puts + 1) * WATCHES
        self._puts = max(_IN_FLIGHT, round(self._puts * self._seconds / elapsed_s))
        return deliveries / elapsed_s


PARTS = (Part(figures=(_UNARY, _BY_100), measure=_measure),)
