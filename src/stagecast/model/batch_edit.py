"""The changes of one call to one batch, collected before anything is written.

A refused call discards its `BatchEdit`; other calls in the same commit are not affected.
"""

from __future__ import annotations

from stagecast.model.aggregates import batch_state, move_counts, move_segments
from stagecast.model.records import Batch, Document, Transition, TransitionKind, evolve
from stagecast.model.rules import Change


class BatchEdit:
    """Assigns revisions and updates counts while one call is processed.

    Attributes:
        before: the batch as it was stored, `None` if this call creates it.
        batch: the batch with the changes so far.
        now: the commit time in microseconds; never before the batch's last one.
        transitions: the transitions so far, in order.
        added: documents that this call registers, by id.
        changed: documents that this call changes, by id, with the changes so far.
        heartbeats: documents that received a sign of life, changed or not, by id.
        progress_seqs: the new `progress_seq` of documents whose counters changed without a
            transition, by id.
    """

    def __init__(
        self, batch: Batch, *, new: bool, now: int, write_id: int, server_epoch: int
    ) -> None:
        self.before = None if new else batch
        self.batch = batch
        self.now = max(now, batch.updated_at)
        self.transitions: list[Transition] = []
        self.added: dict[str, Document] = {}
        self.changed: dict[str, Document] = {}
        self.heartbeats: dict[str, Document] = {}
        self.progress_seqs: dict[str, int] = {}
        self._first = batch.revision
        self._write_id = write_id
        self._server_epoch = server_epoch

    @property
    def dirty(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.transitions or self.changed)

    def is_moved(self, document: Document) -> bool:
        """Return whether the document's last transition is of this call."""
        return document.revision > self._first

    def create(self) -> None:
        """Record that the batch was created."""
        self._record(TransitionKind.CREATED, None, None)

    def seal(self) -> None:
        """Record that no more documents follow, unless the batch is sealed already."""
        if not self.batch.sealed:
            self.batch = evolve(self.batch, sealed=True)
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
            self.changed[after.document_id] = after
        return after

    def record_heartbeat(self, document: Document) -> None:
        """Record a sign of life from the document's worker."""
        self.heartbeats[document.document_id] = document

    def _count(self, before: Document, after: Document) -> None:
        """Move the batch's counters without a transition; watchers see the new `progress_seq`."""
        progress_seq = self.batch.progress_seq + 1
        segments = move_segments(self.batch.segments, before, after)
        self.batch = evolve(
            self.batch,
            segments=segments,
            progress_seq=progress_seq,
            server_epoch=self._server_epoch,
        )
        self.progress_seqs[after.document_id] = progress_seq

    def _record(
        self,
        kind: TransitionKind,
        before: Document | None,
        after: Document | None,
        *,
        event_at: int | None = None,
    ) -> Document | None:
        batch = self.batch
        revision = batch.revision + 1
        if after is not None:
            after = evolve(after, revision=revision, updated_at=self.now)
        moved = evolve(
            batch,
            counts=move_counts(batch.counts, before, after),
            segments=move_segments(batch.segments, before, after),
            revision=revision,
            updated_at=self.now,
        )
        self.batch = evolve(moved, ended_at=self.now if batch_state(moved).terminal else None)
        self.transitions.append(
            Transition(
                revision=revision,
                kind=kind,
                document=after,
                previous_state=before.state if before else None,
                previous_stage=before.stage if before else None,
                event_at=event_at,
                committed_at=self.now,
                counts=moved.counts,
                sealed=moved.sealed,
                write_id=self._write_id,
            )
        )
        return after
