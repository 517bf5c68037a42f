"""A look at the store that keeps nobody from being heard from.

A fault of the store, or a read that takes long, is no reason to end a watch: it has nothing new to
tell, tells so when its heartbeat is due, and looks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from stagecast.errors import StoreBusy
from stagecast.watches.timers import WatchTimers

T = TypeVar("T")


class PendingRead(Generic[T]):
    """Reads, one read after the other.

    Attributes:
        blind: whether the last one has not been answered: what there is to tell is not known.
    """

    def __init__(self) -> None:
        self.unavailable = False
        self._task: asyncio.Task[T] | None = None

    @property
    def pending(self) -> bool:
        """Whether a read goes on that was not waited for."""
        return self._task is not None

    def close(self) -> None:
        """Ask for no more."""
        if self._task is not None:
            self._task.cancel()

    async def take(
        self, read: Callable[[], Coroutine[Any, Any, T]], timers: WatchTimers
    ) -> T | None:
        """Return what a read gives, of the pending one if there is one.

        Returns `None` when a heartbeat is due before that, or after a fault and a pause.
        """
        if self._task is None:
            self._task = asyncio.create_task(read())
        await asyncio.wait((self._task,), timeout=timers.read_timeout_s)
        self.unavailable = True
        if not self._task.done():
            return None
        ended, self._task = self._task, None
        try:
            result = ended.result()
        except StoreBusy as fault:
            await asyncio.sleep(min(fault.retry_after_s, timers.until_due_s))
            return None
        self.unavailable = False
        return result
