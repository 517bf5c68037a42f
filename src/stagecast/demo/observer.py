"""What the demo learns from its watch: when to act, and that nothing was missed."""

from __future__ import annotations

import asyncio

from stagecast.demo.incidents import STALLS, Incidents
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as pb


class Observer:
    """Looks at each message of the watch.

    Args:
        incidents: staged ones, if any.

    Attributes:
        incidents: as given.
        ready_for_crash: set once a document has reached a stage, or the staged stall is seen.
        went_on_at: the first revision received after the connection was lost, if it was.
        missed_nothing: whether revisions came without a gap or repetition, and without a second
            snapshot.
    """

    def __init__(self, incidents: Incidents | None) -> None:
        self.ready_for_crash = asyncio.Event()
        self.went_on_at: int | None = None
        self.missed_nothing = True
        self.incidents = incidents
        self._revision = 0
        self._was_lost = False

    def lost(self) -> None:
        """Note that the connection was lost."""
        self._was_lost = True

    def observe(self, message: pb.WatchBatchResponse) -> None:
        """Look at a message."""
        if message.HasField("snapshot"):
            self.missed_nothing &= not self._was_lost
            self._revision = message.batch.revision
        for transition in message.transitions:
            self.missed_nothing &= transition.revision == self._revision + 1
            self._revision = transition.revision
            self._observe(transition)

    def _observe(self, transition: r.Transition) -> None:
        if self._was_lost and self.went_on_at is None:
            self.went_on_at = transition.revision
        document = transition.document
        if self.incidents:
            ready = document.stalled and document.document_id == STALLS
        else:
            ready = document.stage > r.STAGE_WAITING
        if ready:
            self.ready_for_crash.set()
