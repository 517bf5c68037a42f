"""Polling for commits of other processes: the topics notified, also when the poll fails."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import uuid
from collections.abc import Callable
from typing import TypeVar

import pytest

from stagecast import periodic
from stagecast.background import change_poller
from stagecast.background.change_poller import ChangePoller
from stagecast.config import Config
from stagecast.errors import StoreBusy
from stagecast.model import ALL, Visibility
from stagecast.notifier import Notifier, Topic
from stagecast.service.controls import Controls
from stagecast.service.submissions import Submissions
from stagecast.store import ReadTransaction
from stagecast.store.sqlite import SqliteStore
from stagecast.watches import Rounds
from tests.builders import ENCODER, counted, create, move, report_of, started
from tests.clock import Clock
from tests.conditions import until

T = TypeVar("T")


class Faulty(SqliteStore):
    """Cannot be read while it has a fault."""

    fault: Exception | None = None

    async def read(self, query: Callable[[ReadTransaction], T], *, visible: Visibility) -> T:
        if self.fault is not None:
            raise self.fault
        return await super().read(query, visible=visible)


class Counting(SqliteStore):
    """Counts how often its version is checked."""

    checks = 0

    def version(self) -> int:
        self.checks += 1
        return super().version()


class Observed(Notifier):
    """Shows whether somebody waits for a subscription."""

    waiting = False

    async def until_used(self) -> None:
        self.waiting = True
        await super().until_used()
        self.waiting = False


@pytest.mark.parametrize("fault", [StoreBusy("busy", retry_after_s=0.001), LookupError("a bug")])
async def test_everything_is_notified_when_the_poll_fails(
    config: Config,
    clock: Clock,
    dataset_id: str,
    fault: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A cached response would be served for ever without a notification."""
    monkeypatch.setattr(periodic, "_AFTER_FAULT_S", 0.001)
    notifier = Notifier()
    poller = ChangePoller(notifier, opened=Rounds().opened)
    store = Faulty(
        config.db,
        clock=clock,
        encoder=ENCODER,
        on_commit=notifier.notify,
        on_foreign_commit=poller.wake,
    )
    polling = asyncio.create_task(poller.run(store))
    with notifier.subscribe((dataset_id, "batch")) as subscription:
        for store.fault in (fault, None):
            subscription.clear()
            poller.wake()
            assert await subscription.wait(30)
            assert not polling.done()
    polling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await polling
    await store.close()


async def test_store_is_checked_only_while_somebody_watches(
    config: Config, clock: Clock, dataset_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle server costs nothing."""
    monkeypatch.setattr(change_poller, "_EVERY_S", 0.001)
    notifier = Observed()
    poller = ChangePoller(notifier, opened=Rounds().opened)
    store = Counting(
        config.db,
        clock=clock,
        encoder=ENCODER,
        on_commit=lambda _: None,
        on_foreign_commit=poller.wake,
    )
    other = SqliteStore(
        config.db,
        clock=clock,
        encoder=ENCODER,
        on_commit=lambda _: None,
        on_foreign_commit=lambda: None,
    )
    polling = asyncio.create_task(poller.run(store))
    for number in range(2):
        batch_id = f"{number}"
        with notifier.subscribe((dataset_id, batch_id)) as subscription:
            await create(other, batch_id, dataset_id=dataset_id)
            assert await subscription.wait(30)
        await until(lambda: notifier.waiting)
        before = store.checks
        for name in "abc":
            await create(other, f"{name}-{number}", dataset_id=dataset_id)
        assert notifier.waiting
        assert store.checks == before
    polling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await polling
    for each in (store, other):
        await each.close()


async def test_only_changed_topics_are_notified(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    """Other processes commit all the time, and each notification costs a read."""
    notifier, other_id = Notifier(), str(uuid.uuid4())
    poller = ChangePoller(notifier, opened=Rounds().opened)
    store = SqliteStore(
        config.db,
        clock=clock,
        encoder=ENCODER,
        on_commit=lambda _topics: None,
        on_foreign_commit=lambda: None,
    )
    for name, batch_id in itertools.product((dataset_id, other_id), ("one", "other")):
        await create(store, batch_id, dataset_id=name, sealed=False)
    topics = [(), (dataset_id,), (dataset_id, "one"), (dataset_id, "other"), (other_id,)]
    with contextlib.ExitStack() as stack:
        subscriptions = {topic: stack.enter_context(notifier.subscribe(topic)) for topic in topics}

        async def poll() -> set[Topic]:
            await poller.poll(store)
            notified = {
                topic for topic, subscription in subscriptions.items() if subscription.notified
            }
            for subscription in subscriptions.values():
                subscription.clear()
            return notified

        assert await poll() == set(topics)
        assert await poll() == set()
        await Submissions(store).seal_batch(dataset_id, "one", visible=ALL)
        assert await poll() == {(), (dataset_id,), (dataset_id, "one")}
        await Controls(store).delete_dataset(other_id, visible=ALL)
        assert await poll() == {(), (other_id,)}
    await store.close()


async def test_what_this_process_has_committed_is_not_notified_again(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    """Each notification costs a read."""
    notifier = Notifier()
    poller = ChangePoller(notifier, opened=Rounds().opened)
    async with contextlib.AsyncExitStack() as stack:
        own, other = (
            SqliteStore(
                config.db,
                clock=clock,
                encoder=ENCODER,
                on_commit=on_commit,
                on_foreign_commit=lambda: None,
            )
            for on_commit in (poller.pass_on, lambda _: None)
        )
        for store in (own, other):
            stack.push_async_callback(store.close)
        batch = await create(own, dataset_id=dataset_id, documents=4)
        name = (batch.dataset_id, batch.batch_id)
        subscription = stack.enter_context(notifier.subscribe(name))

        async def is_notified_by_poll() -> bool:
            subscription.clear()
            await poller.poll(own)
            return subscription.notified

        assert await is_notified_by_poll()
        await move(own, batch, (0, started))
        assert subscription.notified
        assert not await is_notified_by_poll()
        # Here, another process has committed something before, or something else.
        await move(other, batch, (1, started))
        await move(own, batch, (2, started))
        assert await is_notified_by_poll()
        await move(other, batch, (2, report_of(progress=counted(1))))
        await move(own, batch, (3, started))
        assert await is_notified_by_poll()
        assert not await is_notified_by_poll()


async def test_poll_waits_until_changes_may_be_pushed(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    """Under load, one poll finds what many commits of other processes have changed."""
    notifier, rounds = Notifier(), Rounds()
    poller = ChangePoller(notifier, opened=rounds.opened)
    store = SqliteStore(
        config.db,
        clock=clock,
        encoder=ENCODER,
        on_commit=lambda _: None,
        on_foreign_commit=poller.wake,
    )
    polling = asyncio.create_task(poller.run(store))
    with notifier.subscribe((dataset_id, "batch")) as subscription:
        await rounds.begin("a tail")
        for _ in range(3):
            poller.wake()
            await store.probe()
        assert not subscription.notified
        rounds.done("a tail")
        assert await subscription.wait(30)
    polling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await polling
    await store.close()
