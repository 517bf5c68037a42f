"""Wake-ups: who watches a batch hears a bell when the batch may have changed.

A bell carries no data and only says *read again*, so nothing in it can overflow or be lost, and one
ring stands for any number of changes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator

Topic = tuple[str, ...]
"""What is listened to: nothing less than everything, a dataset by its id, or a batch by both."""


class Subscription:
    """Rings until it is cleared. Clear it, then read, then wait: no change slips between."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def notified(self) -> bool:
        """Whether it rang since it was cleared."""
        return self._event.is_set()

    def notify(self) -> None:
        """Wake who waits, or who will."""
        self._event.set()

    def clear(self) -> None:
        """Forget that it rang."""
        self._event.clear()

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Return whether it rang within the time, or as soon as it does."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        return self.notified


class Notifier:
    """The bells of one server, by what is watched. Belongs to one event loop."""

    def __init__(self) -> None:
        self._subscriptions: dict[Topic, set[Subscription]] = {}
        self.closed = False

    @contextlib.contextmanager
    def subscribe(self, *topics: Topic) -> Iterator[Subscription]:
        """Give a bell for as long as the block runs."""
        subscription = Subscription()
        for topic in topics:
            self._subscriptions.setdefault(topic, set()).add(subscription)
        try:
            yield subscription
        finally:
            for topic in topics:
                self._forget(topic, subscription)

    def notify(self, topics: Iterable[Topic]) -> None:
        """Ring the bells of these topics and of all that they are part of."""
        self.notify_only({topic[:depth] for topic in topics for depth in range(len(topic) + 1)})

    def notify_only(self, topics: Iterable[Topic]) -> None:
        """Ring the bells of these topics."""
        for topic in topics:
            for subscription in self._subscriptions.get(topic, ()):
                subscription.notify()

    def topics(self) -> list[Topic]:
        """Return what somebody listens to."""
        return list(self._subscriptions)

    def close(self) -> None:
        """Tell everybody that the server is about to stop."""
        self.closed = True
        self.notify_only(self.topics())

    def _forget(self, topic: Topic, subscription: Subscription) -> None:
        subscriptions = self._subscriptions[topic]
        subscriptions.remove(subscription)
        if not subscriptions:
            del self._subscriptions[topic]
