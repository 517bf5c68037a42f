"""A watch that waits costs nothing but its cursor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from stagecast.config import Config
from stagecast.feed import Feed
from stagecast.model import NewBatch, NewDocument, WatchRequest
from stagecast.reports import Reports
from stagecast.store import Reading
from stagecast.store.sqlite import SqliteStore
from stagecast.watches import Watches
from tests.clock import Clock

T = TypeVar("T")

NEW_DOCUMENT = NewDocument(document_id="", display_name="", labels={})


class CountingStore(SqliteStore):
    """Counts its reads; `second` is set when the second is done."""

    reads = 0
    second: asyncio.Event

    async def read(self, query: Callable[[Reading], T]) -> T:
        self.reads += 1
        result = await super().read(query)
        if self.reads == 2:
            self.second.set()
        return result


async def test_waiting_watch_reads_only_when_its_own_batch_rings(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    feed = Feed()
    store = CountingStore(
        config.db, clock=clock, on_commit=feed.ring, on_foreign_commit=feed.ring_all
    )
    store.second = asyncio.Event()
    reports = Reports(store)
    for batch_id in ("mine", "other"):
        await reports.create_batch(_batch(dataset_id, batch_id))
    messages = Watches(store, feed, config=config, clock=clock).watch(
        _request(dataset_id, "mine"), on_begun=_nothing
    )
    assert (await anext(messages)).snapshot is not None
    following = asyncio.create_task(anext(messages))
    await store.second.wait()  # the look for what came after the snapshot
    for _ in range(20):
        await reports.add_documents(dataset_id, "other", [NEW_DOCUMENT])
    assert store.reads == 2, "another batch is none of its business"
    await reports.add_documents(dataset_id, "mine", [NEW_DOCUMENT])
    await following
    following = asyncio.create_task(anext(messages))
    for _ in range(20):
        await reports.add_documents(dataset_id, "other", [NEW_DOCUMENT])
    assert store.reads == 3, "one ring is one read"
    following.cancel()
    await asyncio.wait((following,))
    await messages.aclose()
    await store.close()


def _batch(dataset_id: str, batch_id: str) -> NewBatch:
    return NewBatch(
        dataset_id=dataset_id,
        batch_id=batch_id,
        documents=(),
        labels={},
        more_documents_follow=True,
        stall_after_us=0,
        fail_after_us=0,
        request_id="",
    )


def _request(dataset_id: str, batch_id: str) -> WatchRequest:
    return WatchRequest(
        dataset_id=dataset_id,
        batch_id=batch_id,
        resume_token="",
        follow=True,
        heartbeat_s=300,
        transitions_only=False,
        fail_on_expired_token=False,
    )


async def _nothing() -> None:
    pass
