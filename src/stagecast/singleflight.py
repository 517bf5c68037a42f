"""Concurrent requests for the same work share one run of it.

A snapshot of 100,000 documents takes seconds of the interpreter and a thread of the store. One for
each caller at once would occupy every thread.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Runs work with the same key one at a time.

    A caller shares a run that is still waiting. A run that has started is not shared: it may have
    read data that changed since.
    """

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[T]] = {}
        self._waiting: dict[Hashable, asyncio.Task[T]] = {}
        self._callers: Counter[asyncio.Task[T]] = Counter()

    async def do(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """Return the result of the work with this key; cancelled once all callers left."""
        if key not in self._waiting:
            self._waiting[key] = asyncio.create_task(self._run(key, work))
        task = self._waiting[key]
        self._callers[task] += 1
        try:
            return await asyncio.shield(task)
        finally:
            self._callers[task] -= 1
            if not self._callers[task]:
                del self._callers[task]
                self._abandon(key, task)

    async def _run(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        before = self._running.get(key)
        this = asyncio.current_task()
        try:
            if before is not None:
                await asyncio.wait((before,))
        finally:
            before = None  # free its result
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
        """Cancel work without callers, so that it does not pile up on a hanging disk."""
        if self._waiting.get(key) is task:  # new callers must not share it
            del self._waiting[key]
        task.cancel()
