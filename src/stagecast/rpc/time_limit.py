"""A time limit for many waits at once."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

WaitT = TypeVar("WaitT", bound=Hashable)


class TimeLimit(Generic[WaitT]):
    """Limits how long each wait may take, with one timer for all of them.

    A timer for each costs a call several times as much, and almost none of them ever fires.

    Args:
        limit_s: how long a wait may take.
        expire: called once with a wait that takes longer, by the loop; the wait counts until it
            ends.
    """

    def __init__(self, limit_s: float, expire: Callable[[WaitT], None]) -> None:
        self._limit_s = limit_s
        self._expire = expire
        self._ends_s: dict[WaitT, float] = {}  # the oldest first; infinite once expired
        self._timer: asyncio.TimerHandle | None = None
        self._next_s = math.inf  # when the timer fires: never later than a wait expires

    def __len__(self) -> int:
        """Return the number of waits."""
        return len(self._ends_s)

    def begin(self, wait: WaitT, *, max_s: float = math.inf) -> None:
        """Begin a wait; `max_s` is a shorter limit for it."""
        end_s = time.monotonic() + min(self._limit_s, max_s)
        self._ends_s[wait] = end_s
        if end_s < self._next_s:
            self._wake_at(end_s)

    def end(self, wait: WaitT) -> None:
        """End a wait."""
        del self._ends_s[wait]

    def shorten(self, limit_s: float) -> None:
        """Shorten the rest of all waits."""
        end_s = time.monotonic() + limit_s
        for wait, old_s in self._ends_s.items():
            if end_s < old_s < math.inf:
                self._ends_s[wait] = end_s
        self._wake()

    def expire_oldest(self) -> None:
        """Expire the oldest wait that has not expired."""
        for wait, end_s in self._ends_s.items():
            if end_s < math.inf:
                self._expire_soon(wait)
                return

    def _wake_at(self, end_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay_s = max(0.0, end_s - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._wake)
        self._next_s = end_s

    def _wake(self) -> None:
        """Expire what is due, and sleep until the next wait is."""
        now_s = time.monotonic()
        for wait, end_s in self._ends_s.items():
            if end_s <= now_s:
                self._expire_soon(wait)
        self._next_s = min(self._ends_s.values(), default=math.inf)
        if self._next_s < math.inf:
            self._wake_at(self._next_s)

    def _expire_soon(self, wait: WaitT) -> None:
        """Let the loop expire a wait, unless what it waits for has come by now.

        An error in `expire` ends that wait alone.
        """
        self._ends_s[wait] = math.inf
        asyncio.get_running_loop().call_soon(self._expire_if_waiting, wait)

    def _expire_if_waiting(self, wait: WaitT) -> None:
        if self._ends_s.get(wait) == math.inf:
            self._expire(wait)
