"""Rounds: a commit is pushed at once, but those that come during a push are pushed together.

A round begins when a tail reads a page, and ends when every watch that it woke waits again. A pause
follows that leaves most of the event loop to other calls. So a lone event has no delay, and under
load watches get fewer and larger messages while reads and reports are still answered. A log with
more pages gets one in each round, so that it never holds up the others.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection

from stagecast.notifier import Subscription

_PAUSE = 3  # times as long as the round before
_MAX_PAUSE_S = 0.25
_BLOCKED_S = 0.05  # without any watch coming back: the clients of those that are left do not read
_TOGETHER = 50  # watches woken before others get their turn on the loop


class Rounds:
    """Decides when tails read, for all tails of a server."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._busy: set[object] = set()  # tails that read, watches that do not wait again yet
        # Not waited for, as the last round did in vain; and when they were woken since.
        self._slow: dict[object, float] = {}
        self._waiting = 0  # for the next round
        self._reading_on = 0  # of these, tails that have more pages
        self._began_s = self._last_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def opened(self) -> None:
        """Wait until the next round may begin."""
        self._waiting += 1
        try:
            await self._open.wait()
        finally:
            self._waiting -= 1

    async def begin(self, tail: object) -> None:
        """Wait for the next round; it lasts until the tail is `done`, and all that it wakes."""
        await self.opened()
        self._add(tail)

    async def go_on(self, tail: object) -> None:
        """Let a tail that has more pages into the next round, which has no pause before it."""
        self._reading_on += 1
        try:
            self.done(tail)
            await self.begin(tail)
        finally:
            self._reading_on -= 1

    async def wake(self, watches: Collection[Subscription]) -> None:
        """Wake watches, and count those of them that wait as busy."""
        now = asyncio.get_running_loop().time
        for number, watch in enumerate(list(watches), 1):
            if watch.waiting and watch in self._slow:
                self._slow[watch] = now()
            elif watch.waiting:
                self._add(watch)
            watch.notify()
            if not number % _TOGETHER:
                await asyncio.sleep(0)

    def done(self, member: object) -> None:
        """Note that a tail has read, or that a watch waits again."""
        if member in self._busy:
            self._busy.remove(member)
            self._last_s = asyncio.get_running_loop().time()
            if not self._busy:
                self._end()
        elif member in self._slow and (
            self._busy or asyncio.get_running_loop().time() < self._slow[member] + _BLOCKED_S
        ):
            del self._slow[member]  # it was fast, or as fast as the others

    def leave(self, member: object) -> None:
        """Forget a member that has ended."""
        self.done(member)
        self._slow.pop(member, None)

    def _add(self, member: object) -> None:
        if not self._busy:
            self._open.clear()
            self._began_s = self._last_s = asyncio.get_running_loop().time()
            self._call_after(_BLOCKED_S, self._end_if_blocked)
        self._busy.add(member)

    def _end_if_blocked(self) -> None:
        """End a round if what is left of it are readers that block their writes."""
        left_s = self._last_s + _BLOCKED_S - asyncio.get_running_loop().time()
        if left_s > 0:
            self._call_after(left_s, self._end_if_blocked)
            return
        self._slow |= dict.fromkeys(self._busy, -math.inf)
        self._busy.clear()
        self._end()

    def _end(self) -> None:
        lasted_s = asyncio.get_running_loop().time() - self._began_s
        must_pause = self._waiting and not self._reading_on
        pause_s = min(_PAUSE * lasted_s, _MAX_PAUSE_S) if must_pause else 0.0
        self._call_after(pause_s, self._open.set)

    def _call_after(self, seconds: float, callback: Callable[[], object]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, callback)
