"""A tick: what rings all the time is looked at only so often, a lone change at once."""

from __future__ import annotations

import asyncio

from stagecast.notifier import Subscription


class Throttle:
    """The least time between two looks of somebody who waits for a bell."""

    def __init__(self, length_s: float) -> None:
        self._now = asyncio.get_running_loop().time
        self._length_s = length_s
        self._over_s = self._now()

    async def wait(self, subscription: Subscription, timeout_s: float) -> None:
        """Wait until it is time to look: the bell rang and the tick is over, or the time is.

        The bell is cleared for the look, and the next tick begins.
        """
        end_s = self._now() + timeout_s
        if await subscription.wait(timeout_s):
            # A lone change finds the tick over.
            await asyncio.sleep(min(self._over_s, end_s) - self._now())
        subscription.clear()
        self._over_s = self._now() + self._length_s
