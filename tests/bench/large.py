"""A batch of 100,000 documents: times of a watch, a poll and a stop, and the memory."""

from __future__ import annotations

import asyncio
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagecast.client import Client
from stagecast.v1 import control_service_pb2 as cs
from stagecast.v1 import report_service_pb2 as rs
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s
from tests.bench.batches import MAX_DOCUMENTS
from tests.bench.figures import Figure
from tests.bench.measurement import Effort
from tests.process import ServerProcess, running

_DOCUMENTS = 100_000
_WATCHES = 8
_QUICK_S = 0.3  # shorter measurements mean rough figures


@dataclass(frozen=True, kw_only=True, slots=True)
class _SnapshotTimes:
    """A watch up to the end of its snapshot."""

    first_s: float
    all_s: float
    messages: int
    largest: int


async def measure(directory: Path, effort: Effort) -> AsyncIterator[Figure]:
    """Yield figures without a floor; that of many watches is one watch."""
    documents = _DOCUMENTS if effort.seconds > _QUICK_S else MAX_DOCUMENTS
    db = directory / "large.db"
    async with running(db) as server, Client(server.grpc) as client:
        names = {"dataset_id": str(uuid.uuid4()), "batch_id": "large"}
        took = await _timed(_create(client, names, documents))
        yield _figure(f"{documents:,} documents registered", "s", took)
        reporting = asyncio.create_task(_report(client, names, documents))
        alone = await _watch(client, names)
        yield _figure("snapshot while reports run: first part", "s", alone.first_s)
        yield _figure("  all of it", "s", alone.all_s)
        yield _figure("  its largest message", "KiB", alone.largest / 1024)
        began = time.perf_counter()
        await asyncio.gather(*(_watch(client, names) for _ in range(_WATCHES)))
        together = time.perf_counter() - began
        yield Figure(
            what=f"{_WATCHES} such snapshots at once",
            unit="s",
            value=together,
            floor=alone.all_s,
            times=together / alone.all_s,
            beside="one of them",
        )
        url = f"http://{server.http}/v1/datasets/{names['dataset_id']}/documents/large"
        took = await _timed(asyncio.to_thread(_poll, f"{url}/indexing-status"))
        yield _figure("a poll of Dify's path", "s", took)
        yield _figure("  the -wal file by then", "MiB", Path(f"{db}-wal").stat().st_size / 2**20)
        reporting.cancel()
        await asyncio.wait((reporting,))
        took = await _timed(client.controls.Stop(cs.StopRequest(**names)))
        yield _figure("all stopped in one call", "s", took)
        yield _figure("peak memory of the server", "MiB", _peak_mib(server))


def _figure(what: str, unit: str, value: float | None) -> Figure:
    return Figure(what=what, unit=unit, value=value, floor=None, times=None, beside="")


async def _timed(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def _create(client: Client, names: dict[str, Any], documents: int) -> None:
    await client.reports.CreateBatch(rs.CreateBatchRequest(**names, more_documents_follow=True))
    for first in range(0, documents, MAX_DOCUMENTS):
        new = [rs.NewDocument(document_id=_id(n)) for n in range(first, first + MAX_DOCUMENTS)]
        await client.reports.AddDocuments(rs.AddDocumentsRequest(**names, documents=new))


async def _report(client: Client, names: dict[str, Any], documents: int) -> None:
    """Report on a hundred documents a call, until cancelled."""
    for stage in (r.STAGE_PARSING, r.STAGE_CLEANING, r.STAGE_SPLITTING, r.STAGE_INDEXING):
        for first in range(0, documents, 100):
            reports = [
                rs.DocumentReport(document_id=_id(n), stage=stage)
                for n in range(first, first + 100)
            ]
            await client.reports.Report(rs.ReportRequest(**names, reports=reports))


async def _watch(client: Client, names: dict[str, Any]) -> _SnapshotTimes:
    began, first_s = time.perf_counter(), 0.0
    messages = largest = 0
    call = client.status.WatchBatch(s.WatchBatchRequest(**names))
    async for message in call:
        first_s = first_s or time.perf_counter() - began
        messages += 1
        largest = max(largest, message.ByteSize())
        if message.snapshot.complete:
            break
    call.cancel()
    return _SnapshotTimes(
        first_s=first_s,
        all_s=time.perf_counter() - began,
        messages=messages,
        largest=largest,
    )


def _poll(url: str) -> None:
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - our own server
        answer.read()


def _id(number: int) -> str:
    return f"papers/{number:06}.pdf"


def _peak_mib(server: ServerProcess) -> float | None:
    """Return the peak memory of a process, on Linux."""
    status = Path(f"/proc/{server.process.pid}/status")
    if not status.exists():
        return None
    [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024
