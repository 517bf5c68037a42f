"""Readiness: the store can be written, and the server does not drain.

A store fault in a call counts at once; its end is found by probing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from stagecast.store import Store

_PROBE_S = 10.0  # longer than the wait for a lock: beyond it, writes hang
_RETRY_S = 1.0  # between two probes while the store cannot be used

_log = logging.getLogger(__name__)


class Readiness:
    """The state behind health checks.

    Attributes:
        ready: whether the server can do its work.
        on_change: called with `ready` whenever it is set.
    """

    def __init__(self) -> None:
        self.ready = False
        self.on_change: Callable[[bool], None] = lambda _ready: None

    def gain(self) -> None:
        """Become ready."""
        self._set(True)

    def lose(self, error: Exception | None = None) -> None:
        """Become not ready, because of a fault or of a drain."""
        if self.ready and error is not None:
            _log.error("not ready: %s", error)
        self._set(False)

    async def run(self, store: Store, *, every_s: float) -> None:
        """Probe the store periodically, until cancelled."""
        while True:
            await asyncio.sleep(every_s if self.ready else min(every_s, _RETRY_S))
            try:
                async with asyncio.timeout(_PROBE_S):
                    await store.probe()
            except TimeoutError:
                self.lose(TimeoutError(f"the store did not answer within {_PROBE_S:g} s"))
            # After any error the store counts as not writable, and probing continues.
            except Exception as error:
                self.lose(error)
            else:
                if not self.ready:
                    _log.info("ready again")
                self.gain()

    def _set(self, ready: bool) -> None:
        self.ready = ready
        self.on_change(ready)
