"""Small reads that were made before, answered on the event loop.

While nobody has committed, which `Store.version` tells, the result is returned as it is. After a
commit, of any process, it is read again on the loop: the disk has just answered, and a few rows by
their keys cost less there than handing the read to another thread. A first read goes to a thread,
so that a disk that hangs does not stop the loop.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from stagecast.errors import StoreBusy
from stagecast.model import Visibility
from stagecast.store import ReadTransaction, Store

T = TypeVar("T")

_MAX_RESULTS = 2_000  # of up to 16 KB each


class RecentReads:
    """The results of the latest small reads, never older than an acknowledged commit."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # By read: the version of the store before it, and the result; the oldest use first.
        self._results: OrderedDict[Hashable, tuple[int, Any]] = OrderedDict()

    async def read(
        self,
        key: Hashable,
        query: Callable[[ReadTransaction], T],
        *,
        visible: Visibility,
        is_small: Callable[[T], bool] = lambda _: True,
    ) -> T:
        """Return the result of a query.

        Args:
            key: equal keys have equal queries.
            query: finds its rows by their keys.
            visible: the datasets that exist for the caller.
            is_small: whether a result may be kept, and read again on the loop.

        Raises:
            StoreBusy: the store cannot be read now.
        """
        key = (key, visible)
        version = self._store.version()
        known = self._results.pop(key, None)
        if known is not None and known[0] == version:
            self._results[key] = known
            result: T = known[1]
            return result
        result = await self._read(query, visible, is_known=known is not None)
        if is_small(result):
            self._keep(key, version, result)
        return result

    async def _read(
        self, query: Callable[[ReadTransaction], T], visible: Visibility, *, is_known: bool
    ) -> T:
        if is_known:
            try:
                return self._store.read_now(query, visible=visible)
            except StoreBusy:  # a thread may wait for it
                pass
        return await self._store.read(query, visible=visible)

    def _keep(self, key: Hashable, version: int, result: object) -> None:
        self._results[key] = version, result
        if len(self._results) > _MAX_RESULTS:
            self._results.popitem(last=False)
