"""Durable reports: one at a time, many calls at once, many reports in a call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from tests.bench.floors import grpc_server
from tests.bench.group import Part
from tests.bench.load import etcd
from tests.bench.load.http2 import Connection, open_connections
from tests.bench.load.in_flight import drive_for
from tests.bench.load.reporting import Reporting
from tests.bench.rounds import Sample, interleave
from tests.bench.servers import Bench
from tests.bench.table import Figure, Row
from tests.process import ServerProcess

_CONNECTIONS = 4
_IN_FLIGHT = 64
_PER_CALL, _CALLS_IN_FLIGHT = 100, 4
_REQUEST_BYTES = 70  # a report has about as many

_ONE_AT_A_TIME = Figure(
    name="Durable `Report`, one at a time, until its answer", unit="µs", against="aio echo"
)
_UNARY = Figure(
    name="Unary durable `Report`, 64 in flight, CPU",
    unit="µs",
    against="aio echo",
    must=1.9,
    beyond=1.5,
)
_BY_100 = Figure(
    name="Durable reports in calls of 100, CPU of a report",
    unit="µs",
    against="blind row in SQLite, 400 a commit",
)
_AGAINST_ETCD = Figure(
    name="Durable reports/s in calls of 100",
    unit="/s",
    against="etcd Put, 64 in flight",
    must=1.3,
    beyond=2.5,
    more_is_better=True,
)


async def _measure_unary(bench: Bench) -> AsyncIterator[Row]:
    lone = await _compare_with_echo(bench, in_flight=1)
    yield _ONE_AT_A_TIME.row((1e6 / ours.rate, 1e6 / echo.rate) for ours, echo in lone)
    many = await _compare_with_echo(bench, in_flight=_IN_FLIGHT)
    yield _UNARY.row((ours.cpu_us, echo.cpu_us) for ours, echo in many)


async def _compare_with_echo(bench: Bench, *, in_flight: int) -> list[tuple[Sample, Sample]]:
    seconds, count = bench.effort.seconds, min(in_flight, _CONNECTIONS)
    async with (
        bench.stagecast(f"unary-{in_flight}") as server,
        bench.floor("grpc_server") as floor,
        open_connections(server.grpc, count) as connections,
        open_connections(await floor.ask(), count) as echoing,
    ):
        reporting = Reporting(server.process.pid, connections, in_flight=in_flight, per_call=1)

        async def echo() -> Sample:
            request = bytes(_REQUEST_BYTES)
            return await drive_for(
                seconds, floor.pid, echoing, grpc_server.ECHO, request, in_flight=in_flight
            )

        await reporting.measure(seconds)  # finds out how many reports fit the time
        return await interleave(bench.effort.rounds, lambda: reporting.measure(seconds), echo)


async def _measure_calls_of_100(bench: Bench) -> AsyncIterator[Row]:
    async with (
        bench.stagecast("calls") as server,
        bench.floor("sqlite_rows") as floor,
        open_connections(server.grpc, _CONNECTIONS) as connections,
    ):
        reporting = _reporting_by_100(server, connections)
        seconds = bench.effort.seconds
        rows = (await reporting.measure(seconds)).count

        async def append() -> float:
            elapsed = await floor.ask(
                do="append",
                path=str(bench.directory / "rows.db"),
                rows=rows,
                commit_every=_PER_CALL * _CALLS_IN_FLIGHT,
            )
            return float(elapsed["cpu_s"]) / rows * 1e6

        samples = await interleave(bench.effort.rounds, lambda: reporting.measure(seconds), append)
        yield _BY_100.row((ours.cpu_us, row_us) for ours, row_us in samples)


async def _measure_against_etcd(bench: Bench) -> AsyncIterator[Row]:
    async with (
        bench.etcd() as peer,
        bench.stagecast("etcd") as server,
        open_connections(server.grpc, _CONNECTIONS) as connections,
        open_connections(peer, _CONNECTIONS) as putting,
    ):
        reporting = _reporting_by_100(server, connections)
        seconds = bench.effort.seconds
        await reporting.measure(seconds)

        async def put() -> Sample:
            return await drive_for(
                seconds, server.process.pid, putting, etcd.PUT, etcd.put(), in_flight=_IN_FLIGHT
            )

        samples = await interleave(bench.effort.rounds, lambda: reporting.measure(seconds), put)
        yield _AGAINST_ETCD.row((ours.rate, theirs.rate) for ours, theirs in samples)


def _reporting_by_100(server: ServerProcess, connections: Sequence[Connection]) -> Reporting:
    return Reporting(
        server.process.pid, connections, in_flight=_CALLS_IN_FLIGHT, per_call=_PER_CALL
    )


PARTS = (
    Part(figures=(_ONE_AT_A_TIME, _UNARY), measure=_measure_unary),
    Part(figures=(_BY_100,), measure=_measure_calls_of_100),
    Part(figures=(_AGAINST_ETCD,), measure=_measure_against_etcd),
)
