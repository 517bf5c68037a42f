"""The timers of one watch: heartbeat and maximum duration."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

from stagecast.config import Config
from stagecast.errors import Draining, WatchExpired
from stagecast.notifier import Notifier

T = TypeVar("T")

_CHECK_EVERY_S = 0.25  # whether the server drains, while no subscription would notify of it


class WatchTimers:
    """When the next heartbeat is due and when the watch expires, on the loop's clock."""

    def __init__(self, heartbeat_s: float, config: Config) -> None:
        self._now = asyncio.get_running_loop().time
        # A little early, so that the client gets it in time.
        self._silence_s = max(0.9 * heartbeat_s, heartbeat_s - 0.5)
        self._grace_s = (heartbeat_s - self._silence_s) / 2
        self._last_s = self._now()
        duration_s = config.watch_life_s * random.uniform(0.9, 1.1)  # noqa: S311 - spreads reconnects
        self._end_s = self._last_s + duration_s

    @property
    def heartbeat_due(self) -> bool:
        """Whether a heartbeat is due."""
        return self._now() >= self._last_s + self._silence_s

    @property
    def due_s(self) -> float:
        """When a heartbeat or the end is due, on the loop's clock."""
        return min(self._last_s + self._silence_s, self._end_s)

    @property
    def until_due_s(self) -> float:
        """Seconds until a heartbeat or the end is due."""
        return max(0.0, self.due_s - self._now())

    @property
    def read_timeout_s(self) -> float:
        """How long to wait for a read; a heartbeat that is due waits a little for it."""
        return max(self._grace_s, self.until_due_s)

    def make_due(self) -> None:
        """Make a heartbeat due at once."""
        self._last_s = -math.inf

    def sent(self) -> None:
        """Restart the heartbeat timer."""
        self._last_s = self._now()

    async def is_done(self, task: asyncio.Future[Any], notifier: Notifier) -> bool:
        """Wait for a task; False if a heartbeat is due before it is done.

        Raises:
            Draining, WatchExpired: watch again.
        """
        while not task.done() and not self.heartbeat_due:
            self.check_alive(notifier)
            timeout_s = min(self.due_s - self._now(), _CHECK_EVERY_S)
            await asyncio.wait((task,), timeout=timeout_s)
        return task.done()

    def check_alive(self, notifier: Notifier) -> None:
        """Check that the watch may continue.

        Raises:
            Draining, WatchExpired: watch again.
        """
        check_open(notifier)
        if self._now() >= self._end_s:
            raise WatchExpired(
                "maximum watch duration reached; watch again with the last resume token",
                retry_after_s=random.uniform(0.0, 1.0),  # noqa: S311 - spreads reconnects
            )


@contextlib.asynccontextmanager
async def running_task(work: Awaitable[T]) -> AsyncIterator[asyncio.Future[T]]:
    """Run a task and cancel it at the end of the block."""
    future = asyncio.ensure_future(work)
    try:
        yield future
    finally:
        future.cancel()
        await asyncio.wait((future,))


def check_open(notifier: Notifier) -> None:
    """Check that the server is not draining.

    Raises:
        Draining: the server is shutting down.
    """
    if notifier.closed:
        raise Draining(
            "server is shutting down; retry later or at another server",
            retry_after_s=random.uniform(0.1, 1.0),  # noqa: S311 - spreads reconnects
        )
