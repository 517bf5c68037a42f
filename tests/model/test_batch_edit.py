"""What one call collects: revisions, counts, serials, and whether there is anything to write."""

from __future__ import annotations

from typing import Any

import pytest

from stagecast.errors import StagecastError
from stagecast.model import (
    Batch,
    BatchEdit,
    Document,
    DocumentCounts,
    DocumentState,
    Progress,
    Report,
    ReportOutcome,
    Stage,
    TransitionKind,
    apply_report,
    pause,
    resume,
    retry,
    start_attempt,
    stop,
)
from tests.builders import ERROR, NOW, batch, register_documents

Kind = TransitionKind


def begin(actual: Batch, *, now: int = NOW, write_id: int = 7) -> BatchEdit:
    return BatchEdit(actual, new=False, now=now, write_id=write_id, server_epoch=1)


def created(documents: int = 0, *, sealed: bool = True, now: int = NOW) -> BatchEdit:
    edit = BatchEdit(batch(), new=True, now=now, write_id=1, server_epoch=1)
    edit.create()
    register_documents(edit, documents)
    if sealed:
        edit.seal()
    return edit


def tell(edit: BatchEdit, actual: Document, **said: Any) -> Document:
    report = Report(document_id=actual.document_id, **said)
    return edit.apply(actual, apply_report(actual, report, now=edit.now))


def take(edit: BatchEdit, actual: Document, worker: str = "w1") -> Document:
    return edit.apply(actual, start_attempt(actual, worker, now=edit.now))


def document_of(edit: BatchEdit, number: int = 0) -> Document:
    return edit.added[f"doc-{number}"]


def test_new_batch_begins_with_created_at_revision_1() -> None:
    edit = created(2)
    assert edit.before is None
    assert [(t.revision, t.kind) for t in edit.transitions] == [
        (1, Kind.CREATED),
        (2, Kind.REGISTERED),
        (3, Kind.REGISTERED),
        (4, Kind.SEALED),
    ]
    assert edit.batch.revision == 4


def test_transitions_of_the_batch_bear_no_document() -> None:
    first, *_, last = created(1).transitions
    for one in (first, last):
        assert (one.document, one.previous_state, one.previous_stage) == (None, None, None)
    assert (first.sealed, last.sealed) == (False, True)


def test_revisions_go_on_without_a_hole() -> None:
    first = created(3)
    edit = begin(first.batch)
    start = [take(edit, document_of(first, number)) for number in range(3)]
    tell(edit, start[0], stage=Stage.WAITING)  # no transition, no revision
    tell(edit, start[1], stage=Stage.PARSING)
    assert [t.revision for t in edit.transitions] == [6, 7, 8, 9]
    assert edit.batch.revision == 9


def test_document_bears_the_revision_and_time_of_its_last_transition() -> None:
    first = created(2)
    edit = begin(first.batch, now=NOW + 5)
    after = take(edit, document_of(first, 1))
    assert (after.revision, after.updated_at) == (edit.batch.revision, NOW + 5)
    assert edit.changed == {"doc-1": after}
    assert edit.transitions[-1].document == after


def test_transition_tells_where_the_document_came_from() -> None:
    first = created(1)
    edit = begin(first.batch)
    start = take(edit, document_of(first))
    report = Report(document_id="doc-0", stage=Stage.CLEANING)
    edit.apply(start, apply_report(start, report, now=NOW), event_at=123)
    started, entered = edit.transitions
    assert (started.previous_state, started.previous_stage) == (
        DocumentState.PENDING,
        Stage.WAITING,
    )
    assert (entered.previous_state, entered.previous_stage) == (
        DocumentState.RUNNING,
        Stage.WAITING,
    )
    assert (started.event_at, entered.event_at) == (None, 123)


def test_registered_document_comes_from_nowhere() -> None:
    registered = created(1).transitions[1]
    assert (registered.previous_state, registered.previous_stage) == (None, None)


def test_counts_in_every_transition_add_up() -> None:
    first = created(3, sealed=False)
    assert [t.counts for t in first.transitions] == [
        DocumentCounts(),
        DocumentCounts(pending=1),
        DocumentCounts(pending=2),
        DocumentCounts(pending=3),
    ]
    edit = begin(first.batch)
    one, two, three = (take(edit, document_of(first, number)) for number in range(3))
    tell(edit, one, stage=Stage.COMPLETED)
    tell(edit, two, error=ERROR)
    edit.apply(three, pause(three, now=NOW))
    assert [t.counts for t in edit.transitions] == [
        DocumentCounts(pending=2, running=1),
        DocumentCounts(pending=1, running=2),
        DocumentCounts(running=3),
        DocumentCounts(running=2, succeeded=1),
        DocumentCounts(running=1, succeeded=1, failed=1),
        DocumentCounts(paused=1, succeeded=1, failed=1),
    ]
    assert edit.batch.counts == edit.transitions[-1].counts


def test_all_transitions_of_a_call_share_its_mark_and_time() -> None:
    edit = created(3, now=NOW)
    assert {(t.write_id, t.committed_at) for t in edit.transitions} == {(1, NOW)}


def test_time_never_falls_behind_the_batch() -> None:
    first = created(1, now=NOW)
    edit = begin(first.batch, now=NOW - 1_000)
    after = take(edit, document_of(first))
    assert edit.now == edit.batch.updated_at == after.updated_at == NOW
    assert after.processing_started_at == NOW


