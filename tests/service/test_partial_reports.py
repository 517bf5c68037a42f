"""A call with `allow_partial` records its reports as if each came in a call of its own."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from stagecast.errors import FieldInvalid, StagecastError
from stagecast.model import (
    Batch,
    BatchEdit,
    Document,
    DocumentState,
    InvalidReport,
    Report,
    ReportOutcome,
    Stage,
    Transition,
)
from stagecast.service.reports import ReportResult, _report, _report_partially
from tests.builders import NOW, batch, counts_of, document_in
from tests.model.test_properties import counters, errors, stages

DOCUMENTS = [
    *(
        document_in(state, stage, document_id=f"{state.name} {stage.name}", position=0)
        for state in (DocumentState.RUNNING, DocumentState.PAUSED, DocumentState.FAILED)
        for stage in (Stage.PARSING, Stage.INDEXING)
    ),
    document_in(DocumentState.PENDING, document_id="pending"),
    document_in(DocumentState.RUNNING, document_id="stalled", stalled=True, attempt=2),
    document_in(DocumentState.SUCCEEDED, Stage.COMPLETED, document_id="done"),
]

valid = st.builds(
    Report,
    document_id=st.sampled_from([*(one.document_id for one in DOCUMENTS), "missing"]),
    attempt=st.sampled_from([0, 0, 0, 1, 2, 3]),
    stage=stages,
    progress=counters,
    error=errors,
    event_at=st.none() | st.integers(0, NOW),
).filter(lambda one: one.stage is not Stage.COMPLETED or one.error is None)
invalid = st.builds(
    InvalidReport,
    document_id=st.sampled_from(["", "done", "pending"]),
    error=st.builds(FieldInvalid, st.just("attempt"), st.just("must be 0 or more")),
)


class Recorded:
    """A batch and its documents, changed by call after call."""

    def __init__(self) -> None:
        self.documents = {one.document_id: one for one in DOCUMENTS}
        self.batch: Batch = batch(revision=99, counts=counts_of(DOCUMENTS))
        self.moves: list[Transition] = []
        self.alive: dict[str, Document] = {}

    def edit(self) -> BatchEdit:
        documents = dict(self.documents)
        return BatchEdit(self.batch, documents, new=False, now=NOW, write_id=1, server_epoch=1)

    def save(self, edit: BatchEdit) -> None:
        self.batch = edit.batch
        self.documents |= edit.changed
        self.moves += edit.transitions
        for name in edit.changed | edit.heartbeats:
            self.alive[name] = self.documents[name]


def _report_one(recorded: Recorded, report: Report | InvalidReport) -> ReportResult | str:
    """Return the result of a report in a call of its own, or why it is refused."""
    edit = recorded.edit()
    try:
        if isinstance(report, InvalidReport):
            raise report.error
        [result] = _report(edit, [report]).results
    except StagecastError as error:
        return error.reason
    recorded.save(edit)
    return result


@given(st.lists(valid | valid | valid | invalid, min_size=1, max_size=12))
def test_partial_reports_are_recorded_as_in_calls_of_their_own(
    reports: Sequence[Report | InvalidReport],
) -> None:
    single, together = Recorded(), Recorded()
    edit = together.edit()
    actual = _report_partially(edit, reports)
    together.save(edit)
    for report, result in zip(reports, actual.results, strict=True):
        before = single.documents.get(report.document_id)
        expected = _report_one(single, report)
        if isinstance(expected, str):
            assert (result.outcome, result.refusal and result.refusal.reason) == (
                ReportOutcome.REFUSED,
                expected,
            )
            assert result.revision == (before.revision if before else 0)
        else:
            assert result == expected
    assert actual.revision == together.batch.revision
    assert vars(together) == vars(single)
