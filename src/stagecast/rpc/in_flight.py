"""The gate that calls go through: it knows who is inside, and closes when the server drains."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator

from stagecast.errors import Draining
from stagecast.grace import Grace


class InFlightCalls(Grace):
    """Counts calls until their status is out; once it is closed, it refuses new ones."""

    def __init__(self) -> None:
        super().__init__()
        self._closed = False
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Be inside for as long as the block; whoever comes when the gate is closed is not."""
        if self._closed:  # clients that come again and again would hold up the end
            yield
            return
        self._inside += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    def check(self) -> None:
        """Let a call begin.

        Raises:
            Draining: the gate is closed.
        """
        if self._closed:
            raise Draining(
                "the server is about to stop; try again",
                retry_after_s=random.uniform(0.1, 1.0),  # noqa: S311 - spreads reconnects
            )

    def close(self) -> None:
        """Let nobody in any more."""
        self._closed = True

    async def wait_until_empty(self, timeout_s: float) -> None:
        """Wait until nobody is inside, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
