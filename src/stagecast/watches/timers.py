"""The times of one watch: its heartbeat and its life."""

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

_CHECK_EVERY_S = 0.25  # whether the server drains, while there is no bell that would tell


class WatchTimers:
    """When a watch has to be heard from, and when it has lived long enough, on the loop's clock."""

    def __init__(self, heartbeat_s: float, config: Config) -> None:
        self._now = asyncio.get_running_loop().time
        # A little early, so that the client has it in time.
        self._silence_s = max(0.9 * heartbeat_s, heartbeat_s - 0.5)
        self._grace_s = (heartbeat_s - self._silence_s) / 2
        self._last_s = self._now()
        life = config.watch_life_s * random.uniform(0.9, 1.1)  # noqa: S311 - spreads reconnects
        self._end_s = self._last_s + life

    @property
    def heartbeat_due(self) -> bool:
        """Whether it is time to be heard from."""
        return self._now() >= self._last_s + self._silence_s

    @property
    def due_s(self) -> float:
        """When there is something to do without news, by the loop's clock."""
        return min(self._last_s + self._silence_s, self._end_s)

    @property
    def until_due_s(self) -> float:
        """For how long nothing has to be done without news."""
        return max(0.0, self.due_s - self._now())

    @property
    def read_timeout_s(self) -> float:
        """How long a look at the store may take; a heartbeat that is due waits a little for it."""
        return max(self._grace_s, self.until_due_s)

    def make_due(self) -> None:
        """Let it be time to be heard from at once."""
        self._last_s = -math.inf

    def sent(self) -> None:
        """Begin the silence anew."""
        self._last_s = self._now()

    async def is_done(self, work: asyncio.Future[Any], notifier: Notifier) -> bool:
        """Wait for a work; False if it is time to be heard from before it is done.

        Raises:
            Draining, WatchExpired: watch again.
        """
        while not work.done() and not self.heartbeat_due:
            self.check_alive(notifier)
            until_s = min(self.due_s - self._now(), _CHECK_EVERY_S)
            await asyncio.wait((work,), timeout=until_s)
        return work.done()

    def check_alive(self, notifier: Notifier) -> None:
        """Let a watch go on, or tell why it does not.

        Raises:
            Draining, WatchExpired: watch again.
        """
        check_open(notifier)
        if self._now() >= self._end_s:
            raise WatchExpired(
                "the watch has lived long enough; watch again with the last token",
                retry_after_s=random.uniform(0.0, 1.0),  # noqa: S311 - spreads reconnects
            )


@contextlib.asynccontextmanager
async def begun(work: Awaitable[T]) -> AsyncIterator[asyncio.Future[T]]:
    """Let a work go on for as long as the block."""
    future = asyncio.ensure_future(work)
    try:
        yield future
    finally:
        future.cancel()
        await asyncio.wait((future,))


def check_open(notifier: Notifier) -> None:
    """Let somebody wait for news, unless there will be no more.

    Raises:
        Draining: the server is about to stop.
    """
    if notifier.closed:
        raise Draining(
            "the server is about to stop; go on at another, or when it is back",
            retry_after_s=random.uniform(0.1, 1.0),  # noqa: S311 - spreads reconnects
        )
