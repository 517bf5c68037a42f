"""A memory budget for large bodies that are being sent.

The body of a large batch has tens of megabytes, and stays in memory until its slowest client has
received it. So the next one is made only when the budget allows, one at a time; a request that
waits too long fails.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable

from stagecast.errors import StoreBusy
from stagecast.rest.content import Content

_BYTES = 64 << 20  # being sent; exceeded by at most one body
_TIMEOUT_S = 5.0  # shorter than the timeouts of clients
_RETRY_AFTER_S = 5.0


class LargeBodyBudget:
    """The large bodies of one path that are still being sent."""

    def __init__(self) -> None:
        self._being_sent: weakref.WeakSet[Content] = weakref.WeakSet()
        self._making = False
        self._changed = asyncio.Event()

    async def make(self, make: Callable[[], Awaitable[Content]]) -> Content:
        """Make a body when the budget allows.

        Raises:
            StoreBusy: it did not in time.
        """
        await self._wait_for_budget()
        self._making = True
        try:
            content = await make()
        finally:
            self._making = False
            self._changed.set()
        self._being_sent.add(content)
        weakref.finalize(content, self._changed.set)
        return content

    async def _wait_for_budget(self) -> None:
        try:
            while self._making or sum(body.size for body in self._being_sent) > _BYTES:
                self._changed.clear()
                # Restarted with each change: the queue moves, so waiting makes sense.
                async with asyncio.timeout(_TIMEOUT_S):
                    await self._changed.wait()
        except TimeoutError:
            raise StoreBusy(
                "too many large responses are being sent",
                retry_after_s=_RETRY_AFTER_S,
            ) from None
