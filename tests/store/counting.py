"""A store that counts its calls, and whose reads can be blocked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from stagecast.model import Visibility
from stagecast.store import ReadTransaction, WriteTransaction
from stagecast.store.sqlite import SqliteStore
from tests.builders import ENCODER

T = TypeVar("T")


class CountingStore(SqliteStore):
    """Counts reads and writes.

    `idle` is set while no read runs; reads wait until `open` is set.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, encoder=ENCODER, **kwargs)
        self.reads = self.writes = 0
        self.idle = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self._running = 0

    async def read(self, query: Callable[[ReadTransaction], T], *, visible: Visibility) -> T:
        self.reads += 1
        self._running += 1
        self.idle.clear()
        try:
            await self.open.wait()
            return await super().read(query, visible=visible)
        finally:
            self._running -= 1
            if not self._running:
                self.idle.set()

    def read_now(self, query: Callable[[ReadTransaction], T], *, visible: Visibility) -> T:
        self.reads += 1
        return super().read_now(query, visible=visible)

    async def write(self, call: Callable[[WriteTransaction], T], *, visible: Visibility) -> T:
        self.writes += 1
        return await super().write(call, visible=visible)
