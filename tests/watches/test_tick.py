"""A lone change is looked at at once, what rings all the time only so often."""

from __future__ import annotations

import asyncio

from stagecast.feed import Bell
from stagecast.watches.tick import Tick

NEVER_S = 3_600.0


async def waited(tick: Tick, bell: Bell, timeout_s: float) -> float:
    """Wait, and return when that was over."""
    async with asyncio.timeout(60):
        await tick.wait(bell, timeout_s)
    return asyncio.get_running_loop().time()


async def test_lone_change_does_not_wait_for_the_tick() -> None:
    tick, bell = Tick(NEVER_S), Bell()
    bell.ring()
    await waited(tick, bell, NEVER_S)
    assert not bell.rung, "cleared for the look"


async def test_change_within_a_tick_waits_for_its_end_but_not_beyond_the_time() -> None:
    for length_s, timeout_s in ((0.05, NEVER_S), (NEVER_S, 0.05)):
        tick, bell = Tick(length_s), Bell()
        began_s = asyncio.get_running_loop().time()
        bell.ring()
        await waited(tick, bell, NEVER_S)
        bell.ring()
        # As clocks are read: a timer may fire a moment early.
        assert await waited(tick, bell, timeout_s) > began_s + 0.04
        assert not bell.rung


async def test_time_is_over_without_a_change() -> None:
    began_s = asyncio.get_running_loop().time()
    assert await waited(Tick(NEVER_S), Bell(), 0.05) > began_s + 0.04
