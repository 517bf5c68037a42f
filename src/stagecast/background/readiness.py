"""Whether the server can do its work: its store can be written, and it does not drain.

A fault that a call meets counts at once; that it is gone is found out by trying.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from stagecast.store import Store

_PROBE_S = 10.0  # longer than a lock is waited for: whatever writes hangs
_AGAIN_S = 1.0  # between two looks while the store cannot be used

_log = logging.getLogger(__name__)


class Readiness:
    """Tells health checks.

    Attributes:
        ready: what they are told.
        on_change: called with it, to tell those who do not ask.
    """

    def __init__(self) -> None:
        self.ready = False
        self.on_change: Callable[[bool], None] = lambda _ready: None

    def gain(self) -> None:
        """Tell that the server can do its work."""
        self._set(True)

    def lose(self, error: Exception | None = None) -> None:
        """Tell that it cannot, because of a fault, or because it drains."""
        if self.ready and error is not None:
            _log.error("not ready: %s", error)
        self._set(False)

    async def run(self, store: Store, *, every_s: float) -> None:
        """Ask the store from time to time whether it can be written, until cancelled."""
        while True:
            await asyncio.sleep(every_s if self.ready else min(every_s, _AGAIN_S))
            try:
                async with asyncio.timeout(_PROBE_S):
                    await store.probe()
            except TimeoutError:
                self.lose(TimeoutError(f"the store did not answer within {_PROBE_S:g} s"))
            # Whatever it is: the store cannot be written, and the next look has to come.
            except Exception as error:
                self.lose(error)
            else:
                if not self.ready:
                    _log.info("ready again")
                self.gain()

    def _set(self, ready: bool) -> None:
        self.ready = ready
        self.on_change(ready)
