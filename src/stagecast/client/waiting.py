"""`wait`: long polls until a batch has ended, or for as long as the caller wants."""

from __future__ import annotations

import math
import time
import uuid

from stagecast.client import calls
from stagecast.client.arguments import Span, seconds_of
from stagecast.client.calls import Call
from stagecast.client.records import Batch
from stagecast.errors import TimedOut

GIVE_UP_AFTER_S = 600.0  # for which a server may be away from those who watch or wait
_MIN_CALL_S = 5.0  # for an answer, however little time is left
_POLL_S = 45.0  # less than the minute after which proxies close a silent call


class Waiting:
    """One `wait`, which makes several calls.

    Args:
        dataset, batch_id: the batch.
        timeout: for how long, `None` for no limit.
    """

    def __init__(self, dataset: str | uuid.UUID, batch_id: str, timeout: Span | None) -> None:
        self._dataset = dataset
        self._batch_id = batch_id
        self._timeout_s = math.inf if timeout is None else seconds_of("timeout", timeout)
        self._ends_at = time.monotonic() + self._timeout_s

    @property
    def give_up_after_s(self) -> float:
        """How long the server may be away."""
        return min(GIVE_UP_AFTER_S, max(_MIN_CALL_S, self._left_s))

    def call(self) -> Call[tuple[Batch, bool]]:
        """Return the next call."""
        return calls.wait_batch(self._dataset, self._batch_id, min(_POLL_S, self._left_s))

    def check(self, batch: Batch) -> None:
        """Check that there is time left.

        Raises:
            TimedOut: there is none.
        """
        if not self._left_s:
            raise TimedOut(
                f"not ended within {self._timeout_s:g} s: {batch}",
                dataset_id=batch.dataset_id,
                batch_id=batch.batch_id,
            )

    @property
    def _left_s(self) -> float:
        return max(0.0, self._ends_at - time.monotonic())
