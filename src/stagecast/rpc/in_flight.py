"""The running calls: counted until they end, and refused while the server drains."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator

from stagecast.errors import Draining
from stagecast.grace import Grace


class InFlightCalls(Grace):
    """Counts calls until their status is sent; once closed, refuses new ones."""

    def __init__(self) -> None:
        super().__init__()
        self._closed = False
        self._running = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @contextlib.contextmanager
    def track(self) -> Iterator[None]:
        """Count a call during the block, unless closed."""
        if self._closed:  # clients that retry all the time would delay a shutdown
            yield
            return
        self._running += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._empty.set()

    def check(self) -> None:
        """Check that a new call may begin.

        Raises:
            Draining: closed.
        """
        if self._closed:
            raise Draining(
                "server is shutting down; try again",
                retry_after_s=random.uniform(0.1, 1.0),  # noqa: S311 - spreads reconnects
            )

    def close(self) -> None:
        """Refuse new calls from now on."""
        self._closed = True

    async def wait_until_empty(self, timeout_s: float) -> None:
        """Wait until no call is running, or the timeout is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
