"""The timeout of store calls: a disk may hang without an error."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from stagecast.errors import StoreTimeout

_RETRY_AFTER_S = 1.0


@contextlib.asynccontextmanager
async def store_timeout(limit_s: float) -> AsyncIterator[None]:
    """Cancel the block after `limit_s` seconds.

    Raises:
        StoreTimeout: the block took longer.
    """
    timeout = asyncio.timeout(limit_s)
    try:
        async with timeout:
            yield
    except TimeoutError:
        if not timeout.expired():
            raise
        raise timed_out(limit_s) from None


def timed_out(limit_s: float) -> StoreTimeout:
    """Return the error for a call that was cancelled after `limit_s` seconds."""
    return StoreTimeout(
        f"the store did not answer within {limit_s:g} s; try again; a write may or may not "
        "have been recorded: send it with the same ids",
        retry_after_s=_RETRY_AFTER_S,
    )
