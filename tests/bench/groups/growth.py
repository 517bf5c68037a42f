"""Growth: what a report, a delivery and a poll cost with more documents in a batch, or batches.

The curves are drawn into `growth.svg`.
"""

from __future__ import annotations

import contextlib
import statistics
import uuid
from collections.abc import AsyncIterator
from itertools import islice

from stagecast.v1 import report_service_pb2 as pb
from tests.bench.batches import Work, current_token, make_work
from tests.bench.calls import REPORT, REPORTS, WATCH
from tests.bench.chart import Curve, draw
from tests.bench.group import Part
from tests.bench.groups.polls import one_id_target
from tests.bench.http1 import Poller
from tests.bench.http2 import Connection, call, connect
from tests.bench.load import drive, watching
from tests.bench.lone import pause_s, send_alone
from tests.bench.machine import cpu_s
from tests.bench.servers import Bench
from tests.bench.table import Figure, Row
from tests.process import ServerProcess

_WHAT = ("report", "delivery", "poll")
_MORE = ("documents", "batches")
_WATCHES, _CONNECTIONS = 100, 8
_EVENTS = 10
_FEW_DOCUMENTS = 10


def _figure(what: str, more: str) -> Figure:
    largest = "100,000" if more == "documents" else "10,000"
    smallest = "10" if more == "documents" else "1"
    return Figure(
        name=f"Growth of a {what}'s CPU, {more} {smallest} to {largest}",
        unit="µs",
        against="the smallest",
        must=1.3,
        beyond=1.1,
    )


_FIGURES = {(what, more): _figure(what, more) for more in _MORE for what in _WHAT}


class _Point:
    """A server with so many documents in a batch, or so many batches in the dataset."""

    def __init__(self, server: ServerProcess, connection: Connection, work: Work) -> None:
        self._server = server
        self._connection = connection
        self._work = work
        self._requests = work.by_stage(1)

    @classmethod
    async def create(cls, server: ServerProcess, more: str, size: int) -> _Point:
        """Create the documents or batches."""
        [connection] = await connect(server.grpc)
        if more == "documents":
            return cls(server, connection, await make_work(connection, size))
        work = await make_work(connection, _FEW_DOCUMENTS)
        await _create_batches(connection, work.dataset_id, size - 1)
        return cls(server, connection, work)

    async def measure(self, reports: int) -> dict[str, float]:
        """Return the microseconds of CPU of each."""
        report_us = await self._measure_reports(reports, poll=False)
        both_us = await self._measure_reports(reports, poll=True)
        return {
            "report": report_us,
            "poll": both_us - report_us,
            "delivery": await self._measure_deliveries(),
        }

    async def _measure_reports(self, reports: int, *, poll: bool) -> float:
        """Return the cost of a lone report, with the first poll after it."""
        done, spent_s = 0, 0.0
        while done < reports:
            requests = await self._take(reports - done)
            poller = await Poller.connect(self._server.http, one_id_target(self._work))
            await poller.poll()
            before_s = cpu_s(self._server.process.pid)
            for request in requests:
                await call(self._connection, REPORT, request)
                if poll:
                    await poller.poll()
            spent_s += cpu_s(self._server.process.pid) - before_s
            done += len(requests)
            poller.close()
        return spent_s / reports * 1e6

    async def _measure_deliveries(self) -> float:
        """Return the cost of a lone delivery to one of many watches, less the report."""
        return (await self._lone_s(_WATCHES) - await self._lone_s(0)) / _WATCHES * 1e6

    async def _lone_s(self, watches: int) -> float:
        requests = await self._take(_EVENTS, alone=True)
        [connection] = await connect(self._server.grpc)
        token = await current_token(connection, self._work)
        async with watching(
            self._server.grpc,
            WATCH,
            self._work.watch(token=token),
            watches,
            connections=_CONNECTIONS,
        ) as streams:
            await streams.expect_messages(1)
            lone = await send_alone(
                self._server.process.pid, connection, REPORT, requests, streams, pause_s(watches)
            )
        return lone.cpu_s

    async def _take(self, limit: int, *, alone: bool = False) -> list[bytes]:
        """Return the next requests, on a new batch if no document is left in the old one.

        With `alone`, all of them are on one batch.
        """
        requests = list(islice(self._requests, limit))
        if not requests or (alone and len(requests) < limit):
            self._work = await make_work(
                self._connection,
                len(self._work.document_ids),
                dataset_id=self._work.dataset_id,
                batch_id=f"bench-{uuid.uuid4()}",
            )
            self._requests = self._work.by_stage(1)
            requests = list(islice(self._requests, limit))
        return requests


async def _create_batches(connection: Connection, dataset_id: str, count: int) -> None:
    """Create batches with a document each, in the same dataset."""
    documents = [pb.NewDocument(document_id="only.pdf")]
    requests = (
        pb.CreateBatchRequest(
            dataset_id=dataset_id, batch_id=f"other-{number}", documents=documents
        ).SerializeToString()
        for number in range(count)
    )
    await drive([connection], f"{REPORTS}/CreateBatch", requests, in_flight=64)


async def _measure(bench: Bench) -> AsyncIterator[Row]:
    reports = bench.effort.choose(quick=50, full=200)
    sizes = {
        "documents": (10, 1_000, bench.effort.choose(quick=10_000, full=100_000)),
        "batches": (1, 100, bench.effort.choose(quick=1_000, full=10_000)),
    }
    async with contextlib.AsyncExitStack() as stack:
        costs: dict[tuple[str, str], dict[int, list[float]]] = {}
        points = {
            (more, size): await _Point.create(
                await stack.enter_async_context(bench.stagecast(f"{more}-{size}")), more, size
            )
            for more, chosen in sizes.items()
            for size in chosen
        }
        for number in range(bench.effort.rounds + 1):
            for (more, size), point in points.items():
                for what, cost in (await point.measure(reports)).items():
                    if number:  # the first round warms up
                        costs.setdefault((what, more), {}).setdefault(size, []).append(cost)
    for key, figure in _FIGURES.items():
        smallest, *_, largest = costs[key].values()
        note = f", {max(costs[key]):,} {key[1]}" if bench.effort.quick else ""
        yield figure.row(zip(largest, smallest, strict=True), note)
    draw(
        bench.results / "growth.svg",
        "CPU of the server, compared with the smallest size",
        [
            Curve(
                name=f"{what}, {more}",
                points=[(size, statistics.median(each)) for size, each in by_size.items()],
            )
            for (what, more), by_size in costs.items()
        ],
    )


PARTS = (Part(figures=tuple(_FIGURES.values()), measure=_measure),)
