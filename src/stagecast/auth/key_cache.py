"""The keys of the store in memory, so that to check one costs no read."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from functools import partial

from stagecast.model import ALL, ApiKey
from stagecast.periodic import PeriodicTask
from stagecast.store import ReadTransaction, Store

_EVERY_S = 3.0  # also without news from another process
_MIN_INTERVAL_S = 0.05  # while others commit all the time

_log = logging.getLogger(__name__)


class KeyCache:
    """Knows every key, within a moment after another process has made or revoked one.

    Args:
        store: where the keys are.
        committed: set when another process has written.
        on_change: called after keys have changed.

    Attributes:
        used: whether there ever was a key; it stays so.
    """

    def __init__(
        self, store: Store, committed: asyncio.Event, *, on_change: Callable[[], None]
    ) -> None:
        self._store = store
        self._committed = committed
        self._on_change = on_change
        self._version = -1
        self._by_digest: dict[bytes, ApiKey] = {}
        self._by_id: dict[int, ApiKey] = {}
        self.used = False

    def find(self, digest: bytes) -> ApiKey | None:
        """Return the key with a digest, also one that was revoked or has expired."""
        return self._by_digest.get(digest)

    def get(self, key_id: int) -> ApiKey | None:
        """Return the key with an id, if it is still there."""
        return self._by_id.get(key_id)

    async def refresh(self, *, whole: bool = False) -> None:
        """Read the keys, unless nothing has changed; `whole` does not rely on that.

        Raises:
            StoreBusy: the store cannot be read now; the keys stay as they were.
        """

        def read(tx: ReadTransaction) -> tuple[int, Sequence[ApiKey] | None]:
            version = tx.get_keys_version()
            return version, None if version == self._version and not whole else tx.list_keys()

        self._version, keys = await self._store.read(read, visible=ALL)
        if keys is None or list(keys) == list(self._by_id.values()):
            return
        self._by_digest = {key.digest: key for key in keys}
        self._by_id = {key.id: key for key in keys}
        if keys and not self.used:
            _log.info("there are keys: whoever calls needs one")
            self.used = True
        self._on_change()

    async def run(self) -> None:
        """Keep up with the store, until cancelled."""
        task = PeriodicTask(_log, "see whether keys have changed")
        while True:
            heard = await self._hear()
            again_s = await task.attempt(partial(self.refresh, whole=not heard))
            await asyncio.sleep(again_s or _MIN_INTERVAL_S)

    async def _hear(self) -> bool:
        """Wait until another process has written, or for a while; tell which."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_EVERY_S):
                await self._committed.wait()
        heard = self._committed.is_set()
        self._committed.clear()
        return heard
