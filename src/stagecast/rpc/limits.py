"""How much callers may have at once: watches each and in all, calls under way and their bytes.

A call that has to wait is answered soon; a watch stays. So the one is told that the server is busy,
the other that there are too many, and both when to try again.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Iterator

from stagecast.config import Config
from stagecast.errors import StoreBusy, WatchLimit
from stagecast.model import Caller
from stagecast.rpc.stream_writer import Context


def counted_as(caller: Caller | None, context: Context) -> str:
    """Return whose calls are counted together.

    Those of who bears a key, or a token with a name; else those from an address, without the port,
    or from unix sockets.
    """
    if caller and caller.principal.identity:
        return caller.principal.identity
    peer = context.peer()
    return peer.rpartition(":")[0] if peer.startswith("ip") else "unix"


class Limits:
    """Counts what is under way on one server, and refuses what would be too much.

    Attributes:
        watches: how many are open.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._watches: Counter[str] = Counter()
        self.watches = 0
        self._outside = 0
        self._waiting = 0
        self._waiting_bytes = 0

    @contextlib.contextmanager
    def watch(self, caller: str, *, inside: bool) -> Iterator[None]:
        """Have a watch open for as long as the block.

        Those that need no key, of health and reflection, are not `inside`: they may have half of
        all places, so that they never shut out who has a key.

        Raises:
            WatchLimit: the caller, or all callers together, have as many as may be.
        """
        self._check_watches(caller, inside=inside)
        self._watches[caller] += 1
        self.watches += 1
        self._outside += not inside
        try:
            yield
        finally:
            self._outside -= not inside
            self.watches -= 1
            self._watches[caller] -= 1
            if not self._watches[caller]:
                del self._watches[caller]

    @contextlib.contextmanager
    def wait(self, size: int) -> Iterator[None]:
        """Wait for the store for as long as the block, with a request of so many bytes.

        Raises:
            StoreBusy: there are as many calls, or bytes, as may be.
        """
        config = self._config
        if (
            self._waiting >= config.max_waiting_calls
            or self._waiting_bytes + size > config.max_waiting_bytes
        ):
            raise StoreBusy(
                f"too many calls wait for the store: {self._waiting}, with {self._waiting_bytes} "
                "bytes",
                retry_after_s=_soon(),
            )
        self._waiting += 1
        self._waiting_bytes += size
        try:
            yield
        finally:
            self._waiting -= 1
            self._waiting_bytes -= size

    def _check_watches(self, caller: str, *, inside: bool) -> None:
        own, limit = self._watches[caller], self._config.max_watches_per_caller
        if own >= limit:
            raise WatchLimit(
                f"too many watches of one caller: {own} open, at most {limit}",
                retry_after_s=_soon(),
                limit=limit,
            )
        in_all = self._config.max_watches
        if self.watches >= in_all or not (inside or self._outside < in_all / 2):
            raise WatchLimit(
                f"too many watches on this server: {self.watches} open, at most {in_all}",
                retry_after_s=_soon(),
                limit=in_all,
            )


def _soon() -> float:
    return random.uniform(0.5, 5.0)  # noqa: S311 - spreads those who come again
