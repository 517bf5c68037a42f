"""What a watch needs to know to go on after a lost connection, without any I/O.

A stream is read message by message. `receive` turns messages into items that are safe to yield:
what has been yielded is never sent again, and what was received without a token is dropped by
`lost`, since it is sent again.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any, Protocol, TypeAlias, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from stagecast.client.arguments import flag_of, text_of
from stagecast.client.calls import ids_of
from stagecast.client.conversion import (
    batch_of,
    dataset_of,
    document_progress_of,
    snapshot_of,
    transition_of,
)
from stagecast.client.records import Batch, Dataset, DatasetRemoved, Event
from stagecast.v1 import status_service_pb2 as s

T_co = TypeVar("T_co", covariant=True)

HEARTBEAT_S = 15
_SILENT_INTERVALS = 2.5  # without a message; then the connection counts as dead
SILENCE_S = _SILENT_INTERVALS * HEARTBEAT_S


class Resumption(Protocol[T_co]):
    """A stream that continues after a lost connection."""

    @property
    def request(self) -> Message:
        """The request that continues the stream after the last item."""
        ...

    def receive(self, message: Any) -> Iterable[T_co]:  # noqa: ANN401 - of the rpc
        """Return the items that are complete with this message."""
        ...

    def lost(self) -> None:
        """Drop what is incomplete: the connection is lost."""
        ...


def watch_request(
    dataset: str | uuid.UUID,
    batch_id: str,
    *,
    resume_token: str | None,
    follow: bool,
    transitions_only: bool,
    fail_on_expired_token: bool,
) -> s.WatchBatchRequest:
    """Return the request of a watch."""
    return s.WatchBatchRequest(
        **ids_of(dataset, batch_id),
        resume_token="" if resume_token is None else text_of("resume_token", resume_token),
        follow=flag_of("follow", follow),
        transitions_only=flag_of("transitions_only", transitions_only),
        fail_on_expired_token=flag_of("fail_on_expired_token", fail_on_expired_token),
    )


class WholeMessages:
    """The messages of `WatchBatch`; parts are merged, so that each has a `resume_token`.

    Attributes:
        request: the request of the caller, with the last token.
    """

    def __init__(self, request: s.WatchBatchRequest) -> None:
        self.request = s.WatchBatchRequest()
        self.request.CopyFrom(request)
        self.request.heartbeat_interval.CopyFrom(Duration(seconds=HEARTBEAT_S))
        self._merged = s.WatchBatchResponse()

    def receive(self, message: s.WatchBatchResponse) -> list[s.WatchBatchResponse]:
        """Return the whole message, if this one completes it."""
        merged = self._merged
        merged.ClearField("server_time")
        merged.MergeFrom(message)
        if not message.resume_token:
            return []
        self.request.resume_token = message.resume_token
        self._merged = s.WatchBatchResponse()
        return [merged]

    def lost(self) -> None:
        """Drop the parts that were received."""
        self._merged = s.WatchBatchResponse()


class BatchEvents:
    """The events of a watched batch.

    Attributes:
        dataset: as the caller named it, or its id.
        batch: the batch after the last whole message, `None` before the first.
        resume_token: continues after the last whole message.
    """

    def __init__(
        self, request: s.WatchBatchRequest, dataset: str | uuid.UUID | None = None
    ) -> None:
        self.dataset = dataset or request.dataset_id
        self._messages = WholeMessages(request)
        self.batch: Batch | None = None

    def __str__(self) -> str:
        reached = f" at revision {self.batch.revision}" if self.batch else ""
        return f"batch {self.request.batch_id!r} of dataset {str(self.dataset)!r}{reached}"

    @property
    def request(self) -> s.WatchBatchRequest:
        """The request with the last token."""
        return self._messages.request

    @property
    def resume_token(self) -> str:
        """The last token."""
        return self.request.resume_token

    def receive(self, message: s.WatchBatchResponse) -> list[Event]:
        """Return the events of a message that is whole now."""
        return [event for whole in self._messages.receive(message) for event in self._events(whole)]

    def lost(self) -> None:
        """Drop the parts that were received."""
        self._messages.lost()

    def _events(self, whole: s.WatchBatchResponse) -> list[Event]:
        self.batch = batch_of(whole.batch)
        events: list[Event] = [snapshot_of(whole)] if whole.HasField("snapshot") else []
        events += map(transition_of, whole.transitions)
        events += map(document_progress_of, whole.progress)
        return events


DatasetEvent: TypeAlias = Dataset | DatasetRemoved


class DatasetEvents:
    """The changes of watched datasets.

    Every stream begins with all datasets; of those, only what differs from before is an event.
    """

    def __init__(self, dataset_ids: Iterable[str]) -> None:
        self.request = s.WatchDatasetsRequest(
            dataset_ids=dataset_ids, heartbeat_interval=Duration(seconds=HEARTBEAT_S)
        )
        self._known: dict[str, Dataset] = {}
        self._sent: set[str] | None = set()  # by this stream, until all have been

    def __str__(self) -> str:
        return ", ".join(self.request.dataset_ids) or "all datasets"

    def receive(self, message: s.WatchDatasetsResponse) -> list[DatasetEvent]:
        """Return the changes in a message."""
        sent = list(map(dataset_of, message.datasets))
        events: list[DatasetEvent] = [
            dataset for dataset in sent if self._known.get(dataset.dataset_id) != dataset
        ]
        self._known |= {dataset.dataset_id: dataset for dataset in sent}
        removed = list(message.removed_dataset_ids)
        if self._sent is not None:
            self._sent.update(dataset.dataset_id for dataset in sent)
            if message.complete:
                removed += self._known.keys() - self._sent
                self._sent = None
        events += [
            DatasetRemoved(dataset_id=dataset_id)
            for dataset_id in removed
            if self._known.pop(dataset_id, None)
        ]
        return events

    def lost(self) -> None:
        """Expect all datasets again."""
        self._sent = set()
