"""Waiting for what has to become true."""

from __future__ import annotations

import asyncio
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
