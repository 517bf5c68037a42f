"""Whether and when a call that failed is made again."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable

import grpc

from stagecast.client.endpoint import Endpoint
from stagecast.client.errors import FailedCall, details_of

_FIRST_S = 0.1
_LONGEST_S = 0.5  # like the channel, which fails tries without any I/O until it reconnects
_MAX_S = 60.0  # whatever `RetryInfo` says
_MIN_TRY_S = 1.0  # the timeout of the last try
# Not the shared generator: a program that seeds that expects the same numbers each time.
_random = random.Random()  # noqa: S311 - no secret
# A server that closes a connection may have no time to send a status: then it is CANCELLED.
_TRANSIENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def _nothing() -> None:
    pass


class Backoff:
    """Exponential backoff with jitter."""

    def __init__(self) -> None:
        self._pause_s = _FIRST_S

    def reset(self) -> None:
        """Start again with the shortest pause; to be called after a success."""
        self._pause_s = _FIRST_S

    def next_pause_s(self, advised_s: float | None) -> float:
        """Return the delay that the server advised, or without one, a longer one each time."""
        spread = _random.uniform(0.5, 1.5)
        pause_s = min(advised_s or self._pause_s * spread, _MAX_S)
        self._pause_s = min(2 * self._pause_s, _LONGEST_S)
        return pause_s

    async def wait(self, advised_s: float | None) -> None:
        """Wait for as long as `next_pause_s` returns."""
        await asyncio.sleep(self.next_pause_s(advised_s))


class Retries:
    """The tries of one call, or of a watch.

    Args:
        endpoint: what has never been reached is tried once, unless it advises a retry.
        give_up_after_s: how long to retry, since the first try of a call, or the first failure of a
            watch; by default the timeout of the endpoint.
        on_lost: called when the first try after a success, and then another one, has failed.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        give_up_after_s: float | None = None,
        *,
        on_lost: Callable[[], None] = _nothing,
    ) -> None:
        self._endpoint = endpoint
        if give_up_after_s is None:
            give_up_after_s = endpoint.timeout_s or math.inf
        self._give_up_after_s = give_up_after_s
        self._on_lost = on_lost
        self._backoff = Backoff()
        self._failures = 0
        self._since: float | None = None

    @property
    def left_s(self) -> float:
        """The timeout of the next try."""
        left_s = self._give_up_after_s - self._elapsed_s()
        return max(min(_MIN_TRY_S, self._give_up_after_s), left_s)

    def succeeded(self) -> None:
        """Record that the server has answered."""
        self._endpoint.reached = True
        self._failures = 0
        self._since = None
        self._backoff.reset()

    def pause_s(self, error: FailedCall) -> float | None:
        """Return the pause before the next try, `None` if the call is not to be made again."""
        advised = details_of(error).retry_after_s
        transient = error.code() in _TRANSIENT and self._endpoint.reached
        if not (transient or advised is not None) or self._elapsed_s() > self._give_up_after_s:
            return None
        self._failures += 1
        if self._failures == 2:
            self._on_lost()
        return self._backoff.next_pause_s(advised)

    def _elapsed_s(self) -> float:
        """Return the time since the first try or failure, which is now unless it is known."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        return now - self._since
