"""Several servers on one file: how much later a report to one is pushed by another."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

from stagecast.client import Client
from stagecast.v1 import status_service_pb2 as s
from tests.bench.batches import Work, make_work
from tests.bench.figures import Figure, compare_times
from tests.bench.measurement import Effort, repeat
from tests.bench.sides import REPORT, connect
from tests.bench.watchers import WATCH
from tests.grpc_calls import read, unary_stream, unary_unary
from tests.process import running

_DOCUMENTS = 4  # with a report for each stage, one after the other
_PAUSE_S = 0.02  # after which no work of the last report is left


async def measure(directory: Path, effort: Effort) -> AsyncIterator[Figure]:
    """Yield how long after its answer a lone report is pushed, by the other and the same server."""
    db = directory / "several.db"
    async with running(db) as one, running(db) as other, Client(one.grpc) as client:

        async def one_round() -> tuple[list[float], list[float]]:
            return (
                await _pushed_after(await make_work(client, _DOCUMENTS), one.grpc, other.grpc),
                await _pushed_after(await make_work(client, _DOCUMENTS), one.grpc, one.grpc),
            )

        rounds = await repeat(one_round, effort)
    same = "by the same server"
    medians = [(statistics.median(there), statistics.median(here)) for there, here in rounds]
    yield compare_times("pushed by another server, median", medians, same)
    yield compare_times("  longest", [(max(there), max(here)) for there, here in rounds], same)


async def _pushed_after(work: Work, reported_to: str, watched_at: str) -> list[float]:
    """Return how many seconds after its answer each report reaches the watch."""
    delays: list[float] = []
    async with connect(reported_to) as reporting, connect(watched_at) as watching:
        call = unary_unary(reporting, REPORT)
        stream = unary_stream(watching, WATCH)(work.watch())
        for number, request in enumerate(work.by_stage(1), start=work.revision + 1):
            await asyncio.sleep(_PAUSE_S)
            answer = asyncio.create_task(_answered_at(call(request)))
            while s.WatchBatchResponse.FromString(await read(stream)).revision < number:
                pass
            received_at = time.perf_counter()
            # A push of the same server may arrive before the answer.
            delays.append(max(1e-6, received_at - await answer))
        stream.cancel()
    return delays


async def _answered_at(answer: Awaitable[bytes]) -> float:
    await answer
    return time.perf_counter()
