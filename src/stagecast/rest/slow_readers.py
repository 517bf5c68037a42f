"""Connections whose clients have stopped reading: what waits for them is held for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


class SlowReaders:
    """Finds connections on which nothing was taken for too long.

    Args:
        patience_s: how long a client may take nothing of what waits for it.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._waiting: dict[asyncio.Transport, tuple[int, float]] = {}

    def find(
        self, connections: Iterable[asyncio.Transport], now_s: float
    ) -> list[asyncio.Transport]:
        """Return them; to be asked again and again."""
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
