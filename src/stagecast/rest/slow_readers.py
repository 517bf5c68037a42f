"""Detection of connections whose clients have stopped reading, to free their buffers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


class SlowReaders:
    """Finds connections whose clients have read nothing for too long.

    Args:
        timeout_s: how long a client may read nothing while data waits for it.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._waiting: dict[asyncio.Transport, tuple[int, float]] = {}

    def find(
        self, connections: Iterable[asyncio.Transport], now_s: float
    ) -> list[asyncio.Transport]:
        """Return the slow readers; to be called regularly."""
        before, self._waiting = self._waiting, {}
        for connection in connections:
            unsent = connection.get_write_buffer_size()
            if unsent:
                last = before.get(connection)
                since_s = last[1] if last and last[0] == unsent else now_s
                self._waiting[connection] = unsent, since_s
        return [
            connection
            for connection, (_, since_s) in self._waiting.items()
            if now_s - since_s >= self._timeout_s
        ]
