"""Pipelines: the CPU of a thread that works and reports, against the work alone.

What the sending thread needs is not part of it: some calls a second, however much is reported.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator
from functools import partial

import stagecast
from tests.bench.group import Part
from tests.bench.rounds import interleave
from tests.bench.servers import Bench
from tests.bench.table import Figure, Row
from tests.process import free_address

_CHUNK = bytes(10_000_000)  # whose digest takes some 7 ms, which is little for an embedding
_CHUNKS = 20  # of a document
_AGAINST = "the same work alone"
_MUST = 1.02

_REPORTED = Figure(
    name="Pipeline that reports every chunk, CPU of its thread",
    unit="ms",
    against=_AGAINST,
    must=_MUST,
)
_WITHOUT_SERVER = Figure(
    name="The same while there is no server, CPU of its thread",
    unit="ms",
    against=_AGAINST,
    must=_MUST,
)


async def _measure(bench: Bench) -> AsyncIterator[Row]:
    async with bench.stagecast("pipeline") as server:
        yield await _compare(bench, _REPORTED, server.grpc)
    yield await _compare(bench, _WITHOUT_SERVER, free_address())


async def _compare(bench: Bench, figure: Figure, address: str) -> Row:
    reporter = stagecast.Reporter(address)
    documents = max(1, round(bench.effort.seconds / (_CHUNKS * _digest_s())))
    report = partial(asyncio.to_thread, _report, reporter, documents)
    await report()  # connects
    pairs = await interleave(
        bench.effort.rounds, report, partial(asyncio.to_thread, _work, documents)
    )
    logging.getLogger("stagecast").setLevel(logging.ERROR)  # what waits is of no use to anybody
    await asyncio.to_thread(reporter._engine.finish, 0)
    return figure.row(pairs)


def _report(reporter: stagecast.Reporter, documents: int) -> float:
    """Return the milliseconds of CPU for documents that are reported."""
    started = time.thread_time()
    with reporter.batch("bench", [f"document-{number}" for number in range(documents)]) as batch:
        for doc in batch.pending():
            with doc:
                doc.parsing()
                for _ in doc.track(range(_CHUNKS)):
                    hashlib.sha256(_CHUNK).digest()
    return (time.thread_time() - started) * 1e3


def _work(documents: int) -> float:
    """Return the milliseconds of CPU for the same without reports."""
    started = time.thread_time()
    for _ in range(documents * _CHUNKS):
        hashlib.sha256(_CHUNK).digest()
    return (time.thread_time() - started) * 1e3


def _digest_s() -> float:
    started = time.thread_time()
    hashlib.sha256(_CHUNK).digest()
    return max(time.thread_time() - started, 1e-4)


PARTS = (Part(figures=(_REPORTED, _WITHOUT_SERVER), measure=_measure),)
