"""A store that tells how often it is asked, and whose reads may be held up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from stagecast.model import Visibility
from stagecast.store import ReadTransaction, WriteTransaction
from stagecast.store.sqlite import SqliteStore

T = TypeVar("T")


class CountingStore(SqliteStore):
    """Counts what it is asked.

    `idle` is set while there is no read, and none begins while `open` is not.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reads = self.writes = 0
        self.idle = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self._under_way = 0

    async def read(self, query: Callable[[ReadTransaction], T], *, visible: Visibility) -> T:
        self.reads += 1
        self._under_way += 1
        self.idle.clear()
        try:
            await self.open.wait()
            return await super().read(query, visible=visible)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self.idle.set()

    async def write(self, call: Callable[[WriteTransaction], T], *, visible: Visibility) -> T:
        self.writes += 1
        return await super().write(call, visible=visible)
