"""Notifications: a subscription wakes its watch when a batch may have changed.

A notification only means *read again*: nothing can overflow or be lost, and one notification stands
for any number of changes. What has changed may be passed on with it: a short cut to the store,
never the only copy.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

Topic = tuple[str, ...]
"""The empty tuple for everything, the id of a dataset, or the ids of a dataset and a batch."""


class Subscription:
    """Stays notified until it is cleared. Clear, then read, then wait: no change is missed.

    There may be one for each open watch, so it is smaller than an `asyncio.Event`.

    Attributes:
        notified: whether it was notified since it was cleared.
        must_read: whether any of these notifications came without what has changed.
        receive: called with what has changed, where that is known.
    """

    __slots__ = ("__weakref__", "_waiters", "must_read", "notified", "receive")

    def __init__(self, receive: Callable[[Any], None] = lambda _change: None) -> None:
        self.notified = self.must_read = False
        self.receive = receive
        self._waiters: tuple[asyncio.Future[None], ...] = ()

    @property
    def waiting(self) -> bool:
        """Whether somebody waits for a notification."""
        return any(not waiter.done() for waiter in self._waiters)  # done: it was cancelled

    def notify(self) -> None:
        """Wake the current waiters, or the next one."""
        self.must_read = True
        self._wake()

    def pass_on(self, change: object) -> None:
        """Notify of a change that is known."""
        self.receive(change)
        self._wake()

    def _wake(self) -> None:
        self.notified = True
        waiters, self._waiters = self._waiters, ()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def clear(self) -> None:
        """Reset `notified` and `must_read`."""
        self.notified = self.must_read = False

    def notification(self) -> asyncio.Future[None]:
        """Return a future of the next notification; for those who wait often and for long."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters = (*(other for other in self._waiters if not other.done()), waiter)
        return waiter

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for a notification; False after the timeout."""
        if not self.notified:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self.notification()
        return self.notified


class Notifier:
    """The subscriptions of one server, by topic. Belongs to one event loop."""

    def __init__(self) -> None:
        self._subscriptions: dict[Topic, set[Subscription]] = {}
        self._all: set[Subscription] = set()
        self._in_use = asyncio.Event()
        self.closed = False

    @property
    def is_used(self) -> bool:
        """Whether there is a subscription to a topic."""
        return bool(self._subscriptions)

    async def until_used(self) -> None:
        """Wait until there is a subscription to a topic."""
        await self._in_use.wait()

    @contextlib.contextmanager
    def subscribe(
        self, *topics: Topic, receive: Callable[[Any], None] = lambda _change: None
    ) -> Iterator[Subscription]:
        """Yield a subscription that lasts as long as the block.

        Without topics it is notified of the end only.
        """
        subscription = Subscription(receive)
        self.add(subscription, *topics)
        try:
            yield subscription
        finally:
            self.remove(subscription, *topics)

    def add(self, subscription: Subscription, *topics: Topic) -> None:
        """Notify a subscription of these topics and of the end."""
        self._all.add(subscription)
        for topic in topics:
            self._subscriptions.setdefault(topic, set()).add(subscription)
            self._in_use.set()

    def remove(self, subscription: Subscription, *topics: Topic) -> None:
        """Notify a subscription no more."""
        self._all.discard(subscription)
        for topic in topics:
            self._forget(topic, subscription)

    def pass_on(self, changes: Mapping[Topic, object]) -> None:
        """Notify of changes, and pass each on to the subscriptions of its own topic."""
        for topic, change in changes.items():
            for subscription in self._subscriptions.get(topic, ()):
                subscription.pass_on(change)
        self.notify_only({topic[:depth] for topic in changes for depth in range(len(topic))})

    def notify(self, topics: Iterable[Topic]) -> None:
        """Notify the subscriptions of these topics and of all that contain them."""
        self.notify_only({topic[:depth] for topic in topics for depth in range(len(topic) + 1)})

    def notify_only(self, topics: Iterable[Topic]) -> None:
        """Notify the subscriptions of exactly these topics."""
        for topic in topics:
            for subscription in self._subscriptions.get(topic, ()):
                subscription.notify()

    def topics(self) -> list[Topic]:
        """Return the topics that have subscriptions."""
        return list(self._subscriptions)

    def close(self) -> None:
        """Notify all subscriptions that the server is shutting down."""
        self.closed = True
        for subscription in self._all:
            subscription.notify()

    def _forget(self, topic: Topic, subscription: Subscription) -> None:
        subscriptions = self._subscriptions[topic]
        subscriptions.remove(subscription)
        if not subscriptions:
            del self._subscriptions[topic]
        if not self._subscriptions:
            self._in_use.clear()
