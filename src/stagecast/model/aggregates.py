"""Counts and derived states of batches and datasets.

Counts are updated incrementally, in the transaction that changes the document, and never computed
on read.
"""

from __future__ import annotations

from dataclasses import replace

from stagecast.model.records import (
    Batch,
    BatchState,
    Dataset,
    DatasetState,
    Document,
    DocumentCounts,
    DocumentState,
    Progress,
    SegmentTotals,
    Transition,
    evolve,
)

_STALLED = DocumentCounts._fields.index("stalled")
if tuple(state.name.lower() for state in DocumentState) != DocumentCounts._fields[:_STALLED]:
    raise AssertionError("the counted fields follow the order of DocumentState")


def move_counts(
    counts: DocumentCounts, before: Document | None, after: Document | None
) -> DocumentCounts:
    """Return the counts with one document moved from `before` to `after`; `None`: absent."""
    if before and after and (before.state, before.stalled) == (after.state, after.stalled):
        return counts
    values = [*counts]
    if before is not None:
        values[before.state - 1] -= 1
        values[_STALLED] -= before.stalled
    if after is not None:
        values[after.state - 1] += 1
        values[_STALLED] += after.stalled
    return DocumentCounts(*values)


def move_segments(
    totals: SegmentTotals, before: Document | None, after: Document | None
) -> SegmentTotals:
    """Return the totals with one document's counters moved from `before` to `after`."""
    if (
        before
        and after
        and (before.progress is after.progress or before.progress == after.progress)
    ):
        return totals
    for document, step in ((before, -1), (after, +1)):
        if document is not None:
            progress = document.progress
            totals = SegmentTotals(
                completed=totals.completed + step * progress.completed_segments,
                total=totals.total + step * (progress.total_segments or 0),
                unknown=totals.unknown + step * (progress.total_segments is None),
            )
    return totals


def batch_state(batch: Batch) -> BatchState:
    """Derive the state of a batch: the first one that matches."""
    counts = batch.counts
    if not batch.sealed or counts.open:
        return _open_batch_state(counts)
    if counts.succeeded == counts.total:
        return BatchState.SUCCEEDED
    if counts.succeeded:
        return BatchState.PARTIALLY_SUCCEEDED
    return BatchState.FAILED if counts.failed else BatchState.STOPPED


def batch_progress(batch: Batch) -> Progress:
    """Return the sum over the documents; the total is unknown while any document's is."""
    known = not batch.segments.unknown and batch.counts.total
    return Progress(
        completed_segments=batch.segments.completed,
        total_segments=batch.segments.total if known else None,
    )


def batch_at(batch: Batch, transition: Transition) -> Batch:
    """Return the batch as of one of its transitions; segment counters stay the newest."""
    then = evolve(
        batch,
        sealed=transition.sealed,
        counts=transition.counts,
        revision=transition.revision,
        updated_at=transition.committed_at,
    )
    return evolve(then, ended_at=then.updated_at if batch_state(then).terminal else None)


def dataset_state(dataset: Dataset) -> DatasetState:
    """Derive the state of a dataset from its open batches, else from the batch that ended last.

    A dataset whose batches were all deleted is SUCCEEDED.
    """
    if dataset.open_batches:
        all_pending = dataset.open_batches == dataset.pending_batches
        return DatasetState.PENDING if all_pending else DatasetState.RUNNING
    ended_well = dataset.last_ended in (None, BatchState.SUCCEEDED)
    return DatasetState.SUCCEEDED if ended_well else DatasetState.FAILED


def move_dataset(dataset: Dataset, before: Batch | None, after: Batch) -> Dataset:
    """Return the dataset with one of its batches moved from `before` to `after`."""
    old = batch_state(before) if before is not None else None
    new = batch_state(after)
    return replace(
        dataset,
        batches=dataset.batches + (before is None),
        open_batches=dataset.open_batches + (not new.terminal) - _is_open(old),
        pending_batches=dataset.pending_batches
        + (new is BatchState.PENDING)
        - (old is BatchState.PENDING),
        last_ended=new if new.terminal else dataset.last_ended,
        counts=_sum_moved(dataset.counts, before.counts if before else None, after.counts),
        updated_at=max(dataset.updated_at, after.updated_at),
    )


def remove_batch(
    dataset: Dataset, batch: Batch, *, last_ended: BatchState | None, now: int
) -> Dataset:
    """Return the dataset without one of its batches.

    Args:
        dataset: with the batch.
        batch: the batch to remove.
        last_ended: the state of the remaining batch that ended last.
        now: the commit time in microseconds.
    """
    state = batch_state(batch)
    return replace(
        dataset,
        batches=dataset.batches - 1,
        open_batches=dataset.open_batches - (not state.terminal),
        pending_batches=dataset.pending_batches - (state is BatchState.PENDING),
        last_ended=last_ended,
        counts=_sum_moved(dataset.counts, batch.counts, DocumentCounts()),
        updated_at=max(dataset.updated_at, now),
    )


def _open_batch_state(counts: DocumentCounts) -> BatchState:
    if counts.pending == counts.total:
        return BatchState.PENDING
    if counts.open and counts.paused == counts.open:
        return BatchState.PAUSED
    return BatchState.RUNNING


def _is_open(state: BatchState | None) -> bool:
    return state is not None and not state.terminal


def _sum_moved(
    counts: DocumentCounts, before: DocumentCounts | None, after: DocumentCounts
) -> DocumentCounts:
    moved = zip(counts, before or DocumentCounts(), after, strict=True)
    return DocumentCounts(*(total - old + new for total, old, new in moved))
