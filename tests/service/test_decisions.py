"""What reports, attempts, controls and submissions decide, without a store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stagecast.errors import (
    BatchSealed,
    DocumentExists,
    DocumentNotFound,
    DocumentTaken,
    FieldInvalid,
    IllegalTransition,
    StagecastError,
)
from stagecast.model import (
    BatchEdit,
    Document,
    DocumentState,
    InvalidReport,
    Report,
    ReportOutcome,
    Stage,
    TransitionKind,
    retry,
    stop,
)
from stagecast.service.controls import _control
from stagecast.service.reports import _report, _report_partially, _start
from stagecast.service.submissions import _add, _seal
from tests.builders import NOW, batch, counts_of, document, document_in, new_document

PENDING, RUNNING, PAUSED, SUCCEEDED, FAILED, STOPPED = DocumentState
Kind = TransitionKind
NFC, NFD = "caf\u00e9.txt", "cafe\u0301.txt"


def edit_with(*documents: Document, sealed: bool = True) -> BatchEdit:
    """Return an edit of a batch with these documents, all of which the call is about."""
    of = batch(sealed=sealed, revision=9, counts=counts_of(documents))
    named = {one.document_id: one for one in documents}
    return BatchEdit(of, named, new=False, now=NOW, write_id=7, server_epoch=1)


def numbered(*states: DocumentState) -> list[Document]:
    """Return documents `doc-0`, `doc-1` … in these states."""
    return [
        document_in(state, document_id=f"doc-{position}", position=position)
        for position, state in enumerate(states)
    ]


def kinds(edit: BatchEdit) -> list[TransitionKind]:
    return [transition.kind for transition in edit.transitions]


def test_reports_of_a_call_are_applied_one_after_the_other() -> None:
    edit = edit_with(*numbered(RUNNING, PENDING))
    stages = [("doc-0", Stage.PARSING), ("doc-1", Stage.INDEXING), ("doc-0", Stage.COMPLETED)]
    reported = _report(edit, [Report(document_id=name, stage=stage) for name, stage in stages])
    assert [result.outcome for result in reported.results] == [ReportOutcome.APPLIED] * 3
    assert [result.revision for result in reported.results] == [10, 11, 12]
    assert reported.revision == edit.batch.revision == 12
    assert {name: one.stage for name, one in edit.changed.items()} == {
        "doc-0": Stage.COMPLETED,
        "doc-1": Stage.INDEXING,
    }


def test_report_without_news_is_a_sign_of_life() -> None:
    [running] = numbered(RUNNING)
    edit = edit_with(running)
    reported = _report(edit, [Report(document_id="doc-0", stage=Stage.WAITING)])
    assert reported.results[0].outcome is ReportOutcome.DUPLICATE
    assert not edit.dirty
    assert edit.heartbeats == {"doc-0": running}


@pytest.mark.parametrize(
    ("report", "error"),
    [
        ({"document_id": "nope"}, DocumentNotFound),
        ({"document_id": "doc-1", "stage": Stage.COMPLETED}, IllegalTransition),
        ({"document_id": "doc-0", "attempt": 9}, FieldInvalid),
    ],
)
def test_refused_report_is_located(report: dict[str, Any], error: type[StagecastError]) -> None:
    edit = edit_with(*numbered(RUNNING, STOPPED))
    with pytest.raises(error, match=r"reports\[1\]") as caught:
        _report(edit, [Report(document_id="doc-0", stage=Stage.PARSING), Report(**report)])
    assert caught.value.metadata["index"] == "1"
    assert caught.value.metadata["document_id"] == report["document_id"]


def test_partial_reports_give_no_sign_of_life_where_they_are_refused() -> None:
    one, two = numbered(RUNNING, RUNNING)
    edit = edit_with(replace(one, attempt=2), replace(two, attempt=2))
    reports: list[Report | InvalidReport] = [
        Report(document_id="doc-0", attempt=1, stage=Stage.PARSING),
        Report(document_id="doc-1", attempt=2, stage=Stage.WAITING),
        InvalidReport(document_id="doc-0", error=FieldInvalid("stage", "unknown")),
        InvalidReport(document_id="", error=FieldInvalid("document_id", "empty")),
        Report(document_id="doc-2", stage=Stage.PARSING),
    ]
    reported = _report_partially(edit, reports)
    assert [result.outcome.name for result in reported.results] == [
        *("REFUSED", "DUPLICATE", "REFUSED", "REFUSED", "REFUSED"),
    ]
    refusals = [result.refusal.reason if result.refusal else "" for result in reported.results]
    assert refusals == [
        *("STALE_ATTEMPT", "", "FIELD_INVALID", "FIELD_INVALID", "DOCUMENT_NOT_FOUND"),
    ]
    assert list(edit.heartbeats) == ["doc-1"]
    assert (edit.dirty, reported.revision) == (False, 9)


def test_refused_attempt_gives_no_sign_of_life() -> None:
    edit = edit_with(*numbered(RUNNING))
    with pytest.raises(DocumentTaken):
        _start(edit, "doc-0", "w2", only_if_pending=True)
    assert (edit.dirty, edit.heartbeats) == (False, {})


def test_missing_document_is_refused_with_one_that_looks_the_same() -> None:
    edit = edit_with(document(document_id=NFD))
    with pytest.raises(DocumentNotFound, match=r"differs only in Unicode normalisation \(NFD\)"):
        _start(edit, NFC, "w1")


def test_worker_that_starts_again_gives_a_sign_of_life() -> None:
    edit = edit_with(*numbered(PENDING))
    started = _start(edit, "doc-0", "w1")
    assert kinds(edit) == [Kind.STARTED]
    again = edit_with(started)
    assert _start(again, "doc-0", "w1") is started
    assert not again.dirty
    assert again.heartbeats == {"doc-0": started}


def test_control_of_a_batch_changes_all_its_documents_in_order() -> None:
    edit = edit_with(*numbered(PENDING, RUNNING, PAUSED))
    controlled = _control(edit, "", lambda one, now: stop(one, now=now))
    assert controlled.changed == 3
    assert controlled.batch.ended_at == NOW
    assert [t.document and t.document.document_id for t in edit.transitions] == [
        "doc-0",
        "doc-1",
        "doc-2",
    ]


def test_control_of_one_document_changes_no_other() -> None:
    edit = edit_with(*numbered(FAILED, SUCCEEDED))
    assert _control(edit, "doc-1", lambda one, _: retry(one)).changed == 1
    assert edit.changed.keys() == {"doc-1"}
    assert _control(edit_with(*numbered(RUNNING)), "doc-0", lambda one, _: retry(one)).changed == 0
    with pytest.raises(DocumentNotFound):
        _control(edit, "doc-9", lambda one, _: retry(one))


def test_documents_that_exist_are_not_added_again() -> None:
    edit = edit_with(*numbered(RUNNING), sealed=False)
    added = _add(edit, [new_document(name) for name in ("new", "doc-0", "")])
    assert added.document_ids[:2] == ["new", "doc-0"]
    assert [*edit.added] == [added.document_ids[0], added.document_ids[2]]
    assert [one.position for one in edit.added.values()] == [1, 2]
    assert added.batch.counts.total == 3


def test_document_with_other_content_is_refused() -> None:
    edit = edit_with(document(display_name="another"), sealed=False)
    with pytest.raises(DocumentExists):
        _add(edit, [new_document("new"), new_document("doc-0")])


def test_sealed_batch_accepts_only_what_it_has() -> None:
    edit = edit_with(*numbered(RUNNING))
    assert _add(edit, [new_document("doc-0")]).document_ids == ["doc-0"]
    with pytest.raises(BatchSealed):
        _add(edit, [new_document("new")])
    assert not edit.dirty


def test_sealing_is_one_transition() -> None:
    edit = edit_with(*numbered(RUNNING), sealed=False)
    assert _seal(edit).sealed
    assert _seal(edit) == edit.batch
    assert kinds(edit) == [Kind.SEALED]
