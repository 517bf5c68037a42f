"""A minimum interval between reads: bursts of changes are merged, a single change is immediate."""

from __future__ import annotations

import asyncio

from stagecast.notifier import Subscription


class Throttle:
    """Keeps a minimum interval between two reads that follow notifications."""

    def __init__(self, interval_s: float) -> None:
        self._now = asyncio.get_running_loop().time
        self._interval_s = interval_s
        self._next_s = self._now()

    async def wait(self, subscription: Subscription, timeout_s: float) -> None:
        """Wait for a notification and the end of the interval, or for the timeout.

        Clears the subscription for the read, and starts the next interval.
        """
        end_s = self._now() + timeout_s
        if await subscription.wait(timeout_s):
            # For a single change the interval has passed already.
            await asyncio.sleep(min(self._next_s, end_s) - self._now())
        subscription.clear()
        self._next_s = self._now() + self._interval_s
