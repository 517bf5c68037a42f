"""The keys of the store in memory, compared with it whenever it has changed.

So checking a credential costs no read while nobody writes, and a key that another process revokes
counts from the next call on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence

from stagecast.model import ALL, ApiKey
from stagecast.periodic import PeriodicTask
from stagecast.store import ReadTransaction, Store

_log = logging.getLogger(__name__)

_Read = tuple[Hashable, Sequence[ApiKey] | None]


class KeyCache:
    """Holds every key.

    Args:
        store: the store of the keys.
        on_change: called after keys have changed.

    Attributes:
        used: whether there ever was a key; it stays so.
    """

    def __init__(self, store: Store, *, on_change: Callable[[], None]) -> None:
        self._store = store
        self._on_change = on_change
        self._task = PeriodicTask(_log, "refresh keys")
        self._store_version: int | None = None
        self._version: Hashable = None
        self._by_digest: dict[bytes, ApiKey] = {}
        self._by_id: dict[int, ApiKey] = {}
        self.used = False

    def find(self, digest: bytes) -> ApiKey | None:
        """Return the key with a digest, even if revoked or expired; `None` if there is none."""
        return self._by_digest.get(digest)

    def get(self, key_id: int) -> ApiKey | None:
        """Return the key with an id; `None` if there is none any more."""
        return self._by_id.get(key_id)

    async def load(self) -> None:
        """Read the keys for the first time.

        Raises:
            StoreBusy: the store cannot be read.
        """
        self._keep(await self._store.read(self._read, visible=ALL))

    def refresh(self, store_version: int | None = None) -> None:
        """Read the keys again if they have changed since the last call.

        After a store fault the keys stay as they were, and the next call tries again.

        Args:
            store_version: of the store now, if the caller knows it.
        """
        if store_version is None:
            store_version = self._store.version()
        if store_version == self._store_version:
            return
        try:
            self._keep(self._store.read_now(self._read, visible=ALL))
        # Any error: an unavailable store or a bug must not refuse valid keys.
        except Exception as error:
            self._task.failed(error)
        else:
            self._task.succeeded()
            self._store_version = store_version

    def _read(self, tx: ReadTransaction) -> _Read:
        version = tx.get_keys_version()
        return version, None if version == self._version else tx.list_keys()

    def _keep(self, read: _Read) -> None:
        self._version, keys = read
        if keys is None or list(keys) == list(self._by_id.values()):
            return
        self._by_digest = {key.digest: key for key in keys}
        self._by_id = {key.id: key for key in keys}
        if keys and not self.used:
            _log.info("the store has keys; calls need credentials from now on")
            self.used = True
        self._on_change()
