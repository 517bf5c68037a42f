"""Waiting for what has to become true."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable


async def _nothing() -> None:
    await asyncio.sleep(0.01)


async def until(
    holds: Callable[[], bool],
    *,
    meanwhile: Callable[[], Awaitable[object]] = _nothing,
    within_s: float = 60,
) -> None:
    """Wait until a condition holds, looking again after each call of `meanwhile`."""
    async with asyncio.timeout(within_s):
        while not holds():
            await meanwhile()


async def with_more_time(attempt: Callable[[float], Awaitable[object]], first_s: float) -> None:
    """Attempt what has to be done before a timer ends, and anew with a longer one if it was not.

    A busy machine may be late for a short timer, which a test would have to wait for; a fault shows
    with every timer.
    """
    for timer_s in (first_s, 10 * first_s):
        try:
            await attempt(timer_s)
        except Exception as error:
            logging.getLogger(__name__).info("not within %g s: %r", timer_s, error)
        else:
            return
    await attempt(30)
