"""An idle watch costs nothing but its cursor."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from stagecast.config import Config
from stagecast.errors import Draining
from stagecast.model import ALL, NewBatch, WatchRequest
from stagecast.notifier import Notifier
from stagecast.service.submissions import Submissions
from stagecast.v1 import status_service_pb2 as ss
from stagecast.watches import rounds
from tests.builders import new_batch, new_document, watch_request
from tests.clock import Clock
from tests.store.counting import CountingStore
from tests.watches.reading import messages_of, open_batch_watches

NEVER_S = 3_600.0
NEW_DOCUMENT = new_document("")


async def test_idle_watch_reads_only_when_its_own_batch_is_notified(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    notifier = Notifier()
    store = CountingStore(
        config.db,
        clock=clock,
        on_commit=notifier.notify,
        on_foreign_commit=notifier.close,
    )
    submissions = Submissions(store)
    for batch_id in ("mine", "other"):
        await submissions.create_batch(_batch(dataset_id, batch_id), visible=ALL)
    watches = open_batch_watches(store, notifier, config, clock)
    watchers = [messages_of(partial(watches.watch, _request(dataset_id))) for _ in range(10)]
    for watcher in watchers:
        assert ss.WatchBatchResponse.FromString(await anext(watcher)).snapshot.complete
    reads = store.reads
    following = [asyncio.create_task(anext(watcher)) for watcher in watchers]
    await submissions.add_documents(dataset_id, "other", [NEW_DOCUMENT], visible=ALL)
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
        on_commit=notifier.notify,
        on_foreign_commit=notifier.close,
    )
    submissions = Submissions(store)
    await submissions.create_batch(_batch(dataset_id, "mine"), visible=ALL)
    watches = open_batch_watches(store, notifier, config, clock)
    watcher = messages_of(partial(watches.watch, _request(dataset_id)))
    await anext(watcher)
    await watcher.aclose()
    await store.idle.wait()
    reads = store.reads
    await submissions.add_documents(dataset_id, "mine", [NEW_DOCUMENT], visible=ALL)
    assert store.reads == reads
    assert notifier.topics() == []
    await store.close()


async def test_changes_during_a_round_are_one_message(
    config: Config, clock: Clock, dataset_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "_BLOCKED_S", NEVER_S)
    notifier = Notifier()
    store = CountingStore(
        config.db,
        clock=clock,
        on_commit=notifier.notify,
        on_foreign_commit=notifier.close,
    )
    submissions = Submissions(store)
    await submissions.create_batch(_batch(dataset_id, "mine"), visible=ALL)
    watches = open_batch_watches(store, notifier, config, clock)
    watchers = [messages_of(partial(watches.watch, _request(dataset_id))) for _ in range(2)]
    for watcher in watchers:
        await anext(watcher)
    for changes in (1, 20):  # the round of the first lasts until both request the next message
        following = [asyncio.create_task(anext(watcher)) for watcher in watchers]
        if changes == 1:
            await asyncio.sleep(0)
            await submissions.add_documents(dataset_id, "mine", [NEW_DOCUMENT], visible=ALL)
        messages = await asyncio.gather(*following)
        for message in map(ss.WatchBatchResponse.FromString, messages):
            assert len(message.transitions) == changes
        for _ in range(20):
            await submissions.add_documents(dataset_id, "mine", [NEW_DOCUMENT], visible=ALL)
    for watcher in watchers:
        await watcher.aclose()
    await store.close()


async def test_drain_ends_a_watch_at_once_during_a_pause_between_rounds(
    config: Config, clock: Clock, dataset_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "_BLOCKED_S", NEVER_S)
    notifier = Notifier()
    store = CountingStore(
        config.db,
        clock=clock,
        on_commit=notifier.notify,
        on_foreign_commit=notifier.close,
    )
    await Submissions(store).create_batch(_batch(dataset_id, "mine"), visible=ALL)
    watches = open_batch_watches(store, notifier, config, clock)
    watcher = messages_of(partial(watches.watch, _request(dataset_id)))
    await anext(watcher)
    following = asyncio.create_task(anext(watcher))
    await asyncio.sleep(0)
    await watches.shared.rounds.begin("another tail")  # its round never ends
    for _ in range(5):
        notifier.notify([(dataset_id, "mine")])
        await asyncio.sleep(0)
    notifier.close()
    async with asyncio.timeout(60):
        with pytest.raises(Draining):
            await following
    await store.close()


def _batch(dataset_id: str, batch_id: str) -> NewBatch:
    return new_batch(dataset_id=dataset_id, batch_id=batch_id, more_documents_follow=True)


def _request(dataset_id: str) -> WatchRequest:
    return watch_request(dataset_id=dataset_id, batch_id="mine", follow=True)