def test_nothing_said_leaves_nothing_to_write() -> None:
    assert not begin(created(1).batch).dirty


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ({"stage": Stage.CLEANING}, ReportOutcome.DUPLICATE),
        ({"stage": Stage.PARSING}, ReportOutcome.OVERTAKEN),
        ({"progress": Progress(completed_segments=4)}, ReportOutcome.DUPLICATE),
        ({"progress": Progress(completed_segments=3)}, ReportOutcome.OVERTAKEN),
        ({}, ReportOutcome.DUPLICATE),
    ],
)
def test_report_that_brings_nothing_leaves_nothing_to_write(
    said: dict[str, Any], outcome: ReportOutcome
) -> None:
    first = created(1)
    at_work = tell(
        first,
        document_of(first),
        stage=Stage.CLEANING,
        progress=Progress(completed_segments=4, total_segments=9),
    )
    edit = begin(first.batch)
    change = apply_report(at_work, Report(document_id="doc-0", **said), now=NOW)
    assert change.outcome is outcome
    assert edit.apply(at_work, change) is at_work
    assert (edit.dirty, edit.changed, edit.progress_seqs) == (False, {}, {})
    assert edit.batch == first.batch


def test_moves_that_do_nothing_leave_nothing_to_write() -> None:
    first = created(1)
    start = take(first, document_of(first))
    edit = begin(first.batch)
    for change in (start_attempt(start, "w1", now=NOW), resume(start), retry(start)):
        edit.apply(start, change)
    edit.seal()
    assert not edit.dirty
    assert edit.batch == first.batch


def test_batch_ends_with_its_last_document_and_opens_with_a_retry() -> None:
    first = created(2)
    assert first.batch.ended_at is None
    edit = begin(first.batch, now=NOW + 1)
    tell(edit, document_of(first, 0), stage=Stage.COMPLETED)
    assert edit.batch.ended_at is None
    failed = tell(edit, document_of(first, 1), error=ERROR)
    assert edit.batch.ended_at == NOW + 1
    again = begin(edit.batch, now=NOW + 2)
    waiting = again.apply(failed, retry(failed))
    assert again.batch.ended_at is None
    again.apply(waiting, stop(waiting, now=again.now))
    assert again.batch.ended_at == NOW + 2


def test_batch_that_is_not_sealed_does_not_end() -> None:
    first = created(1, sealed=False)
    edit = begin(first.batch, now=NOW + 1)
    tell(edit, document_of(first), stage=Stage.COMPLETED)
    assert edit.batch.ended_at is None
    sealing = begin(edit.batch, now=NOW + 2)
    sealing.seal()
    assert (sealing.batch.sealed, sealing.batch.ended_at) == (True, NOW + 2)


def test_empty_batch_ends_as_it_is_sealed() -> None:
    assert created(0).batch.ended_at == NOW


def test_sealing_twice_is_one_transition() -> None:
    edit = created(0)
    edit.seal()
    assert [t.kind for t in edit.transitions] == [Kind.CREATED, Kind.SEALED]


def test_counters_alone_take_a_serial_and_no_revision() -> None:
    first = created(2)
    edit = begin(first.batch)
    one, two = document_of(first, 0), document_of(first, 1)
    one = tell(edit, one, progress=Progress(completed_segments=1, total_segments=9))
    two = tell(edit, two, progress=Progress(completed_segments=2))
    one = tell(edit, one, progress=Progress(completed_segments=3))
    assert edit.transitions == []
    assert (edit.dirty, edit.changed) == (True, {"doc-0": one, "doc-1": two})
    assert edit.progress_seqs == {"doc-0": 3, "doc-1": 2}
    assert edit.batch.progress_seq == 3
    assert edit.batch.revision == first.batch.revision
    assert (one.revision, two.revision) == (2, 3)
    segments = edit.batch.segments
    assert (segments.completed, segments.total, segments.unknown) == (5, 9, 1)


def test_counters_inside_a_transition_take_no_serial() -> None:
    first = created(1)
    edit = begin(first.batch)
    tell(edit, document_of(first), stage=Stage.INDEXING, progress=Progress(completed_segments=4))
    assert (edit.progress_seqs, edit.batch.progress_seq) == ({}, 0)
    assert edit.batch.segments.completed == 4


def test_another_attempt_takes_its_counters_out_of_the_batch() -> None:
    first = created(1)
    done = tell(
        first,
        document_of(first),
        stage=Stage.COMPLETED,
        progress=Progress(completed_segments=9, total_segments=9),
    )
    edit = begin(first.batch)
    edit.apply(done, retry(done))
    segments = edit.batch.segments
    assert (segments.completed, segments.total, segments.unknown) == (0, 0, 1)


def test_document_may_change_in_the_call_that_registers_it() -> None:
    edit = created(1)
    after = take(edit, document_of(edit))
    assert edit.changed["doc-0"] == after
    assert [t.kind for t in edit.transitions][-1] is Kind.STARTED


def test_refused_edit_leaves_the_batch_as_it_was() -> None:
    first = created(1)
    cache = first.batch
    edit = begin(cache)
    done = tell(edit, document_of(first), stage=Stage.COMPLETED)
    with pytest.raises(StagecastError):
        tell(edit, done, error=ERROR)
    assert first.batch is edit.before is cache
