"""Large batches: snapshots of one revision, read once for many, without an open transaction."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import urllib.request
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from sqlite_utils.utils import sqlite3

from stagecast.app import App
from stagecast.config import Config
from stagecast.errors import Draining
from stagecast.model import ALL, Report, Stage, WatchRequest, message_size
from stagecast.notifier import Notifier
from stagecast.service.reports import Reports
from stagecast.service.submissions import Submissions
from stagecast.v1 import control_service_pb2 as cs
from stagecast.v1 import report_service_pb2 as rs
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from stagecast.watches import BatchWatches, snapshots, tail
from stagecast.watches.snapshots import Snapshot
from tests.builders import new_batch, watch_request
from tests.clock import Clock
from tests.conditions import until
from tests.store.counting import CountingStore
from tests.validator import WatchRecord
from tests.watches.pipeline import Pipeline
from tests.watches.reading import messages_of, open_batch_watches

DOCUMENTS = 6_000
CALL = 100
MAX_BYTES = 4 << 20


@contextlib.asynccontextmanager
async def reporting(pipeline: Pipeline) -> AsyncIterator[None]:
    """Report stage after stage, a hundred documents a call, within the block."""
    done = asyncio.Event()

    async def report() -> None:
        for stage in (r.STAGE_PARSING, r.STAGE_CLEANING, r.STAGE_SPLITTING, r.STAGE_INDEXING):
            for first in range(0, DOCUMENTS, CALL):
                if done.is_set():
                    return
                await pipeline.stage(stage, *pipeline.document_ids[first : first + CALL])

    async with asyncio.TaskGroup() as group:
        group.create_task(report())
        await pipeline.until_acknowledged(CALL)
        yield
        done.set()


@pytest.mark.slow
async def test_snapshot_during_writes_is_of_one_revision(
    pipeline: Pipeline,
) -> None:
    """Its counts match its documents, and the following transitions continue from them."""
    await pipeline.create(DOCUMENTS)

    async def watch() -> WatchRecord:
        record = WatchRecord()
        async with pipeline.stream() as stream:
            while not record.snapshots or len(record.transitions) < 1_000:
                message = await stream.read()
                assert message.ByteSize() < MAX_BYTES
                record.receive(message)
        return record

    async with reporting(pipeline):
        records = await asyncio.gather(*(watch() for _ in range(8)))
    assert all(len(record.documents) == DOCUMENTS for record in records)
    assert len({record.began for record in records}) < len(records), "some shared a snapshot"


async def test_watch_from_a_document_list_misses_nothing(
    pipeline: Pipeline,
) -> None:
    await pipeline.create(DOCUMENTS)
    async with reporting(pipeline):
        listed: dict[str, r.Document] = {}
        token = ""
        while True:
            page = await pipeline.client.status.ListDocuments(
                ss.ListDocumentsRequest(
                    dataset_id=pipeline.dataset_id,
                    batch_id=pipeline.batch_id,
                    page_size=1_000,
                    page_token=token,
                )
            )
            listed |= {document.document_id: document for document in page.documents}
            token = page.next_page_token
            if not token:
                break
    now = await pipeline.documents()
    newest = max(document.revision for document in now.values())
    async with pipeline.stream(resume_token=page.resume_token) as stream:
        for message in await stream.read_to_revision(newest):
            assert not message.HasField("snapshot")
            listed |= {t.document.document_id: t.document for t in message.transitions}
    assert listed == now


async def test_dify_path_shows_one_revision_during_writes(pipeline: Pipeline, server: App) -> None:
    """The reports of one call are all shown or none."""
    await pipeline.create(DOCUMENTS)
    url = (
        f"http://{server.http_address}/v1/datasets/{pipeline.dataset_id}/documents/"
        f"{pipeline.batch_id}/indexing-status"
    )

    def poll() -> list[str]:
        with urllib.request.urlopen(url, timeout=60) as response:
            return [document["indexing_status"] for document in json.load(response)["data"]]

    async with reporting(pipeline):
        polls = await asyncio.gather(*(asyncio.to_thread(poll) for _ in range(4)))
    for shown in polls:
        assert len(shown) == DOCUMENTS
        calls = [set(shown[first : first + CALL]) for first in range(0, DOCUMENTS, CALL)]
        assert all(len(call) == 1 for call in calls)
        stages = [call.pop() for call in calls]
        assert sum(one != other for one, other in pairwise(stages)) <= 1


@dataclass
class Bench:
    """A large batch in a store that counts its reads, without a server."""

    store: CountingStore
    notifier: Notifier
    reports: Reports
    watches: BatchWatches
    request: WatchRequest

    def watch(self) -> AsyncGenerator[bytes]:
        return messages_of(partial(self.watches.watch, self.request))

    async def report(self, stage: Stage) -> None:
        """Report a stage of the last documents, those in the last part of a snapshot."""
        await self.reports.report(
            self.request.dataset_id,
            self.request.batch_id,
            [
                Report(document_id=str(number), stage=stage)
                for number in range(DOCUMENTS - CALL, DOCUMENTS)
            ],
            visible=ALL,
        )


@pytest.fixture
async def bench(config: Config, clock: Clock, dataset_id: str) -> AsyncIterator[Bench]:
    notifier = Notifier()
    store = CountingStore(
        config.db,
        clock=clock,
        on_commit=notifier.notify,
        on_foreign_commit=notifier.topics,
    )
    name = {"dataset_id": dataset_id, "batch_id": "large"}
    await Submissions(store).create_batch(
        new_batch(*map(str, range(DOCUMENTS)), **name), visible=ALL
    )
    watches = open_batch_watches(store, notifier, config, clock)
    yield Bench(store, notifier, Reports(store), watches, watch_request(**name))
    await store.close()


async def snapshot_of(watcher: AsyncGenerator[bytes], record: WatchRecord) -> int:
    """Receive the rest of a snapshot, and return its number of messages."""
    messages = 0
    while not record.snapshots:
        record.receive(ss.WatchBatchResponse.FromString(await anext(watcher)))
        messages += 1
    return messages


@pytest.mark.slow
async def test_snapshot_is_shared_by_watches_that_start_together(bench: Bench) -> None:
    watchers = [bench.watch() for _ in range(30)]
    before = bench.store.reads
    records = [WatchRecord() for _ in watchers]
    parts = await asyncio.gather(*map(snapshot_of, watchers, records))
    # Each reads the batch. One snapshot starts before the others are requested, the next serves
    # all requests until then; some may still come later.
    unshared = len(watchers) * (1 + 1 + parts[0])
    assert bench.store.reads - before < unshared / 3
    assert all(record.documents == records[0].documents for record in records)
    for watcher in watchers:
        await watcher.aclose()


async def test_slow_watcher_keeps_no_transaction_open(bench: Bench, config: Config) -> None:
    """The WAL can be checkpointed while a client is within a snapshot."""
    watcher, record = bench.watch(), WatchRecord()
    record.receive(ss.WatchBatchResponse.FromString(await anext(watcher)))
    await bench.report(Stage.PARSING)
    await bench.store.idle.wait()
    with contextlib.closing(sqlite3.connect(config.db)) as other:
        [(busy, _, _)] = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert not busy
    await snapshot_of(watcher, record)
    assert len(record.documents) == DOCUMENTS
    await watcher.aclose()


async def test_dropped_snapshot_is_read_again_as_of_its_revision(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow watcher keeps nothing in memory but its position."""
    monkeypatch.setattr(snapshots, "_BYTES", 0)
    slow, record = bench.watch(), WatchRecord()
    record.receive(ss.WatchBatchResponse.FromString(await anext(slow)))
    for stage in (Stage.PARSING, Stage.INDEXING):
        await bench.report(stage)
        fast, other = bench.watch(), WatchRecord()
        await snapshot_of(fast, other)
        assert other.documents[str(DOCUMENTS - 1)].stage == int(stage)
        await fast.aclose()
    reads = bench.store.reads
    await snapshot_of(slow, record)
    assert bench.store.reads > reads, "it was read again"
    assert record.documents[str(DOCUMENTS - 1)].stage == r.STAGE_WAITING
    while record.revision < record.began + 2 * CALL:
        record.receive(ss.WatchBatchResponse.FromString(await anext(slow)))
    assert record.documents[str(DOCUMENTS - 1)].stage == r.STAGE_INDEXING
    await slow.aclose()


