"""The changes of one call to one batch, collected before anything is written.

A refused call discards its `BatchEdit`; other calls in the same commit are not affected.
"""

from __future__ import annotations

from stagecast.errors import DocumentNotFound
from stagecast.model.aggregates import batch_state, move_counts, move_segments
from stagecast.model.ids import find_similar
from stagecast.model.records import Batch, Document, Transition, TransitionKind, evolve
from stagecast.model.rules import Change


class BatchEdit:
    """Assigns revisions and updates counts while one call is processed.

    Attributes:
        before: the batch as it was stored, `None` if this call creates it.
        documents: those that the call is about, by id, with the changes so far.
        now: the commit time in microseconds; never before the batch's last one.
        transitions: the transitions so far, in order.
        added: documents that this call registers, by id.
        changed: documents that this call changes, by id, with the changes so far.
        heartbeats: documents that received a sign of life, changed or not, by id.
        progress_seqs: the new `progress_seq` of documents whose counters changed without a
            transition, by id.
    """

    def __init__(
        self,
        batch: Batch,
        documents: dict[str, Document] | None = None,
        *,
        new: bool,
        now: int,
        write_id: int,
        server_epoch: int,
    ) -> None:
        self.before = None if new else batch
        self.documents = {} if documents is None else documents
        self.now = max(now, batch.updated_at)
        self.transitions: list[Transition] = []
        self.added: dict[str, Document] = {}
        self.changed: dict[str, Document] = {}
        self.heartbeats: dict[str, Document] = {}
        self.progress_seqs: dict[str, int] = {}
        self._first = self._revision = batch.revision
        self._sealed = batch.sealed
        self._counts = batch.counts
        self._segments = batch.segments
        self._progress_seq = batch.progress_seq
        self._write_id = write_id
        self._server_epoch = server_epoch
        self._batch = batch
        self._is_stale = False

    @property
    def batch(self) -> Batch:
        """The batch with the changes so far; made when it is asked for, not for each transition."""
        if self._is_stale:
            self._is_stale = False
            self._batch = self._make_batch()
        return self._batch

    @property
    def dirty(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.transitions or self.changed)

    def get_document(self, document_id: str) -> Document:
        """Return one of the documents that the call is about, with the changes so far.

        Raises:
            DocumentNotFound: it does not exist.
        """
        document = self.documents.get(document_id)
        if document is None:
            batch = self._batch
            similar = find_similar(document_id, self.documents)
            raise DocumentNotFound(batch.dataset_id, batch.batch_id, document_id, similar=similar)
        return document

    def is_moved(self, document: Document) -> bool:
        """Return whether the document's last transition is of this call."""
        return document.revision > self._first

    def create(self) -> None:
        """Record that the batch was created."""
        self._record(TransitionKind.CREATED, None, None)

    def seal(self) -> None:
        """Record that no more documents follow, unless the batch is sealed already."""
        if not self._sealed:
            self._sealed = True
            self._record(TransitionKind.SEALED, None, None)

    def register(self, document: Document) -> None:
        """Record that a document was registered."""
        added = self._record(TransitionKind.REGISTERED, None, document)
        if added is not None:
            self.added[added.document_id] = added

    def apply(self, before: Document, change: Change, *, event_at: int | None = None) -> Document:
        """Record a change to a document and return the document after it."""
        after = change.document
        if change.kind is not None:
            after = self._record(change.kind, before, after, event_at=event_at) or after
        elif after is not before:
            self._count(before, after)
        if after is not before:
            self.changed[after.document_id] = self.documents[after.document_id] = after
        return after

    def record_heartbeat(self, document: Document) -> None:
        """Record a sign of life from the document's worker."""
        self.heartbeats[document.document_id] = document

    def absorb(self, later: BatchEdit) -> None:
        """Add the changes of the next call, which began with the batch after this one."""
        self._batch, self._is_stale = later.batch, False
        self.transitions += later.transitions
        self.added |= later.added
        self.changed |= later.changed
        self.heartbeats |= later.heartbeats
        self.progress_seqs |= later.progress_seqs

    def _count(self, before: Document, after: Document) -> None:
        """Move the batch's counters without a transition; watchers see the new `progress_seq`."""
        self._progress_seq += 1
        self._segments = move_segments(self._segments, before, after)
        self.progress_seqs[after.document_id] = self._progress_seq
        self._is_stale = True

    def _record(
        self,
        kind: TransitionKind,
        before: Document | None,
        after: Document | None,
        *,
        event_at: int | None = None,
    ) -> Document | None:
        self._revision += 1
        self._is_stale = True
        if after is not None:
            after = evolve(after, revision=self._revision, updated_at=self.now)
            self._counts = move_counts(self._counts, before, after)
            self._segments = move_segments(self._segments, before, after)
        self.transitions.append(
            Transition(
                revision=self._revision,
                kind=kind,
                document=after,
                previous_state=before.state if before else None,
                previous_stage=before.stage if before else None,
                event_at=event_at,
                committed_at=self.now,
                counts=self._counts,
                sealed=self._sealed,
                write_id=self._write_id,
            )
        )
        return after

    def _make_batch(self) -> Batch:
        batch = evolve(
            self._batch,
            sealed=self._sealed,
            counts=self._counts,
            segments=self._segments,
            revision=self._revision,
        )
        if self.progress_seqs:
            batch = evolve(batch, progress_seq=self._progress_seq, server_epoch=self._server_epoch)
        if self.transitions:
            ended_at = self.now if batch_state(batch).terminal else None
            batch = evolve(batch, updated_at=self.now, ended_at=ended_at)
        return batch
