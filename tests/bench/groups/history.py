"""Much history: resuming a watch over 10,000 transitions, and the size of the file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from tests.bench.group import Part
from tests.bench.load.batches import Work, make_work
from tests.bench.load.calls import REPORT, WATCH
from tests.bench.load.http2 import Connection, open_connection
from tests.bench.load.in_flight import Streams, drive
from tests.bench.rounds import Stopwatch, interleave
from tests.bench.servers import Bench
from tests.bench.table import Figure, Row
from tests.watches.pipeline import STAGES

_TRANSITIONS = 10_000
_COLUMNS = 33  # of the log, when the target was set
_SELECTS = 20
_DOCUMENTS_OF_FILE = 10_000
_BYTES_BEFORE = 139  # of a transition, when the target was set
_TIMEOUT_S = 120

_RESUME = Figure(
    name="Resume over 10,000 transitions, CPU",
    unit="ms",
    against="SELECT of as many rows of 33 columns",
    must=2,
    beyond=1.3,
)
_SIZE = Figure(
    name="Size of the file for a batch of 10,000 documents in all stages",
    unit="bytes a transition",
    against="the file before encoded rows",
    must=2,
    beyond=1.5,
)


async def _measure_resume(bench: Bench) -> AsyncIterator[Row]:
    async with (
        bench.stagecast("resume") as server,
        bench.floor("sqlite_rows") as floor,
        open_connection(server.grpc) as connection,
    ):
        work = await make_work(connection, _TRANSITIONS // len(STAGES))
        await _run_to_end(connection, work)
        path = str(bench.directory / "log.db")
        await floor.ask(do="fill", path=path, rows=_TRANSITIONS, columns=_COLUMNS)

        async def ours() -> float:
            stopwatch = Stopwatch(server.process.pid)
            await _watch_to_end(connection, work)
            return stopwatch.stop(1).cpu_us / 1e3

        async def theirs() -> float:
            elapsed = await floor.ask(do="select", path=path, times=_SELECTS)
            return float(elapsed["cpu_s"]) / _SELECTS * 1e3

        await ours()
        yield _RESUME.row(await interleave(bench.effort.rounds, ours, theirs))


async def _run_to_end(connection: Connection, work: Work) -> None:
    await drive([connection], REPORT, work.by_stage(100), in_flight=2)


async def _watch_to_end(connection: Connection, work: Work) -> None:
    """Watch a batch that has ended, from its token on."""
    streams = Streams()
    streams.open([connection], WATCH, work.watch(), 1)
    async with asyncio.timeout(_TIMEOUT_S):
        await streams.expect(lambda stream: stream.ended)


async def _measure_size(bench: Bench) -> AsyncIterator[Row]:
    async with bench.stagecast("size") as server:
        async with open_connection(server.grpc) as connection:
            work = await make_work(connection, _DOCUMENTS_OF_FILE)
            await _run_to_end(connection, work)
        await server.stop()
    size = (bench.directory / "size.db").stat().st_size
    transitions = work.revision + _DOCUMENTS_OF_FILE * len(STAGES)
    yield _SIZE.row([(size / transitions, _BYTES_BEFORE)])


PARTS = (
    Part(figures=(_RESUME,), measure=_measure_resume),
    Part(figures=(_SIZE,), measure=_measure_size),
)
