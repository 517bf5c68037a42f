"""Polls of the two REST paths, beside a bare route that answers as many bytes.

A poll with the ETag of the last answer gets a 304.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice
from pathlib import Path

from stagecast.client import Client
from stagecast.rest import DATASETS_STATUS_PATH, INDEXING_STATUS_PATH
from tests.bench import bare_http, peer
from tests.bench.batches import Work, make_work
from tests.bench.figures import Figure, compare_cpu, compare_rates
from tests.bench.measurement import Effort, Measurement, Stopwatch, repeat
from tests.bench.polling import Poll, poll_for, try_poll
from tests.bench.sides import REPORT, connect
from tests.grpc_calls import unary_unary
from tests.process import running

_DATASETS = 10  # of a batch each
_DOCUMENTS = 10  # of a batch
_REPORTS = 25  # on a batch: half of those that would end it


async def measure(directory: Path, effort: Effort) -> AsyncIterator[Figure]:
    """Yield the figures of each path."""
    async with running(directory / "polls.db") as server, peer.running("bare_http") as bare:
        pids = server.process.pid, bare.pid
        works = await _ingest(server.grpc)
        for what, target in _targets(works):
            ours = await try_poll(server.http, target)
            bare_address = await bare.ask(size=ours.body_bytes)
            floor = await try_poll(bare_address, bare_http.BODY)
            beside = f"a bare route, {ours.body_bytes:,} bytes"
            for figure in await _compare(f"polls of {what}", ours, floor, pids, effort, beside):
                yield figure
            ours = await try_poll(server.http, target, etag=ours.etag)
            floor = await try_poll(bare_address, bare_http.UNCHANGED, etag=ours.etag)
            for figure in await _compare("  unchanged", ours, floor, pids, effort, "a bare 304"):
                yield figure


async def _ingest(address: str) -> list[Work]:
    """Create datasets whose documents are in progress."""
    async with Client(address) as client, connect(address) as channel:
        works = [await make_work(client, _DOCUMENTS) for _ in range(_DATASETS)]
        for work in works:
            for request in islice(work.by_stage(1), _REPORTS):
                await unary_unary(channel, REPORT)(request)
    return works


def _targets(works: Sequence[Work]) -> Iterator[tuple[str, str]]:
    first = works[0]
    yield (
        f"Dify's path, {_DOCUMENTS} documents",
        INDEXING_STATUS_PATH.format(dataset_id=first.dataset_id, batch=first.batch_id),
    )
    yield "Cognee's path, 1 dataset", f"{DATASETS_STATUS_PATH}?dataset={first.dataset_id}"
    yield f"Cognee's path, all {_DATASETS} datasets", DATASETS_STATUS_PATH


async def _compare(
    what: str, ours: Poll, floor: Poll, pids: tuple[int, int], effort: Effort, beside: str
) -> list[Figure]:
    async def one_round() -> tuple[Measurement, Measurement]:
        return (
            await _measure_polls(ours, pids[0], effort.seconds),
            await _measure_polls(floor, pids[1], effort.seconds),
        )

    rounds = await repeat(one_round, effort)
    return [compare_rates(what, rounds, beside), compare_cpu("  CPU a poll", rounds, beside)]


async def _measure_polls(poll: Poll, pid: int, seconds: float) -> Measurement:
    stopwatch = Stopwatch(pid)
    return stopwatch.stop(await poll_for(seconds, poll))
