"""The time that what is under way has when the server stops."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

from stagecast.errors import Draining


class Grace:
    """Knows what is under way, and tells it when there is no more time."""

    def __init__(self) -> None:
        self._under_way: set[asyncio.Timeout] = set()

    @contextlib.asynccontextmanager
    async def until_over(self) -> AsyncIterator[None]:
        """Let the block go on until there is no more time for calls under way.

        Raises:
            Draining: there is none.
        """
        timeout = asyncio.timeout(None)
        try:
            async with timeout:
                self._under_way.add(timeout)
                yield
        except TimeoutError:
            if not timeout.expired():
                raise
            raise Draining(
                "the server stops; what was sent may or may not be recorded: send it again with "
                "the same ids",
                retry_after_s=random.uniform(0.1, 1.0),  # noqa: S311 - spreads reconnects
            ) from None
        finally:
            self._under_way.discard(timeout)

    def end(self) -> None:
        """Tell calls that are still under way that there is no more time."""
        for timeout in self._under_way:
            if not timeout.expired():
                timeout.reschedule(0)
