"""Looking at other processes' commits: who hears of them, also when the look goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import uuid
from collections.abc import Callable
from typing import TypeVar

import pytest

from stagecast import chores
from stagecast.config import Config
from stagecast.controls import Controls
from stagecast.errors import StoreBusy
from stagecast.feed import Feed, Topic
from stagecast.model import ALL, Visibility
from stagecast.store import Reading
from stagecast.store.sqlite import SqliteStore
from stagecast.submissions import Submissions
from stagecast.watches import Neighbours
from tests.builders import create
from tests.clock import Clock

T = TypeVar("T")


class Faulty(SqliteStore):
    """Cannot be read as long as there is a fault."""

    fault: Exception | None = None

    async def read(self, query: Callable[[Reading], T], *, visible: Visibility) -> T:
        if self.fault is not None:
            raise self.fault
        return await super().read(query, visible=visible)


@pytest.mark.parametrize("fault", [StoreBusy("busy", retry_after_s=0.001), LookupError("a bug")])
async def test_everybody_hears_although_the_look_fails(
    config: Config,
    clock: Clock,
    dataset_id: str,
    fault: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An answer that is kept would be shown for ever if nobody rang its bell."""
    monkeypatch.setattr(chores, "_AFTER_FAULT_S", 0.001)
    feed, committed = Feed(), asyncio.Event()
    store = Faulty(config.db, clock=clock, on_commit=feed.ring, on_foreign_commit=committed.set)
    looking = asyncio.create_task(Neighbours(store, feed, committed).run())
    with feed.listen((dataset_id, "batch")) as bell:
        for store.fault in (fault, None):
            bell.clear()
            committed.set()
            assert await bell.wait(30)
            assert not looking.done()
    looking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await looking
    await store.close()


async def test_only_who_listens_to_what_has_changed_hears_of_it(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    """Other processes commit all the time, and each bell costs a read."""
    feed, other_id = Feed(), str(uuid.uuid4())
    store = SqliteStore(
        config.db, clock=clock, on_commit=lambda _topics: None, on_foreign_commit=lambda: None
    )
    for name, batch_id in itertools.product((dataset_id, other_id), ("one", "other")):
        await create(store, batch_id, dataset_id=name, sealed=False)
    neighbours = Neighbours(store, feed, asyncio.Event())
    topics = [(), (dataset_id,), (dataset_id, "one"), (dataset_id, "other"), (other_id,)]
    with contextlib.ExitStack() as listening:
        bells = {topic: listening.enter_context(feed.listen(topic)) for topic in topics}

        async def heard() -> set[Topic]:
            await neighbours.look()
            rung = {topic for topic, bell in bells.items() if bell.rung}
            for bell in bells.values():
                bell.clear()
            return rung

        assert await heard() == set(topics)
        assert await heard() == set()
        await Submissions(store).seal_batch(dataset_id, "one", visible=ALL)
        assert await heard() == {(), (dataset_id,), (dataset_id, "one")}
        await Controls(store).delete_dataset(other_id, visible=ALL)
        assert await heard() == {(), (other_id,)}
    await store.close()
