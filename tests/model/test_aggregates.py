"""Counts and states of batches and datasets, derived from documents and batches."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stagecast.model import (
    Batch,
    BatchState,
    DatasetState,
    Document,
    DocumentCounts,
    DocumentState,
    Progress,
    SegmentTotals,
    TransitionKind,
    batch_at,
    batch_progress,
    batch_state,
    dataset_state,
    move_counts,
    move_dataset,
    move_segments,
)
from tests.builders import batch, dataset, document, document_in, transition

PENDING, RUNNING, PAUSED, SUCCEEDED, FAILED, STOPPED = DocumentState

ONE_OF_EACH = DocumentCounts(
    pending=1, running=2, paused=1, succeeded=1, failed=1, stopped=1, stalled=1
)
STALLED_ONE = document_in(RUNNING, stalled=True)


def some(**counts: int) -> DocumentCounts:
    return DocumentCounts(**counts)


def test_total_and_open_count_each_document_once() -> None:
    assert (ONE_OF_EACH.total, ONE_OF_EACH.open) == (7, 4)  # the stalled one is running


@pytest.mark.parametrize(
    ("before", "after", "counts"),
    [
        (None, document(), ONE_OF_EACH._replace(pending=2)),
        (document_in(FAILED), None, ONE_OF_EACH._replace(failed=0)),
        (STALLED_ONE, None, ONE_OF_EACH._replace(running=1, stalled=0)),
        (document(), document_in(RUNNING), ONE_OF_EACH._replace(pending=0, running=3)),
        (document_in(RUNNING), STALLED_ONE, ONE_OF_EACH._replace(stalled=2)),
        (STALLED_ONE, document_in(RUNNING), ONE_OF_EACH._replace(stalled=0)),
        (STALLED_ONE, document_in(PAUSED), ONE_OF_EACH._replace(running=1, paused=2, stalled=0)),
        (document_in(PAUSED), document_in(STOPPED), ONE_OF_EACH._replace(paused=0, stopped=2)),
        (
            STALLED_ONE,
            document_in(SUCCEEDED),
            some(pending=1, running=1, paused=1, succeeded=2, failed=1, stopped=1),
        ),
        (document_in(FAILED), document(), ONE_OF_EACH._replace(pending=2, failed=0)),
        (document_in(RUNNING), document_in(RUNNING, worker="w2"), ONE_OF_EACH),
    ],
)
def test_counts_move_by_one_document(
    before: Document | None, after: Document | None, counts: DocumentCounts
) -> None:
    assert move_counts(ONE_OF_EACH, before, after) == counts


def counted(completed: int, total: int | None) -> Document:
    return document(progress=Progress(completed_segments=completed, total_segments=total))


@pytest.mark.parametrize(
    ("before", "after", "totals"),
    [
        (None, counted(0, None), (30, 100, 3)),
        (None, counted(3, 5), (33, 105, 2)),
        (counted(3, 5), None, (27, 95, 2)),
        (counted(0, None), counted(0, 50), (30, 150, 1)),
        (counted(2, None), counted(7, None), (35, 100, 2)),
        (counted(2, 10), counted(7, 12), (35, 102, 2)),
        (counted(9, 10), counted(0, None), (21, 90, 3)),  # another attempt
        (counted(9, 10), counted(9, 10), (30, 100, 2)),
    ],
)
def test_segments_move_by_one_document(
    before: Document | None, after: Document | None, totals: tuple[int, int, int]
) -> None:
    moved = move_segments(SegmentTotals(completed=30, total=100, unknown=2), before, after)
    assert (moved.completed, moved.total, moved.unknown) == totals


@pytest.mark.parametrize(
    ("sealed", "counts", "state"),
    [
        # Not sealed: open, whatever it contains.
        (False, some(), BatchState.PENDING),
        (False, some(pending=3), BatchState.PENDING),
        (False, some(pending=2, running=1), BatchState.RUNNING),
        (False, some(pending=2, paused=1), BatchState.RUNNING),
        (False, some(pending=2, succeeded=1), BatchState.RUNNING),
        (False, some(paused=2), BatchState.PAUSED),
        (False, some(paused=2, succeeded=1, failed=1), BatchState.PAUSED),
        (False, some(running=1, paused=1), BatchState.RUNNING),
        (False, some(succeeded=2), BatchState.RUNNING),
        (False, some(failed=2), BatchState.RUNNING),
        (False, some(stopped=2), BatchState.RUNNING),
        # Sealed, documents open.
        (True, some(pending=3), BatchState.PENDING),
        (True, some(pending=2, running=1), BatchState.RUNNING),
        (True, some(pending=2, failed=1), BatchState.RUNNING),
        (True, some(running=1, stalled=1), BatchState.RUNNING),
        (True, some(paused=2), BatchState.PAUSED),
        (True, some(paused=1, stopped=5), BatchState.PAUSED),
        (True, some(paused=1, pending=1), BatchState.RUNNING),
        # Sealed, everything ended.
        (True, some(), BatchState.SUCCEEDED),
        (True, some(succeeded=2), BatchState.SUCCEEDED),
        (True, some(succeeded=2, failed=1), BatchState.PARTIALLY_SUCCEEDED),
        (True, some(succeeded=2, stopped=1), BatchState.PARTIALLY_SUCCEEDED),
        (True, some(succeeded=1, failed=1, stopped=1), BatchState.PARTIALLY_SUCCEEDED),
        (True, some(failed=2), BatchState.FAILED),
        (True, some(failed=1, stopped=3), BatchState.FAILED),
        (True, some(stopped=3), BatchState.STOPPED),
    ],
)
def test_batch_state_is_the_first_that_matches(
    sealed: bool, counts: DocumentCounts, state: BatchState
) -> None:
    actual = batch_state(batch(sealed=sealed, counts=counts))
    assert actual is state
    assert actual.terminal == (sealed and not counts.open)


@pytest.mark.parametrize(
    ("documents", "totals", "progress"),
    [
        (2, SegmentTotals(completed=7, total=10, unknown=0), (7, 10)),
        (2, SegmentTotals(completed=7, total=10, unknown=1), (7, None)),
        (2, SegmentTotals(completed=0, total=0, unknown=0), (0, 0)),
        (0, SegmentTotals(), (0, None)),
    ],
)
def test_batch_total_is_known_when_that_of_every_document_is(
    documents: int, totals: SegmentTotals, progress: tuple[int, int | None]
) -> None:
    actual = batch_progress(batch(counts=some(running=documents), segments=totals))
    assert (actual.completed_segments, actual.total_segments) == progress


NEWEST = batch(
    sealed=True,
    counts=some(succeeded=2),
    segments=SegmentTotals(completed=5, total=5, unknown=0),
    revision=9,
    progress_seq=4,
    server_epoch=1,
    updated_at=9_000,
    ended_at=9_000,
)


def test_batch_at_a_transition_is_in_its_state_then() -> None:
    then = transition(revision=6, committed_at=6_000, counts=some(pending=1, running=1))
    assert batch_at(NEWEST, then) == replace(
        NEWEST,
        sealed=False,
        counts=some(pending=1, running=1),
        revision=6,
        updated_at=6_000,
        ended_at=None,
    )


def test_batch_at_its_last_transition_is_the_batch() -> None:
    last = transition(
        revision=9,
        kind=TransitionKind.SUCCEEDED,
        committed_at=9_000,
        counts=some(succeeded=2),
        sealed=True,
    )
    assert batch_at(NEWEST, last) == NEWEST


def test_batch_at_an_earlier_end_has_the_time_of_that_end() -> None:
    ended = transition(revision=7, committed_at=7_000, counts=some(failed=1), sealed=True)
    retried = replace(NEWEST, counts=some(pending=1), ended_at=None)
    assert batch_at(retried, ended).ended_at == 7_000


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"open_batches": 2, "pending_batches": 2}, DatasetState.PENDING),
        ({"open_batches": 2, "pending_batches": 1}, DatasetState.RUNNING),
        ({"open_batches": 2, "pending_batches": 0}, DatasetState.RUNNING),
        (
            {"open_batches": 1, "pending_batches": 1, "last_ended": BatchState.FAILED},
            DatasetState.PENDING,
        ),
        (
            {"open_batches": 1, "pending_batches": 0, "last_ended": BatchState.SUCCEEDED},
            DatasetState.RUNNING,
        ),
        ({"last_ended": BatchState.SUCCEEDED}, DatasetState.SUCCEEDED),
        ({"last_ended": BatchState.PARTIALLY_SUCCEEDED}, DatasetState.FAILED),
        ({"last_ended": BatchState.FAILED}, DatasetState.FAILED),
        ({"last_ended": BatchState.STOPPED}, DatasetState.FAILED),
    ],
)
def test_dataset_state_is_of_open_batches_else_of_the_last(
    changes: dict[str, object], state: DatasetState
) -> None:
    assert dataset_state(dataset(batches=5, **changes)) is state


PENDING_BATCH = batch(counts=some(pending=2), updated_at=2_000)
RUNNING_BATCH = batch(counts=some(pending=1, running=1, stalled=1), updated_at=3_000)
ENDED_BATCH = batch(sealed=True, counts=some(succeeded=2), updated_at=4_000, ended_at=4_000)
FAILED_BATCH = replace(ENDED_BATCH, counts=some(failed=2))
BUSY = dataset(
    batches=5,
    open_batches=3,
    pending_batches=1,
    last_ended=BatchState.STOPPED,
    counts=some(pending=20, running=20, paused=20, succeeded=20, failed=20, stopped=20, stalled=20),
    updated_at=2_500,
)


@pytest.mark.parametrize(
    ("before", "after", "batches", "last_ended", "moved"),
    [
        (None, PENDING_BATCH, (6, 4, 2), BatchState.STOPPED, {"pending": 22}),
        (
            None,
            RUNNING_BATCH,
            (6, 4, 1),
            BatchState.STOPPED,
            {"pending": 21, "running": 21, "stalled": 21},
        ),
        (None, ENDED_BATCH, (6, 3, 1), BatchState.SUCCEEDED, {"succeeded": 22}),
        (
            PENDING_BATCH,
            RUNNING_BATCH,
            (5, 3, 0),
            BatchState.STOPPED,
            {"pending": 19, "running": 21, "stalled": 21},
        ),
        (
            RUNNING_BATCH,
            FAILED_BATCH,
            (5, 2, 1),
            BatchState.FAILED,
            {"pending": 19, "running": 19, "stalled": 19, "failed": 22},
        ),
        (
            PENDING_BATCH,
            ENDED_BATCH,
            (5, 2, 0),
            BatchState.SUCCEEDED,
            {"pending": 18, "succeeded": 22},
        ),
        (
            FAILED_BATCH,
            PENDING_BATCH,
            (5, 4, 2),
            BatchState.STOPPED,
            {"pending": 22, "failed": 18},
        ),
        (
            FAILED_BATCH,
            RUNNING_BATCH,
            (5, 4, 1),
            BatchState.STOPPED,
            {"pending": 21, "running": 21, "stalled": 21, "failed": 18},
        ),
        (RUNNING_BATCH, RUNNING_BATCH, (5, 3, 1), BatchState.STOPPED, {}),
    ],
)
def test_dataset_moves_by_one_batch(
    before: Batch | None,
    after: Batch,
    batches: tuple[int, int, int],
    last_ended: BatchState,
    moved: dict[str, int],
) -> None:
    actual = move_dataset(BUSY, before, after)
    assert (actual.batches, actual.open_batches, actual.pending_batches) == batches
    assert actual.last_ended is last_ended
    assert actual.counts == BUSY.counts._replace(**moved)
    assert actual.dataset_id == BUSY.dataset_id


def test_dataset_time_never_falls() -> None:
    assert move_dataset(BUSY, None, PENDING_BATCH).updated_at == 2_500
    assert move_dataset(BUSY, None, RUNNING_BATCH).updated_at == 3_000
