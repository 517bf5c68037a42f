"""Detection of connections whose clients have stopped reading, to free their buffers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

_SHORT_TIMEOUT_S = 5.0  # while more than `max_bytes` wait


class SlowReaders:
    """Finds connections whose clients have read nothing for too long.

    Args:
        timeout_s: how long a client may read nothing while data waits for it.
        max_bytes: that may wait for all clients; beyond it the timeout is short.
    """

    def __init__(self, timeout_s: float, *, max_bytes: int) -> None:
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._waiting: dict[asyncio.Transport, tuple[int, float]] = {}

    def find(
        self, connections: Iterable[asyncio.Transport], now_s: float
    ) -> list[asyncio.Transport]:
        """Return the slow readers; to be called regularly."""
        before, self._waiting = self._waiting, {}
        timeout_s, waiting_bytes = self._timeout_s, 0
        for connection in connections:
            unsent = connection.get_write_buffer_size()
            if unsent:
                last = before.get(connection)
                since_s = last[1] if last and last[0] == unsent else now_s
                self._waiting[connection] = unsent, since_s
                waiting_bytes += unsent
        if waiting_bytes > self._max_bytes:
            timeout_s = min(timeout_s, _SHORT_TIMEOUT_S)
        return [
            connection
            for connection, (_, since_s) in self._waiting.items()
            if now_s - since_s >= timeout_s
        ]
