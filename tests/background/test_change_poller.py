"""Looking at other processes' commits: who hears of them, also when the look goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import uuid
from collections.abc import Callable
from typing import TypeVar

import pytest

from stagecast import periodic
from stagecast.background.change_poller import ChangePoller
from stagecast.config import Config
from stagecast.errors import StoreBusy
from stagecast.model import ALL, Visibility
from stagecast.notifier import Notifier, Topic
from stagecast.service.controls import Controls
from stagecast.service.submissions import Submissions
from stagecast.store import ReadTransaction
from stagecast.store.sqlite import SqliteStore
from tests.builders import create
from tests.clock import Clock

T = TypeVar("T")


class Faulty(SqliteStore):
    """Cannot be read as long as there is a fault."""

    fault: Exception | None = None

    async def read(self, query: Callable[[ReadTransaction], T], *, visible: Visibility) -> T:
        if self.fault is not None:
            raise self.fault
        return await super().read(query, visible=visible)


@pytest.mark.parametrize("fault", [StoreBusy("busy", retry_after_s=0.001), LookupError("a bug")])
async def test_everything_is_notified_when_the_poll_fails(
    config: Config,
    clock: Clock,
    dataset_id: str,
    fault: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An answer that is kept would be shown for ever if nobody rang its bell."""
    monkeypatch.setattr(periodic, "_AFTER_FAULT_S", 0.001)
    notifier, committed = Notifier(), asyncio.Event()
    store = Faulty(
        config.db, clock=clock, on_commit=notifier.notify, on_foreign_commit=committed.set
    )
    looking = asyncio.create_task(ChangePoller(store, notifier, committed).run())
    with notifier.subscribe((dataset_id, "batch")) as subscription:
        for store.fault in (fault, None):
            subscription.clear()
            committed.set()
            assert await subscription.wait(30)
            assert not looking.done()
    looking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await looking
    await store.close()


async def test_only_changed_topics_are_notified(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    """Other processes commit all the time, and each bell costs a read."""
    notifier, other_id = Notifier(), str(uuid.uuid4())
    store = SqliteStore(
        config.db, clock=clock, on_commit=lambda _topics: None, on_foreign_commit=lambda: None
    )
    for name, batch_id in itertools.product((dataset_id, other_id), ("one", "other")):
        await create(store, batch_id, dataset_id=name, sealed=False)
    poller = ChangePoller(store, notifier, asyncio.Event())
    topics = [(), (dataset_id,), (dataset_id, "one"), (dataset_id, "other"), (other_id,)]
    with contextlib.ExitStack() as listening:
        subscriptions = {
            topic: listening.enter_context(notifier.subscribe(topic)) for topic in topics
        }

        async def heard() -> set[Topic]:
            await poller.poll()
            notified = {
                topic for topic, subscription in subscriptions.items() if subscription.notified
            }
            for subscription in subscriptions.values():
                subscription.clear()
            return notified

        assert await heard() == set(topics)
        assert await heard() == set()
        await Submissions(store).seal_batch(dataset_id, "one", visible=ALL)
        assert await heard() == {(), (dataset_id,), (dataset_id, "one")}
        await Controls(store).delete_dataset(other_id, visible=ALL)
        assert await heard() == {(), (other_id,)}
    await store.close()
