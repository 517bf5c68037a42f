"""The numbers of reports of a batch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchStats:
    """Numbers of reports of a batch, made by this process; newer counters replace older ones.

    Attributes:
        delivered: recorded by the server.
        waiting: to be sent, or being sent.
        refused: on documents that were stopped, have ended, or belong to another worker.
        dropped: undelivered for any other reason; the log has the first one.
    """

    delivered: int
    waiting: int
    refused: int
    dropped: int

    def __str__(self) -> str:
        names = ("delivered", "waiting", "refused", "dropped")
        return ", ".join(f"{getattr(self, name)} {name}" for name in names)
