"""Work that many want at once, done once for all of them.

A snapshot of 100,000 documents takes seconds of the interpreter and a thread of the store.
Were everybody who asks given one of their own at once, they would take every thread from everybody
else.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Runs works with the same key one after the other.

    Who asks for a work that waits for its turn shares it; one that has begun is not shared, because
    it may have read already what has changed since.
    """

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[T]] = {}
        self._waiting: dict[Hashable, asyncio.Task[T]] = {}
        self._askers: Counter[asyncio.Task[T]] = Counter()

    async def do(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """Return the result of the work with this key; it goes on until all askers have left."""
        if key not in self._waiting:
            self._waiting[key] = asyncio.create_task(self._take_turn(key, work))
        task = self._waiting[key]
        self._askers[task] += 1
        try:
            return await asyncio.shield(task)
        finally:
            self._askers[task] -= 1
            if not self._askers[task]:
                del self._askers[task]
                self._abandon(key, task)

    async def _take_turn(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        before = self._running.get(key)
        this = asyncio.current_task()
        try:
            if before is not None:
                await asyncio.wait((before,))
        finally:
            before = None  # nor what it made
            if self._waiting.get(key) is this:
                del self._waiting[key]
        if this is not None:
            self._running[key] = this
        try:
            return await work()
        finally:
            if self._running.get(key) is this:
                del self._running[key]

    def _abandon(self, key: Hashable, task: asyncio.Task[T]) -> None:
        """End a work that nobody waits for, so that a disk that hangs does not gather them."""
        if self._waiting.get(key) is task:  # whoever asks now is not to share it
            del self._waiting[key]
        task.cancel()
