"""Limits: watches per caller and in total, calls that wait for the store, their bytes and time.

A waiting call is answered soon, but a watch stays open. So a call beyond the limit gets
`STORE_BUSY`, a watch `WATCH_LIMIT`, and both the time for a retry.
"""

from __future__ import annotations

import random
from collections import Counter

from stagecast.config import Config
from stagecast.errors import StoreBusy, WatchLimit
from stagecast.model import Caller
from stagecast.rpc.running_calls import Context, RunningCall
from stagecast.rpc.time_limit import TimeLimit
from stagecast.store import timed_out


def counted_as(caller: Caller | None, context: Context) -> str:
    """Return the identity by which watches are counted.

    It is the key or the named token; otherwise the address without its port, or all unix sockets.
    """
    if caller and caller.principal.identity:
        return caller.principal.identity
    peer = context.peer()
    return peer.rpartition(":")[0] if peer.startswith("ip") else "unix"


class WatchLimits:
    """Counts the watches of one server, and refuses those beyond the limits.

    Attributes:
        watches: the number of open watches.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._watches: Counter[str] = Counter()
        self.watches = 0
        self._exempt_watches = 0

    def watch(self, caller: str, *, exempt: bool) -> _OpenWatch:
        """Return a block during which a watch is counted as open.

        Those of health and reflection are `exempt` from credentials: they get at most half of
        `max_watches`, so that they never shut out callers with a key.

        Raises:
            WatchLimit: at the start of the block: the caller, or all callers together, have the
                maximum open.
        """
        return _OpenWatch(self, caller, exempt)

    def begin(self, caller: str, *, exempt: bool) -> None:
        """Count a watch; see `watch`."""
        self._check_watches(caller, exempt=exempt)
        self._watches[caller] += 1
        self.watches += 1
        self._exempt_watches += exempt

    def end(self, caller: str, *, exempt: bool) -> None:
        """Count a watch no more."""
        self._exempt_watches -= exempt
        self.watches -= 1
        self._watches[caller] -= 1
        if not self._watches[caller]:
            del self._watches[caller]

    def _check_watches(self, caller: str, *, exempt: bool) -> None:
        own, limit = self._watches[caller], self._config.max_watches_per_caller
        if own >= limit:
            raise WatchLimit(
                f"too many watches of one caller: {own} open (limit: {limit})",
                retry_after_s=_soon(),
                limit=limit,
            )
        total = self._config.max_watches
        if self.watches >= total or (exempt and self._exempt_watches >= total / 2):
            raise WatchLimit(
                f"too many watches on this server: {self.watches} open (limit: {total})",
                retry_after_s=_soon(),
                limit=total,
            )


class _OpenWatch:
    """A block that counts a watch; it takes a seventh of the memory that a generator takes."""

    __slots__ = ("_caller", "_exempt", "_limits")

    def __init__(self, limits: WatchLimits, caller: str, exempt: bool) -> None:
        self._limits = limits
        self._caller = caller
        self._exempt = exempt

    def __enter__(self) -> None:
        self._limits.begin(self._caller, exempt=self._exempt)

    def __exit__(self, *_: object) -> None:
        self._limits.end(self._caller, exempt=self._exempt)


class WaitingCalls:
    """Limits the number, the bytes and the time of the calls that wait for the store."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._bytes = 0
        self._waiting: TimeLimit[RunningCall] = TimeLimit(config.request_s, self._expire)

    def begin(self, call: RunningCall, size: int) -> None:
        """Count a call with a request of `size` bytes as waiting; it ends at the time limit.

        Raises:
            StoreBusy: the maximum of calls or bytes is waiting.
        """
        config, waiting = self._config, self._waiting
        if (
            len(waiting) >= config.max_waiting_calls
            or self._bytes + size > config.max_waiting_bytes
        ):
            raise StoreBusy(
                f"too many calls are waiting for the store: {len(waiting)}, with "
                f"{self._bytes} bytes",
                retry_after_s=_soon(),
            )
        waiting.begin(call)
        self._bytes += size

    def end(self, call: RunningCall, size: int) -> None:
        """Stop counting a call that has begun to wait."""
        self._waiting.end(call)
        self._bytes -= size

    def _expire(self, call: RunningCall) -> None:
        call.end(timed_out(self._config.request_s))


def _soon() -> float:
    return random.uniform(0.5, 5.0)  # noqa: S311 - spreads retries
