"""Large bodies on their way to clients: how much memory they have together.

A body of a large batch has tens of megabytes, and its slowest client holds it. So another is made
only while those that are under way leave room, one at a time; who cannot wait so long is told.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable

from stagecast.errors import StoreBusy
from stagecast.rest.content import Content

_BYTES = 64 << 20  # under way; beyond them there is at most one body more
_TIMEOUT_S = 5.0  # less than clients wait for an answer
_RETRY_AFTER_S = 5.0


class LargeBodyBudget:
    """The large bodies of one path that somebody still sends."""

    def __init__(self) -> None:
        self._under_way: weakref.WeakSet[Content] = weakref.WeakSet()
        self._making = False
        self._changed = asyncio.Event()

    async def make(self, make: Callable[[], Awaitable[Content]]) -> Content:
        """Make a body when there is room for it.

        Raises:
            StoreBusy: there was none in time.
        """
        await self._wait_for_room()
        self._making = True
        try:
            content = await make()
        finally:
            self._making = False
            self._changed.set()
        self._under_way.add(content)
        weakref.finalize(content, self._changed.set)
        return content

    async def _wait_for_room(self) -> None:
        try:
            while self._making or sum(body.size for body in self._under_way) > _BYTES:
                self._changed.clear()
                # Anew with each that goes on: who only waits for its turn comes to it.
                async with asyncio.timeout(_TIMEOUT_S):
                    await self._changed.wait()
        except TimeoutError:
            raise StoreBusy(
                "the answers that are under way leave no room for another large one",
                retry_after_s=_RETRY_AFTER_S,
            ) from None