@pytest.fixture
def in_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill messages to a small fraction of their usual size."""
    monkeypatch.setattr(message_size, "MESSAGE_BYTES", 64 << 10)


@pytest.mark.slow
@pytest.mark.usefixtures("in_small_parts")
async def test_snapshot_cache_never_exceeds_its_limit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client within a dropped snapshot still gets the rest."""
    limit = 200_000
    monkeypatch.setattr(snapshots, "_BYTES", limit)
    sizes: list[int] = []
    living: weakref.WeakSet[Snapshot] = weakref.WeakSet()
    cache = Snapshot.cache

    def cache_and_measure(snapshot: Snapshot, part: Any) -> bool:
        room = cache(snapshot, part)
        living.add(snapshot)
        sizes.append(sum(one.size for one in living))
        return room

    monkeypatch.setattr(Snapshot, "cache", cache_and_measure)
    watchers = [bench.watch() for _ in range(6)]
    records = [WatchRecord() for _ in watchers]
    for watcher, record in zip(watchers, records, strict=True):
        # No watch shares the snapshot of another, and all but the last are slow.
        record.receive(ss.WatchBatchResponse.FromString(await anext(watcher)))
    for watcher, record in zip(watchers, records, strict=True):
        await snapshot_of(watcher, record)
        assert len(record.documents) == DOCUMENTS
        await watcher.aclose()
    assert max(sizes) > limit / 2
    assert max(sizes) <= limit


