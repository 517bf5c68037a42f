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


class Bell:
    """Rings until it is cleared. Clear it, then read, then wait: no change slips between."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def rung(self) -> bool:
        """Whether it rang since it was cleared."""
        return self._event.is_set()

    def ring(self) -> None:
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
        return self.rung


class Feed:
    """The bells of one server, by what is watched. Belongs to one event loop."""

    def __init__(self) -> None:
        self._bells: dict[Topic, set[Bell]] = {}
        self.closed = False

    @contextlib.contextmanager
    def listen(self, *topics: Topic) -> Iterator[Bell]:
        """Give a bell for as long as the block runs."""
        bell = Bell()
        for topic in topics:
            self._bells.setdefault(topic, set()).add(bell)
        try:
            yield bell
        finally:
            for topic in topics:
                self._forget(topic, bell)

    def ring(self, topics: Iterable[Topic]) -> None:
        """Ring the bells of these topics and of all that they are part of."""
        self.ring_only({topic[:depth] for topic in topics for depth in range(len(topic) + 1)})

    def ring_only(self, topics: Iterable[Topic]) -> None:
        """Ring the bells of these topics."""
        for topic in topics:
            for bell in self._bells.get(topic, ()):
                bell.ring()

    def topics(self) -> list[Topic]:
        """Return what somebody listens to."""
        return list(self._bells)

    def close(self) -> None:
        """Tell everybody that the server is about to stop."""
        self.closed = True
        self.ring_only(self.topics())

    def _forget(self, topic: Topic, bell: Bell) -> None:
        bells = self._bells[topic]
        bells.remove(bell)
        if not bells:
            del self._bells[topic]
