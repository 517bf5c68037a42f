"""An idle watch costs nothing but its cursor."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from stagecast.config import Config
from stagecast.errors import Draining
from stagecast.model import ALL, NewBatch, WatchRequest
from stagecast.notifier import Notifier
from stagecast.service.submissions import Submissions
from stagecast.v1 import status_service_pb2 as ss
from stagecast.watches import BatchWatches
from stagecast.wire import WatchEncoder
from tests.access import ANY_CALLER
from tests.builders import ENCODER, new_batch, new_document, watch_request
from tests.clock import Clock
from tests.conditions import until
from tests.store.counting import CountingStore

NEW_DOCUMENT = new_document("")


async def test_idle_watch_reads_only_when_its_own_batch_is_notified(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    notifier = Notifier()
    store = CountingStore(
        config.db,
        clock=clock,
        encoder=ENCODER,
        on_commit=notifier.notify,
        on_foreign_commit=notifier.close,
    )
    submissions = Submissions(store)
    for batch_id in ("mine", "other"):
        await submissions.create_batch(_batch(dataset_id, batch_id), visible=ALL)
    watches = BatchWatches(store, notifier, encode=WatchEncoder(), config=config, clock=clock)
    watchers = [
        watches.watch(_request(dataset_id), on_begun=_nothing, caller=ANY_CALLER) for _ in range(10)
    ]
    for watcher in watchers:
        assert ss.WatchBatchResponse.FromString(await anext(watcher)).snapshot.complete
    reads = store.reads
    following = [asyncio.create_task(anext(watcher)) for watcher in watchers]
    await submissions.add_documents(dataset_id, "other", [NEW_DOCUMENT], visible=ALL)
    # Each reads once, then waits.
    await until(lambda: store.reads == reads + len(watchers))
    await store.idle.wait()
    reads = store.reads
    for _ in range(20):
        await submissions.add_documents(dataset_id, "other", [NEW_DOCUMENT], visible=ALL)
    assert store.reads == reads, "another batch causes no read"
    await submissions.add_documents(dataset_id, "mine", [NEW_DOCUMENT], visible=ALL)
    messages = await asyncio.gather(*following)
    assert store.reads == reads + 1, "one notification is one read for all watches"
    assert len(set(map(id, messages))) == 1, "a message for all is encoded once"
    for watcher in watchers:
        await watcher.aclose()
    await store.close()


async def test_batch_without_watches_is_not_read(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    notifier = Notifier()
    store = CountingStore(
        config.db,
        clock=clock,
        encoder=ENCODER,
        on_commit=notifier.notify,
        on_foreign_commit=notifier.close,
    )
    submissions = Submissions(store)
    await submissions.create_batch(_batch(dataset_id, "mine"), visible=ALL)
    watches = BatchWatches(store, notifier, encode=WatchEncoder(), config=config, clock=clock)
    watcher = watches.watch(_request(dataset_id), on_begun=_nothing, caller=ANY_CALLER)
    await anext(watcher)
    await watcher.aclose()
    await store.idle.wait()
    reads = store.reads
    await submissions.add_documents(dataset_id, "mine", [NEW_DOCUMENT], visible=ALL)
    assert store.reads == reads
    assert notifier.topics() == []
    await store.close()


async def test_drain_during_a_throttle_interval_ends_the_watch(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    """A needless notification made the tail wait; those that came meanwhile were cleared."""
    notifier = Notifier()
    store = CountingStore(
        config.db,
        clock=clock,
        encoder=ENCODER,
        on_commit=notifier.notify,
        on_foreign_commit=notifier.close,
    )
    await Submissions(store).create_batch(_batch(dataset_id, "mine"), visible=ALL)
    slow = replace(config, watch_throttle_s=1.0)
    watches = BatchWatches(store, notifier, encode=WatchEncoder(), config=slow, clock=clock)
    watcher = watches.watch(_request(dataset_id), on_begun=_nothing, caller=ANY_CALLER)
    await anext(watcher)
    following = asyncio.create_task(anext(watcher))
    await asyncio.sleep(0)  # it reads
    await store.idle.wait()
    for _ in range(5):
        notifier.notify([(dataset_id, "mine")])
        await asyncio.sleep(0)  # the tail waits for the end of its interval
    notifier.close()
    async with asyncio.timeout(60):
        with pytest.raises(Draining):
            await following
    await store.close()


def _batch(dataset_id: str, batch_id: str) -> NewBatch:
    return new_batch(dataset_id=dataset_id, batch_id=batch_id, more_documents_follow=True)


def _request(dataset_id: str) -> WatchRequest:
    return watch_request(dataset_id=dataset_id, batch_id="mine", follow=True)


async def _nothing() -> None:
    pass
