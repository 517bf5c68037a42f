"""Deadlines of the open watches: one periodic check of all, instead of timers of each.

A check only wakes; a watch then acts by itself. Without watches there are no checks.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

_CHECKS = 8  # in the shortest interval of all members
_MIN_S = 0.001


class Member(Protocol):
    """What has deadlines."""

    def check(self, now_s: float, next_s: float) -> None:
        """Act on what is due now, or, if it must not be late, before the next check.

        The times are those of the loop's clock.
        """
        ...


class Deadlines:
    """Checks its members at an eighth of the shortest of their intervals."""

    def __init__(self) -> None:
        self._intervals: dict[Member, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, member: Member, interval_s: float) -> None:
        """Check a member from now on, with the shortest time that it measures."""
        self._intervals[member] = interval_s
        self._schedule(interval_s / _CHECKS)

    def remove(self, member: Member) -> None:
        """Check a member no more."""
        self._intervals.pop(member, None)
        if not self._intervals and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self, after_s: float) -> None:
        """Make a check after this time, unless there is an earlier one."""
        loop = asyncio.get_running_loop()
        at_s = loop.time() + max(_MIN_S, after_s)
        if self._timer is not None:
            if self._timer.when() <= at_s:
                return
            self._timer.cancel()
        self._timer = loop.call_at(at_s, self._check)

    def _check(self) -> None:
        self._timer = None
        members, interval_s = list(self._intervals), min(self._intervals.values()) / _CHECKS
        self._schedule(interval_s)
        now_s = asyncio.get_running_loop().time()
        for member in members:
            member.check(now_s, now_s + interval_s)
