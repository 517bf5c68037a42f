"""Changes of one call: revisions, counts, progress_seqs, and whether there is anything to write."""

from __future__ import annotations

from typing import Any

import pytest

from stagecast.errors import DocumentNotFound, StagecastError
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


def report(edit: BatchEdit, actual: Document, **fields: Any) -> Document:
    change = Report(document_id=actual.document_id, **fields)
    return edit.apply(actual, apply_report(actual, change, now=edit.now))


def start(edit: BatchEdit, actual: Document, worker: str = "w1") -> Document:
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


def test_transitions_of_the_batch_have_no_document() -> None:
    first, *_, last = created(1).transitions
    for one in (first, last):
        assert (one.document, one.previous_state, one.previous_stage) == (None, None, None)
    assert (first.sealed, last.sealed) == (False, True)


def test_revisions_continue_without_gaps() -> None:
    first = created(3)
    edit = begin(first.batch)
    running = [start(edit, document_of(first, number)) for number in range(3)]
    report(edit, running[0], stage=Stage.WAITING)  # no transition, no revision
    report(edit, running[1], stage=Stage.PARSING)
    assert [t.revision for t in edit.transitions] == [6, 7, 8, 9]
    assert edit.batch.revision == 9


def test_document_has_revision_and_time_of_its_last_transition() -> None:
    first = created(2)
    edit = begin(first.batch, now=NOW + 5)
    after = start(edit, document_of(first, 1))
    assert (after.revision, after.updated_at) == (edit.batch.revision, NOW + 5)
    assert edit.changed == {"doc-1": after}
    assert edit.transitions[-1].document == after


def test_transition_has_previous_state_and_stage_of_document() -> None:
    first = created(1)
    edit = begin(first.batch)
    running = start(edit, document_of(first))
    cleaning = Report(document_id="doc-0", stage=Stage.CLEANING)
    edit.apply(running, apply_report(running, cleaning, now=NOW), event_at=123)
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


def test_registered_document_has_no_previous_state() -> None:
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
    one, two, three = (start(edit, document_of(first, number)) for number in range(3))
    report(edit, one, stage=Stage.COMPLETED)
    report(edit, two, error=ERROR)
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


def test_transitions_of_a_call_share_write_id_and_time() -> None:
    edit = created(3, now=NOW)
    assert {(t.write_id, t.committed_at) for t in edit.transitions} == {(1, NOW)}


def test_time_never_falls_behind_the_batch() -> None:
    first = created(1, now=NOW)
    edit = begin(first.batch, now=NOW - 1_000)
    after = start(edit, document_of(first))
    assert edit.now == edit.batch.updated_at == after.updated_at == NOW
    assert after.processing_started_at == NOW


def test_edit_without_changes_has_nothing_to_write() -> None:
    assert not begin(created(1).batch).dirty


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"stage": Stage.CLEANING}, ReportOutcome.DUPLICATE),
        ({"stage": Stage.PARSING}, ReportOutcome.OVERTAKEN),
        ({"progress": Progress(completed_segments=4)}, ReportOutcome.DUPLICATE),
        ({"progress": Progress(completed_segments=3)}, ReportOutcome.OVERTAKEN),
        ({}, ReportOutcome.DUPLICATE),
    ],
)
def test_report_without_news_has_nothing_to_write(
    fields: dict[str, Any], outcome: ReportOutcome
) -> None:
    first = created(1)
    at_work = report(
        first,
        document_of(first),
        stage=Stage.CLEANING,
        progress=Progress(completed_segments=4, total_segments=9),
    )
    edit = begin(first.batch)
    change = apply_report(at_work, Report(document_id="doc-0", **fields), now=NOW)
    assert change.outcome is outcome
    assert edit.apply(at_work, change) is at_work
    assert (edit.dirty, edit.changed, edit.progress_seqs) == (False, {}, {})
    assert edit.batch == first.batch


def test_moves_without_effect_have_nothing_to_write() -> None:
    first = created(1)
    running = start(first, document_of(first))
    edit = begin(first.batch)
    for change in (start_attempt(running, "w1", now=NOW), resume(running), retry(running)):
        edit.apply(running, change)
    edit.seal()
    assert not edit.dirty
    assert edit.batch == first.batch


def test_batch_ends_with_last_document_and_reopens_with_retry() -> None:
    first = created(2)
    assert first.batch.ended_at is None
    edit = begin(first.batch, now=NOW + 1)
    report(edit, document_of(first, 0), stage=Stage.COMPLETED)
    assert edit.batch.ended_at is None
    failed = report(edit, document_of(first, 1), error=ERROR)
    assert edit.batch.ended_at == NOW + 1
    again = begin(edit.batch, now=NOW + 2)
    waiting = again.apply(failed, retry(failed))
    assert again.batch.ended_at is None
    again.apply(waiting, stop(waiting, now=again.now))
    assert again.batch.ended_at == NOW + 2


