"""The file that keeps what waits, for a process that is killed."""

from __future__ import annotations

from stagecast.client.reporting.queues import BatchQueue


class Spool:
    """Lines of what was put into an outbox, and of what needs not be sent again."""

    def __init__(self, path: str) -> None:
        self._path = path

    def write(self, batch: BatchQueue, kind: str, **fields: object) -> int:
        """Write a line, and return its number."""
        return 0

    def done(self, number: int, **fields: object) -> None:
        """Note that a line needs not be sent again."""

    def leave(self) -> None:
        """Close the file without unlocking it."""
