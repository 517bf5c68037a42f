"""Encoding of rows that another release wrote, after an upgrade and while the two run together.

Until then such rows are encoded whenever they are read, which takes many times as long.
"""

from __future__ import annotations

import asyncio
import logging

from stagecast.model import ALL
from stagecast.periodic import PeriodicTask
from stagecast.store import Store

# Rows in one transaction, which blocks other writers for some 20 ms, and the pause in which they
# write.
_ROWS = 500
_PAUSE_S = 0.02
_EVERY_S = 60.0

_log = logging.getLogger(__name__)


class RowEncoder:
    """Encodes rows without bytes, in small steps.

    Args:
        store: the store with the rows.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def run(self) -> None:
        """Run now and then every minute, until cancelled."""
        task = PeriodicTask(_log, "encode rows of another release")
        while True:
            retry_after_s = await task.attempt(self.run_once)
            await asyncio.sleep(_EVERY_S if retry_after_s is None else retry_after_s)

    async def run_once(self) -> None:
        """Encode all rows; what is done when it ends early stays.

        Raises:
            StoreBusy: the store cannot be used now.
        """
        while await self._store.write(lambda tx: tx.encode(_ROWS), visible=ALL):  # noqa: ASYNC110 - lets others write
            await asyncio.sleep(_PAUSE_S)
