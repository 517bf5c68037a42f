"""Reads of the store that never delay a heartbeat.

A store fault or a slow read does not end a watch: it sends heartbeats when they are due, and reads
again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from stagecast.errors import StoreBusy
from stagecast.watches.timers import WatchTimers

T = TypeVar("T")


class PendingRead(Generic[T]):
    """Runs one read after the other.

    Attributes:
        unavailable: whether the last read failed or has not returned yet.
    """

    def __init__(self) -> None:
        self.unavailable = False
        self._task: asyncio.Task[T] | None = None

    @property
    def pending(self) -> bool:
        """Whether a read is still running."""
        return self._task is not None

    def close(self) -> None:
        """Cancel a running read."""
        if self._task is not None:
            self._task.cancel()

    async def take(
        self, read: Callable[[], Coroutine[Any, Any, T]], timers: WatchTimers
    ) -> T | None:
        """Return the result of the pending read, or of a new one.

        Returns `None` if a heartbeat is due first, or after a store fault and a pause.
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
