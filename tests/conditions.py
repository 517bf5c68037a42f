"""Waiting for a condition."""

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
    within_s: float = 240,
) -> None:
    """Wait until a condition holds; it is checked after each call of `meanwhile`."""
    async with asyncio.timeout(within_s):
        while not holds():
            await meanwhile()


async def with_more_time(attempt: Callable[[float], Awaitable[object]], first_s: float) -> None:
    """Attempt something with a short timer, and again with longer ones if it fails.

    A busy machine may miss a short timer, and a test should not have to wait for a long one; a real
    fault shows with every timer.
    """
    for timer_s in (first_s, 10 * first_s):
        try:
            await attempt(timer_s)
        except Exception as error:
            logging.getLogger(__name__).info("not within %g s: %r", timer_s, error)
        else:
            return
    await attempt(30)
