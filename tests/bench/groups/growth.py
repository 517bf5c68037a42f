"""Growth: what a report, a delivery and a poll cost with more documents in a batch, or batches.

The curves are drawn into `growth.svg`.
"""

from __future__ import annotations

import contextlib
import statistics
import uuid
from collections.abc import AsyncIterator, Mapping
from itertools import islice

from stagecast.v1 import report_service_pb2 as pb
from tests.bench.chart import Curve, draw
from tests.bench.group import Part
from tests.bench.groups.polls import report_and_poll
from tests.bench.load.batches import Work, current_token, make_work
from tests.bench.load.calls import REPORT, REPORTS, WATCH
from tests.bench.load.http2 import Connection, open_connection
from tests.bench.load.in_flight import drive, watching
from tests.bench.load.lone import send_alone
from tests.bench.servers import Bench
from tests.bench.table import Figure, Row
from tests.process import ServerProcess

_WHAT = ("report", "delivery", "poll")
_MORE = ("documents", "batches")
_WATCHES, _CONNECTIONS = 100, 8
_EVENTS = 10
_REPORTS = 25  # on a batch, before another may be needed
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

    def __init__(self, server: ServerProcess, work: Work) -> None:
        self._server = server
        self._work = work
        self._requests = work.by_stage(1)

    @classmethod
    async def create(cls, server: ServerProcess, more: str, size: int) -> _Point:
        """Create the documents or batches."""
        async with open_connection(server.grpc) as connection:
            if more == "documents":
                return cls(server, await make_work(connection, size))
            work = await make_work(connection, _FEW_DOCUMENTS)
            await _create_batches(connection, work.dataset_id, size - 1)
            return cls(server, work)

    async def measure(self, reports: int) -> dict[str, float]:
        """Return the microseconds of CPU of each."""
        async with open_connection(self._server.grpc) as connection:
            report_us = await self._measure_reports(connection, reports, poll=False)
            both_us = await self._measure_reports(connection, reports, poll=True)
            watched_s = await self._measure_event(connection, _WATCHES)
            unwatched_s = await self._measure_event(connection, 0)
        return {
            "report": report_us,
            "poll": both_us - report_us,
            "delivery": (watched_s - unwatched_s) / _WATCHES * 1e6,
        }

    async def _measure_reports(self, connection: Connection, reports: int, *, poll: bool) -> float:
        """Return the microseconds of a lone report, with the first poll after it."""
        costs: list[float] = []
        while len(costs) * _REPORTS < reports:
            requests = await self._next_requests(connection, _REPORTS)
            costs.append(
                await report_and_poll(self._server, connection, self._work, requests, poll=poll)
            )
        return statistics.mean(costs)

    async def _measure_event(self, connection: Connection, watches: int) -> float:
        """Return the seconds of a lone report with so many watches."""
        requests = await self._next_requests(connection, _EVENTS)
        request = self._work.watch(token=await current_token(connection, self._work))
        async with watching(
            self._server.grpc, WATCH, request, watches, connections=_CONNECTIONS
        ) as streams:
            await streams.expect_messages(1)
            lone = await send_alone(self._server.process.pid, connection, REPORT, requests, streams)
        return lone.cpu_s

    async def _next_requests(self, connection: Connection, count: int) -> list[bytes]:
        """Return reports on one batch: on a new one if too few are left in the old."""
        requests = list(islice(self._requests, count))
        if len(requests) < count:
            self._work = await make_work(
                connection,
                len(self._work.document_ids),
                dataset_id=self._work.dataset_id,
                batch_id=f"bench-{uuid.uuid4()}",
            )
            self._requests = self._work.by_stage(1)
            requests = list(islice(self._requests, count))
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
    reports = bench.effort.choose(quick=100, full=500)
    sizes = {
        "documents": (10, 1_000, bench.effort.choose(quick=10_000, full=100_000)),
        "batches": (1, 100, bench.effort.choose(quick=1_000, full=10_000)),
    }
    async with contextlib.AsyncExitStack() as stack:
        points = {
            (more, size): await _Point.create(
                await stack.enter_async_context(bench.stagecast(f"{more}-{size}")), more, size
            )
            for more, chosen in sizes.items()
            for size in chosen
        }
        costs = await _measure_points(points, bench.effort.rounds, reports)
    for (what, more), figure in _FIGURES.items():
        smallest, *_, largest = (costs[what, more, size] for size in sizes[more])
        note = f", {sizes[more][-1]:,} {more}" if bench.effort.quick else ""
        yield figure.row(zip(largest, smallest, strict=True), note)
    curves = [
        Curve(
            name=f"{what}, {more}",
            points=[(size, statistics.median(costs[what, more, size])) for size in sizes[more]],
        )
        for what, more in _FIGURES
    ]
    title, sizes_axis = "CPU of the server, compared with the smallest", "documents or batches"
    draw(bench.results / "growth.svg", title, sizes_axis, curves)


async def _measure_points(
    points: Mapping[tuple[str, int], _Point], rounds: int, reports: int
) -> dict[tuple[str, str, int], list[float]]:
    """Return the costs by what was measured, of what there was more, and how many, each round."""
    costs: dict[tuple[str, str, int], list[float]] = {}
    for point in points.values():
        await point.measure(_REPORTS)  # warms up
    for _ in range(rounds):
        for (more, size), point in points.items():
            for what, cost in (await point.measure(reports)).items():
                costs.setdefault((what, more, size), []).append(cost)
    return costs


PARTS = (Part(figures=tuple(_FIGURES.values()), measure=_measure),)
