"""A batch of 100,000 documents: its snapshot, and stopping all of it while others go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from stagecast.v1 import control_service_pb2 as cs
from stagecast.v1 import status_service_pb2 as s
from tests.bench.group import Part
from tests.bench.load.batches import Work, make_work
from tests.bench.load.calls import CONTROLS, GET_BATCH, REPORT, WATCH, invoke
from tests.bench.load.http2 import Connection, call, open_connection, open_connections
from tests.bench.load.in_flight import Streams, watching
from tests.bench.machine import memory_bytes
from tests.bench.peer import Peer
from tests.bench.rounds import Stopwatch, interleave
from tests.bench.servers import Bench
from tests.bench.table import Figure, Row
from tests.process import ServerProcess

_QUICK, _FULL = 10_000, 100_000
_COLUMNS = 27  # of a document, when the target was set
_TIMEOUT_S = 180
_OTHERS_DOCUMENTS = 1_000
_LIMIT_S = 0.1
_MIN_DELIVERY_S = 1e-3  # a delivery may overtake the answer

_COMMIT = "one commit that changes and appends as many rows"

_STOP = Figure(name="`Stop` of 100,000 documents", unit="s", against=_COMMIT, must=3)
_REPORT = Figure(
    name="Longest wait of another batch's report during that `Stop`",
    unit="s",
    against=_COMMIT,
    must=1,
)
_READ = Figure(
    name="Longest wait of another batch's read during that `Stop`",
    unit="ms",
    against="limit",
    must=1,
)
_DELIVERY = Figure(
    name="Longest time from a report's answer to its watch during that `Stop`",
    unit="ms",
    against="limit",
    must=1,
)
_SNAPSHOT = Figure(
    name="All of a snapshot of 100,000 documents, CPU",
    unit="ms",
    against="SELECT of as many rows of 27 columns",
    must=2,
    beyond=1.3,
)
_FIRST_PART = Figure(
    name="First part of a snapshot of 100,000 documents, after the request",
    unit="ms",
    against="all of it",
)
_MEMORY = Figure(
    name="Peak memory of a server with 100,000 documents", unit="MiB", against="memory at its start"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stopped:
    """How long a stop took, and others waited at most."""

    stop_s: float
    report_s: float
    read_s: float
    delivery_s: float


async def _measure(bench: Bench) -> AsyncIterator[Row]:
    documents = bench.effort.choose(quick=_QUICK, full=_FULL)
    note = f", {documents:,} documents" if bench.effort.quick else ""
    path = str(bench.directory / "filled.db")
    async with (
        bench.stagecast("large", "--request-timeout", str(_TIMEOUT_S)) as server,
        bench.floor("sqlite_rows") as floor,
        open_connection(server.grpc) as connection,
    ):
        start_bytes = memory_bytes(server.process.pid)
        large = await make_work(connection, documents)
        await floor.ask(do="fill", path=path, rows=documents, columns=_COLUMNS)
        samples = await interleave(
            bench.effort.rounds,
            lambda: _stop(server, connection, large),
            lambda: _commit_s(floor, path),
        )
        yield _STOP.row([(each.stop_s, commit) for each, commit in samples], note)
        yield _REPORT.row([(each.report_s, commit) for each, commit in samples], note)
        yield _READ.row([(each.read_s * 1e3, _LIMIT_S * 1e3) for each, _ in samples], note)
        yield _DELIVERY.row([(each.delivery_s * 1e3, _LIMIT_S * 1e3) for each, _ in samples], note)
        snapshots = await interleave(
            bench.effort.rounds,
            lambda: _snapshot(server, connection, large),
            lambda: _select_ms(floor, path),
        )
        yield _SNAPSHOT.row([(cpu_ms, row_ms) for (cpu_ms, _, _), row_ms in snapshots], note)
        yield _FIRST_PART.row([(first_ms, all_ms) for (_, first_ms, all_ms), _ in snapshots], note)
        peak = memory_bytes(server.process.pid, "VmHWM")
        yield _MEMORY.row([(peak / 2**20, start_bytes / 2**20)], note)


async def _commit_s(floor: Peer, path: str) -> float:
    elapsed = await floor.ask(do="update", path=path)
    return float(elapsed["elapsed_s"])


async def _select_ms(floor: Peer, path: str) -> float:
    elapsed = await floor.ask(do="select", path=path, times=1)
    return float(elapsed["cpu_s"]) * 1e3


async def _stop(server: ServerProcess, connection: Connection, large: Work) -> _Stopped:
    """Stop all documents, while another batch is reported on, read and watched."""
    retry = cs.RetryRequest(**large.names)
    await invoke(connection, f"{CONTROLS}/Retry", retry, cs.RetryResponse)
    async with open_connections(server.grpc, 2) as [reporting, reading]:
        work = await make_work(reporting, _OTHERS_DOCUMENTS)
        read = s.GetBatchRequest(**work.names).SerializeToString()
        async with watching(server.grpc, WATCH, work.watch(), 1, connections=1, keep=True) as watch:
            await watch.expect_messages(1)
            reports = _Reports(reporting, work, watch)
            began = time.perf_counter()
            stop = cs.StopRequest(**large.names)
            stopping = asyncio.create_task(
                invoke(connection, f"{CONTROLS}/Stop", stop, cs.StopResponse)
            )
            report_s, read_s, _ = await asyncio.gather(
                _longest(reports.report, stopping),
                _longest(lambda: call(reading, GET_BATCH, read), stopping),
                stopping,
            )
            stop_s = time.perf_counter() - began
    return _Stopped(
        stop_s=stop_s, report_s=report_s, read_s=read_s, delivery_s=reports.longest_delivery_s
    )


class _Reports:
    """Reports on another batch, one by one, and when its watch receives each."""

    def __init__(self, connection: Connection, work: Work, watch: Streams) -> None:
        self.longest_delivery_s = _MIN_DELIVERY_S
        self._connection = connection
        self._requests = work.by_stage(1)
        self._revision = work.revision
        self._watch = watch

    async def report(self) -> None:
        """Report once."""
        self._revision += 1
        revision = self._revision
        received = self._watch.expect(
            lambda stream: s.WatchBatchResponse.FromString(stream.last).revision >= revision
        )
        await call(self._connection, REPORT, next(self._requests))
        answered = time.perf_counter()
        self.longest_delivery_s = max(self.longest_delivery_s, await received - answered)


async def _longest(
    action: Callable[[], Awaitable[object]], until: asyncio.Task[cs.StopResponse]
) -> float:
    """Repeat an action until something is done; return the longest time that it took."""
    longest = 0.0
    while not until.done():
        began = time.perf_counter()
        await action()
        longest = max(longest, time.perf_counter() - began)
        await asyncio.sleep(0.01)
    return longest


async def _snapshot(
    server: ServerProcess, connection: Connection, large: Work
) -> tuple[float, float, float]:
    """Watch the ended batch to its end; return CPU, time of the first part and of all, in ms."""
    streams = Streams()
    stopwatch = Stopwatch(server.process.pid)
    began = time.perf_counter()
    streams.open([connection], WATCH, large.watch_with_snapshot(), 1)
    async with asyncio.timeout(_TIMEOUT_S):
        first = await streams.expect_messages(1) - began
        last = await streams.expect(lambda stream: stream.ended) - began
    return stopwatch.stop(1).cpu_us / 1e3, first * 1e3, last * 1e3


PARTS = (
    Part(
        figures=(_STOP, _REPORT, _READ, _DELIVERY, _SNAPSHOT, _FIRST_PART, _MEMORY),
        measure=_measure,
    ),
)
