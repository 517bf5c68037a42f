"""The keys of the store in memory, so that checking one needs no read."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from functools import partial

from stagecast.model import ALL, ApiKey
from stagecast.periodic import PeriodicTask
from stagecast.store import ReadTransaction, Store

_EVERY_S = 3.0  # also when no other process has committed
_MIN_INTERVAL_S = 0.05  # while other processes commit all the time

_log = logging.getLogger(__name__)


class KeyCache:
    """Holds every key, and follows the changes of other processes within a moment.

    Args:
        store: the store of the keys.
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
        """Return the key with a digest, even if revoked or expired; `None` if there is none."""
        return self._by_digest.get(digest)

    def get(self, key_id: int) -> ApiKey | None:
        """Return the key with an id; `None` if there is none any more."""
        return self._by_id.get(key_id)

    async def refresh(self, *, whole: bool = False) -> None:
        """Read the keys if their version has changed; with `whole`, in any case.

        Raises:
            StoreBusy: the store cannot be read; the keys stay as they were.
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
            _log.info("the store has keys; calls need credentials from now on")
            self.used = True
        self._on_change()

    async def run(self) -> None:
        """Follow the store until cancelled."""
        task = PeriodicTask(_log, "refresh keys")
        while True:
            committed = await self._wait_for_commit()
            delay_s = await task.attempt(partial(self.refresh, whole=not committed))
            await asyncio.sleep(delay_s or _MIN_INTERVAL_S)

    async def _wait_for_commit(self) -> bool:
        """Wait for a commit of another process; return whether there was one in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_EVERY_S):
                await self._committed.wait()
        committed = self._committed.is_set()
        self._committed.clear()
        return committed
