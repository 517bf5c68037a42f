"""The pause before a call is retried."""

from __future__ import annotations

import asyncio
import random

_FIRST_S = 0.1
_LONGEST_S = 5.0
_MAX_S = 60.0  # whatever `RetryInfo` says


class Backoff:
    """Exponential backoff with jitter."""

    def __init__(self) -> None:
        self._pause_s = _FIRST_S

    def reset(self) -> None:
        """Start again with the shortest pause; to be called after a success."""
        self._pause_s = _FIRST_S

    def next_pause_s(self, advised_s: float | None) -> float:
        """Return the delay that the server advised, or without one, a longer one each time."""
        spread = random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        pause_s = min(advised_s or self._pause_s * spread, _MAX_S)
        self._pause_s = min(2 * self._pause_s, _LONGEST_S)
        return pause_s

    async def wait(self, advised_s: float | None) -> None:
        """Wait for as long as `next_pause_s` returns."""
        await asyncio.sleep(self.next_pause_s(advised_s))
