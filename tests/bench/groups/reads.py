"""Reads: one batch, pages of documents, and opening a watch with its snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial

from stagecast.v1 import status_service_pb2 as s
from tests.bench.floors import grpc_server
from tests.bench.group import Part
from tests.bench.load.batches import Work, make_work, report_half
from tests.bench.load.calls import GET_BATCH, LIST_DOCUMENTS, WATCH
from tests.bench.load.h2load import H2Load
from tests.bench.load.http2 import Connection, Stream, call, open_connection
from tests.bench.load.in_flight import Streams
from tests.bench.rounds import Repeated, cpu_pairs, interleave
from tests.bench.servers import Bench
from tests.bench.table import Figure, Row

_GET_BATCH = Figure(name="`GetBatch`, CPU", unit="µs", against="aio echo", must=1.4, beyond=1.2)
_LISTS = {
    5: Figure(
        name="`ListDocuments` of 5, CPU", unit="µs", against="aio echo", must=1.6, beyond=1.3
    ),
    100: Figure(
        name="`ListDocuments` of 100, CPU", unit="µs", against="aio echo", must=2.5, beyond=1.7
    ),
    1_000: Figure(
        name="`ListDocuments` of 1,000, CPU", unit="µs", against="aio echo", must=10, beyond=5
    ),
}
_SAME_SIZE = Figure(
    name="`ListDocuments` of 1,000, CPU, beside as large an answer",
    unit="µs",
    against="aio call with an answer of as many bytes",
)
_OPENING = Figure(
    name="Opening a watch and its snapshot of 10 documents, CPU",
    unit="µs",
    against="opening an empty stream",
    must=2,
    beyond=1.5,
)

_DOCUMENTS_OF_OPENED = 10
_OPEN_AT_ONCE = 16


async def _measure_calls(bench: Bench) -> AsyncIterator[Row]:
    h2load = H2Load(bench.directory)
    async with (
        bench.stagecast("reads") as server,
        bench.floor("grpc_server") as floor,
        open_connection(server.grpc) as connection,
    ):
        floor_address = await floor.ask()

        async def compare(method: str, request: bytes, path: str) -> list[tuple[float, float]]:
            ours, theirs = (
                Repeated(pid, bench.effort.seconds, partial(h2load.call, address, name, request))
                for pid, address, name in (
                    (server.process.pid, server.grpc, method),
                    (floor.pid, floor_address, path),
                )
            )
            return cpu_pairs(await interleave(bench.effort.rounds, ours.measure, theirs.measure))

        for documents, figure in ((5, _GET_BATCH), *_LISTS.items()):
            work = await make_work(connection, documents)
            await report_half(connection, work)
            method, request = _read(figure, work)
            answer = await call(connection, method, request)
            yield figure.row(await compare(method, request, grpc_server.ECHO))
        await floor.ask(size=len(answer))
        yield _SAME_SIZE.row(await compare(method, request, grpc_server.ANSWER))


def _read(figure: Figure, work: Work) -> tuple[str, bytes]:
    """Return method and request of a figure."""
    if figure is _GET_BATCH:
        return GET_BATCH, s.GetBatchRequest(**work.names).SerializeToString()
    request = s.ListDocumentsRequest(**work.names, page_size=len(work.document_ids))
    return LIST_DOCUMENTS, request.SerializeToString()


async def _measure_opening(bench: Bench) -> AsyncIterator[Row]:
    async with (
        bench.stagecast("opening") as server,
        bench.floor("grpc_server") as floor,
        open_connection(server.grpc) as connection,
        open_connection(await floor.ask()) as floor_connection,
    ):
        work = await make_work(connection, _DOCUMENTS_OF_OPENED)
        await report_half(connection, work)
        snapshots = partial(
            _open_and_cancel, connection, WATCH, work.watch_with_snapshot(), _has_message
        )
        streams = partial(_open_and_cancel, floor_connection, grpc_server.WATCH, b"", _has_started)
        ours = Repeated(server.process.pid, bench.effort.seconds, snapshots)
        theirs = Repeated(floor.pid, bench.effort.seconds, streams)
        samples = await interleave(bench.effort.rounds, ours.measure, theirs.measure)
        yield _OPENING.row(cpu_pairs(samples))


def _has_message(stream: Stream) -> bool:
    return stream.messages > 0


def _has_started(stream: Stream) -> bool:
    return stream.started


async def _open_and_cancel(
    connection: Connection,
    path: str,
    request: bytes,
    holds: Callable[[Stream], bool],
    count: int,
) -> None:
    """Open so many streams, some at once, and cancel each when a condition holds for it."""
    for start in range(0, count, _OPEN_AT_ONCE):
        streams = Streams()
        streams.open([connection], path, request, min(_OPEN_AT_ONCE, count - start))
        async with asyncio.timeout(60):
            await streams.expect(holds)
        streams.cancel()


PARTS = (
    Part(figures=(_GET_BATCH, *_LISTS.values(), _SAME_SIZE), measure=_measure_calls),
    Part(figures=(_OPENING,), measure=_measure_opening),
)
