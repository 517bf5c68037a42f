"""A single change is read at once, frequent changes at a minimum interval."""

from __future__ import annotations

import asyncio

from stagecast.notifier import Subscription
from stagecast.watches.throttle import Throttle

NEVER_S = 3_600.0


async def waited(throttle: Throttle, subscription: Subscription, timeout_s: float) -> float:
    """Wait, and return the time afterwards."""
    async with asyncio.timeout(60):
        await throttle.wait(subscription, timeout_s)
    return asyncio.get_running_loop().time()


async def test_single_change_does_not_wait() -> None:
    throttle, subscription = Throttle(NEVER_S), Subscription()
    subscription.notify()
    await waited(throttle, subscription, NEVER_S)
    assert not subscription.notified, "cleared before the read"


async def test_change_within_the_interval_waits_up_to_the_timeout() -> None:
    for interval_s, timeout_s in ((0.05, NEVER_S), (NEVER_S, 0.05)):
        throttle, subscription = Throttle(interval_s), Subscription()
        began_s = asyncio.get_running_loop().time()
        subscription.notify()
        await waited(throttle, subscription, NEVER_S)
        subscription.notify()
        # Timers may fire a moment early.
        assert await waited(throttle, subscription, timeout_s) > began_s + 0.04
        assert not subscription.notified


async def test_wait_without_a_change_ends_at_the_timeout() -> None:
    began_s = asyncio.get_running_loop().time()
    assert await waited(Throttle(NEVER_S), Subscription(), 0.05) > began_s + 0.04
