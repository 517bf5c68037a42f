"""The time that running calls have to finish when the server stops."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

from stagecast.errors import Draining


class Grace:
    """Ends the running calls with `Draining` when the grace period is over."""

    def __init__(self) -> None:
        self._timeouts: set[asyncio.Timeout] = set()

    @contextlib.asynccontextmanager
    async def until_over(self) -> AsyncIterator[None]:
        """Run the block until the grace period is over.

        Raises:
            Draining: it is over.
        """
        timeout = asyncio.timeout(None)
        try:
            async with timeout:
                self._timeouts.add(timeout)
                yield
        except TimeoutError:
            if not timeout.expired():
                raise
            raise Draining(
                "server is shutting down; try again; a write may or may not have been recorded: "
                "send it with the same ids",
                retry_after_s=random.uniform(0.1, 1.0),  # noqa: S311 - spreads reconnects
            ) from None
        finally:
            self._timeouts.discard(timeout)

    def end(self) -> None:
        """End the calls that are still running."""
        for timeout in self._timeouts:
            if not timeout.expired():
                timeout.reschedule(0)