def test_unsealed_batch_does_not_end() -> None:
    first = created(1, sealed=False)
    edit = begin(first.batch, now=NOW + 1)
    report(edit, document_of(first), stage=Stage.COMPLETED)
    assert edit.batch.ended_at is None
    sealing = begin(edit.batch, now=NOW + 2)
    sealing.seal()
    assert (sealing.batch.sealed, sealing.batch.ended_at) == (True, NOW + 2)


def test_empty_batch_ends_when_it_is_sealed() -> None:
    assert created(0).batch.ended_at == NOW


def test_sealing_twice_is_one_transition() -> None:
    edit = created(0)
    edit.seal()
    assert [t.kind for t in edit.transitions] == [Kind.CREATED, Kind.SEALED]


def test_counters_alone_take_a_progress_seq_and_no_revision() -> None:
    first = created(2)
    edit = begin(first.batch)
    one, two = document_of(first, 0), document_of(first, 1)
    one = report(edit, one, progress=Progress(completed_segments=1, total_segments=9))
    two = report(edit, two, progress=Progress(completed_segments=2))
    one = report(edit, one, progress=Progress(completed_segments=3))
    assert edit.transitions == []
    assert (edit.dirty, edit.changed) == (True, {"doc-0": one, "doc-1": two})
    assert edit.progress_seqs == {"doc-0": 3, "doc-1": 2}
    assert edit.batch.progress_seq == 3
    assert edit.batch.revision == first.batch.revision
    assert (one.revision, two.revision) == (2, 3)
    segments = edit.batch.segments
    assert (segments.completed, segments.total, segments.unknown) == (5, 9, 1)


def test_counters_of_a_transition_take_no_progress_seq() -> None:
    first = created(1)
    edit = begin(first.batch)
    report(edit, document_of(first), stage=Stage.INDEXING, progress=Progress(completed_segments=4))
    assert (edit.progress_seqs, edit.batch.progress_seq) == ({}, 0)
    assert edit.batch.segments.completed == 4


def test_retry_subtracts_the_counters_from_the_batch() -> None:
    first = created(1)
    done = report(
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
    after = start(edit, document_of(edit))
    assert edit.changed["doc-0"] == after
    assert [t.kind for t in edit.transitions][-1] is Kind.STARTED


def test_refused_edit_leaves_the_batch_as_it_was() -> None:
    first = created(1)
    before = first.batch
    edit = begin(before)
    done = report(edit, document_of(first), stage=Stage.COMPLETED)
    with pytest.raises(StagecastError):
        report(edit, done, error=ERROR)
    assert first.batch is edit.before is before


def test_documents_of_a_call_are_as_changed_so_far() -> None:
    first = created(2)
    edit = BatchEdit(
        first.batch,
        {"doc-0": document_of(first)},
        new=False,
        now=NOW,
        write_id=7,
        server_epoch=1,
    )
    running = start(edit, edit.get_document("doc-0"))
    assert edit.get_document("doc-0") is running
    assert edit.documents == {"doc-0": running}
    for missing in ("doc-1", "doc-9"):
        with pytest.raises(DocumentNotFound):
            edit.get_document(missing)


def test_batch_is_up_to_date_after_every_change() -> None:
    edit = begin(created(2, sealed=False).batch, now=NOW + 1)
    before = edit.batch
    assert edit.batch is before
    document = document_of(created(2))
    document = report(edit, document, progress=Progress(completed_segments=2))
    assert (edit.batch.segments.completed, edit.batch.updated_at) == (2, NOW)
    report(edit, document, stage=Stage.COMPLETED)
    assert (edit.batch.counts.succeeded, edit.batch.updated_at) == (1, NOW + 1)
    edit.seal()
    assert (edit.batch.sealed, edit.batch.revision) == (True, before.revision + 2)
    assert before.counts == DocumentCounts(pending=2)


def test_changes_of_several_calls_are_those_of_each() -> None:
    first = created(3)
    one, two, three = (document_of(first, number) for number in range(3))
    edit = begin(first.batch, write_id=7)
    one = report(edit, one, progress=Progress(completed_segments=1))
    two = start(edit, two)
    later = begin(edit.batch, write_id=8)
    two = report(later, two, stage=Stage.PARSING)
    three = report(later, three, progress=Progress(completed_segments=4))
    later.record_heartbeat(one)
    edit.absorb(later)
    assert (edit.before, edit.batch) == (first.batch, later.batch)
    assert [(t.revision, t.write_id) for t in edit.transitions] == [(6, 7), (7, 8)]
    assert edit.changed == {"doc-0": one, "doc-1": two, "doc-2": three}
    assert edit.progress_seqs == {"doc-0": 1, "doc-2": 2}
    assert edit.heartbeats == {"doc-0": one}
    assert [edit.is_moved(each) for each in (one, two, three)] == [False, True, False]
