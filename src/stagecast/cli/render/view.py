"""The state of a batch and its documents, built from messages of `WatchBatch`.

`watch` and `demo` show it; `status` builds one from lists.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice

from stagecast.cli.render import formatting
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as pb

_STALLED = r.DOCUMENT_STATE_UNSPECIFIED
_RUNNING = (_STALLED, r.DOCUMENT_STATE_RUNNING)
# In order of interest, after running and failed documents.
_REST = (
    r.DOCUMENT_STATE_STOPPED,
    r.DOCUMENT_STATE_PAUSED,
    r.DOCUMENT_STATE_PENDING,
    r.DOCUMENT_STATE_SUCCEEDED,
)
_TERMINAL = frozenset(
    {
        r.BATCH_STATE_SUCCEEDED,
        r.BATCH_STATE_PARTIALLY_SUCCEEDED,
        r.BATCH_STATE_FAILED,
        r.BATCH_STATE_STOPPED,
    }
)


class View:
    """A batch and its documents, kept up to date message by message.

    Documents are also indexed by state, to find a few of 100,000 without scanning all.

    Attributes:
        batch: as of the last message; without an id before the first.
        now_s: the server's clock at the last message, in seconds since the epoch.
    """

    def __init__(self) -> None:
        self.batch = r.Batch()
        self.now_s = 0.0
        self._documents: dict[str, r.Document] = {}
        # Stalled documents have a key of their own, apart from running ones.
        self._by_state: dict[r.DocumentState.ValueType, dict[str, r.Document]] = {}

    def __len__(self) -> int:
        return len(self._documents)

    @property
    def terminal(self) -> bool:
        """Whether the batch has ended."""
        return self.batch.state in _TERMINAL

    def apply(self, message: pb.WatchBatchResponse) -> None:
        """Update the batch and its documents from a message of the watch."""
        if message.HasField("snapshot"):
            self._documents.clear()
            self._by_state.clear()
        self.add(message.snapshot.documents)
        for transition in message.transitions:
            if transition.HasField("document"):
                self._put(transition.document)
        for counted in message.progress:
            document = self._documents[counted.document_id]
            if document.attempt == counted.attempt:
                document.progress.CopyFrom(counted.progress)
        self.batch = message.batch
        self.now_s = formatting.seconds(message.server_time)

    def add(self, documents: Iterable[r.Document]) -> None:
        """Add documents, or replace those with the same id."""
        for document in documents:
            self._put(document)

    def documents(self, limit: int) -> list[r.Document]:
        """Return all documents in order, or the most important ones if there are too many.

        Stalled documents come first, then the longest running, then the latest failures, which get
        up to a third of the places.
        """
        if len(self) <= limit:
            return list(self._documents.values())
        failed = self._in_state(r.DOCUMENT_STATE_FAILED)
        places = limit - min(len(failed), limit // 3)
        running = islice(
            chain.from_iterable(self._in_state(state).values() for state in _RUNNING), places
        )
        rest = chain.from_iterable(self._in_state(state).values() for state in _REST)
        return list(islice(chain(running, reversed(failed.values()), rest), limit))

    def failed(self, limit: int) -> list[r.Document]:
        """Return failed documents, in the order of their failures."""
        return list(islice(self._in_state(r.DOCUMENT_STATE_FAILED).values(), limit))

    def _in_state(self, state: r.DocumentState.ValueType) -> dict[str, r.Document]:
        return self._by_state.setdefault(state, {})

    def _put(self, document: r.Document) -> None:
        before = self._documents.get(document.document_id)
        if before is not None and _state(before) != _state(document):
            del self._by_state[_state(before)][before.document_id]
        self._documents[document.document_id] = document
        self._in_state(_state(document))[document.document_id] = document


def _state(document: r.Document) -> r.DocumentState.ValueType:
    return _STALLED if document.stalled else document.state