@pytest.mark.usefixtures("in_small_parts")
async def test_snapshot_without_watchers_is_read_no_further(bench: Bench) -> None:
    watcher, record = bench.watch(), WatchRecord()
    parts = await snapshot_of(watcher, record)
    await watcher.aclose()
    for _ in range(3):
        watcher = bench.watch()
        before = bench.store.reads
        await anext(watcher)
        await watcher.aclose()
        await bench.store.idle.wait()
        for _ in range(100):  # a reader that was not stopped would continue
            await asyncio.sleep(0)
        await bench.store.idle.wait()
        assert bench.store.reads - before < parts / 2


@pytest.mark.slow
async def test_heartbeats_are_sent_while_the_snapshot_is_read(bench: Bench) -> None:
    """Its heartbeats have no token: there is no position yet to resume from."""
    bench.request = replace(bench.request, heartbeat_s=1)
    bench.store.open.clear()
    watcher, record = bench.watch(), WatchRecord()
    for _ in range(3):
        heartbeat = ss.WatchBatchResponse.FromString(await anext(watcher))
        assert heartbeat.HasField("server_time")
        assert not heartbeat.HasField("snapshot")
        assert (heartbeat.revision, heartbeat.resume_token) == (0, "")
        record.receive(heartbeat)
    bench.store.open.set()
    await snapshot_of(watcher, record)
    assert len(record.documents) == DOCUMENTS
    await watcher.aclose()


@pytest.mark.slow
async def test_heartbeats_are_sent_during_the_first_read(bench: Bench) -> None:
    watcher, record = bench.watch(), WatchRecord()
    await snapshot_of(watcher, record)
    await watcher.aclose()
    bench.request = replace(bench.request, heartbeat_s=1, resume_token=record.resume_token)

    async def block_reads() -> None:
        bench.store.open.clear()

    resumed = messages_of(partial(bench.watches.watch, bench.request), begin=block_reads)
    for _ in range(2):
        heartbeat = ss.WatchBatchResponse.FromString(await anext(resumed))
        assert not heartbeat.transitions
    bench.store.open.set()
    await bench.report(Stage.PARSING)
    while len(record.transitions) < CALL:
        record.receive(ss.WatchBatchResponse.FromString(await anext(resumed)))
    await resumed.aclose()


async def test_tail_drops_old_pages(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With any number of watched batches, only the newest writes stay in memory."""
    monkeypatch.setattr(tail, "_MAX_AGE_S", 0.05)
    watcher, record = bench.watch(), WatchRecord()
    await snapshot_of(watcher, record)
    [(followed, _)] = bench.watches._tails._tails.values()
    await bench.report(Stage.PARSING)
    while len(record.transitions) < CALL:
        record.receive(ss.WatchBatchResponse.FromString(await anext(watcher)))
    await until(lambda: not followed._pages)
    await watcher.aclose()


async def test_drain_ends_a_watch_waiting_for_its_snapshot(bench: Bench) -> None:
    bench.store.open.clear()
    following = asyncio.create_task(anext(messages_of(partial(bench.watches.watch, bench.request))))
    await until(lambda: not bench.store.idle.is_set())
    for _ in range(10):  # until it waits
        await asyncio.sleep(0)
    bench.notifier.close()
    async with asyncio.timeout(60):
        with pytest.raises(Draining):
            await following
    bench.store.open.set()
    await bench.store.idle.wait()


async def test_drain_ends_a_watch_between_the_parts_of_its_snapshot(bench: Bench) -> None:
    watcher = bench.watch()
    await anext(watcher)
    bench.notifier.close()
    with pytest.raises(Draining):
        await anext(watcher)
    await bench.store.idle.wait()


async def test_watch_frees_its_snapshot_messages(bench: Bench) -> None:
    watcher, record = bench.watch(), WatchRecord()
    while not record.snapshots:
        last = await anext(watcher)
        record.receive(ss.WatchBatchResponse.FromString(last))
    following = asyncio.create_task(anext(watcher))
    unshared = bytes(bytearray(last))
    async with asyncio.timeout(60):
        while sys.getrefcount(last) > sys.getrefcount(unshared):  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(0)
    following.cancel()
    await asyncio.wait((following,))
    await bench.store.idle.wait()


@pytest.mark.slow
async def test_call_on_a_whole_batch_is_atomic_for_watchers(pipeline: Pipeline) -> None:
    await pipeline.create(DOCUMENTS)
    async with pipeline.stream() as stream:
        record = WatchRecord()
        while not record.snapshots:
            record.receive(await stream.read())
        began = record.revision
        error = r.DocumentError(reason="EMPTY")
        await pipeline.report(rs.DocumentReport(document_id="doc-7", error=error))
        everything = cs.StopRequest(dataset_id=pipeline.dataset_id, batch_id=pipeline.batch_id)
        stopped = await pipeline.client.controls.Stop(everything)
        assert stopped.changed_documents == DOCUMENTS - 1
        for message in await stream.read_to_revision(stopped.batch.revision):
            assert message.ByteSize() < MAX_BYTES
            record.receive(message)
    record.check_atomic([range(began + 2, stopped.batch.revision + 1)])
