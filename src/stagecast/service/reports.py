"""Attempts and reports of workers.

Each method is one change of a batch, decided by a pure function with the rules of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from stagecast.errors import FieldInvalid, StagecastError
from stagecast.model import (
    Batch,
    BatchEdit,
    Document,
    InvalidReport,
    Report,
    ReportOutcome,
    Visibility,
    apply_report,
    start_attempt,
    with_other_forms,
)
from stagecast.store import Store, Wanted


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportResult:
    """The outcome of one report, and the revision of its document after it, 0 without one.

    `refusal` is why it was REFUSED.
    """

    document_id: str
    outcome: ReportOutcome
    revision: int
    refusal: StagecastError | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reported:
    """The outcomes of the reports of one call, and the batch's revision after it."""

    results: Sequence[ReportResult]
    revision: int


class Reports:
    """The workers' side. Every method returns after the commit, and is restricted to `visible`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def start_attempt(
        self,
        dataset_id: str,
        batch_id: str,
        document_id: str,
        worker: str,
        *,
        only_if_pending: bool = False,
        visible: Visibility,
    ) -> Document:
        """Start an attempt at a document for a worker, and return the document.

        Raises:
            BatchNotFound, DocumentNotFound: there is no such batch or document.
            DocumentTaken: with `only_if_pending`, it is not PENDING, and not the worker's already.
        """
        return await self._store.change(
            (dataset_id, batch_id),
            Wanted(document_ids=with_other_forms([document_id])),
            partial(
                _start, document_id=document_id, worker=worker, only_if_pending=only_if_pending
            ),
            visible=visible,
        )

    async def report(
        self, dataset_id: str, batch_id: str, reports: Sequence[Report], *, visible: Visibility
    ) -> Reported:
        """Record reports in their order, all or none.

        Raises:
            BatchNotFound, DocumentNotFound: there is no such batch or document.
            FieldInvalid, StaleAttempt, IllegalTransition: a report is refused; `metadata` names its
                `index` and `document_id`.
        """
        ids = with_other_forms(report.document_id for report in reports)
        return await self._store.change(
            (dataset_id, batch_id),
            Wanted(document_ids=ids),
            partial(_report, reports=reports),
            visible=visible,
        )

    async def report_partially(
        self,
        dataset_id: str,
        batch_id: str,
        reports: Sequence[Report | InvalidReport],
        *,
        visible: Visibility,
    ) -> Reported:
        """Record reports in their order, but for those that are refused.

        Raises:
            BatchNotFound: there is no such batch.
        """
        ids = with_other_forms(report.document_id for report in reports if report.document_id)
        return await self._store.change(
            (dataset_id, batch_id),
            Wanted(document_ids=ids),
            partial(_report_partially, reports=reports),
            visible=visible,
        )


def _start(
    edit: BatchEdit, document_id: str, worker: str, *, only_if_pending: bool = False
) -> Document:
    document = edit.get_document(document_id)
    change = start_attempt(document, worker, now=edit.now, only_if_pending=only_if_pending)
    started = edit.apply(document, change)
    if started is document:
        edit.record_heartbeat(document)
    return started


def _report(edit: BatchEdit, reports: Sequence[Report]) -> Reported:
    results: list[ReportResult] = []
    for index, report in enumerate(reports):
        try:
            results.append(_apply(edit, report))
        except StagecastError as error:
            raise _located(error, edit.batch, index, report) from None
    return Reported(results=results, revision=edit.batch.revision)


def _report_partially(edit: BatchEdit, reports: Sequence[Report | InvalidReport]) -> Reported:
    results = [_apply_or_refuse(edit, report) for report in reports]
    return Reported(results=results, revision=edit.batch.revision)


def _apply_or_refuse(edit: BatchEdit, report: Report | InvalidReport) -> ReportResult:
    try:
        if isinstance(report, InvalidReport):
            raise report.error
        return _apply(edit, report)
    except StagecastError as refusal:
        document = edit.documents.get(report.document_id)
        return ReportResult(
            document_id=report.document_id,
            outcome=ReportOutcome.REFUSED,
            revision=document.revision if document else 0,
            refusal=refusal,
        )


def _apply(edit: BatchEdit, report: Report) -> ReportResult:
    document = edit.get_document(report.document_id)
    change = apply_report(document, report, now=edit.now)
    after = edit.apply(document, change, event_at=report.event_at)
    if after is document:
        edit.record_heartbeat(document)
    return ReportResult(
        document_id=report.document_id, outcome=change.outcome, revision=after.revision
    )


def _located(error: StagecastError, batch: Batch, index: int, report: Report) -> StagecastError:
    """Return the error with the report that it is about."""
    if isinstance(error, FieldInvalid):
        error = FieldInvalid(f"reports[{index}].{error.field}", error.rule)
    else:
        error.args = (f"reports[{index}]: {error}",)
    error.metadata |= {
        "dataset_id": batch.dataset_id,
        "batch_id": batch.batch_id,
        "document_id": report.document_id,
        "index": str(index),
    }
    return error
