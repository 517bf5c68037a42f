"""The transition table of documents, as pure functions.

Each function takes a document and returns the `Change` to it, or raises an error if the change is
illegal.
A change with a `kind` is a transition; without one it changes counters only, or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from stagecast.errors import DocumentTaken, FieldInvalid, IllegalTransition, StaleAttempt
from stagecast.escaping import quote
from stagecast.model.records import (
    Document,
    DocumentError,
    DocumentState,
    Progress,
    ReportOutcome,
    Stage,
    Step,
    TransitionKind,
    evolve,
)
from stagecast.model.requests import Report

_Kind = TransitionKind
LOST = DocumentError(
    reason="WORKER_LOST", message="The worker sent no sign of life in time and is considered lost."
)

# The fields that only an open document has, as they are after its end.
_RELEASED: dict[str, Any] = {"stalled": False, "paused_at": None}
# When a document left each stage.
_LEFT_AT = (
    (Stage.WAITING, "processing_started_at"),
    (Stage.PARSING, "parsing_completed_at"),
    (Stage.CLEANING, "cleaning_completed_at"),
    (Stage.SPLITTING, "splitting_completed_at"),
)


class Change(NamedTuple):
    """A document after a change, and the kind and outcome of the change."""

    document: Document
    kind: TransitionKind | None = None
    outcome: ReportOutcome = ReportOutcome.DUPLICATE


def register(
    *,
    dataset_id: str,
    batch_id: str,
    document_id: str,
    position: int,
    display_name: str,
    labels: Mapping[str, str],
    now: int,
) -> Document:
    """Return a new document: PENDING, WAITING, attempt 1, without a revision yet."""
    return Document(
        dataset_id=dataset_id,
        batch_id=batch_id,
        document_id=document_id,
        position=position,
        display_name=display_name,
        labels=labels,
        created_at=now,
        state=DocumentState.PENDING,
        stage=Stage.WAITING,
        attempt=1,
        worker="",
        stalled=False,
        progress=Progress(),
        error=None,
        revision=0,
        updated_at=now,
    )


def apply_report(document: Document, report: Report, *, now: int) -> Change:
    """Return the change that a report makes to a document.

    A stage, counters and an error in one report make one transition.

    Raises:
        FieldInvalid: the attempt has not started.
        StaleAttempt: the report is of an older attempt.
        IllegalTransition: the document is terminal and the report neither a repeat nor overtaken.
    """
    _check_attempt(document, report.attempt)
    if document.state.terminal:
        return Change(document=document, outcome=_outcome_after_end(document, report))
    progress = _progress_after(document, report)
    counted = document if progress == document.progress else evolve(document, progress=progress)
    if report.error is not None:
        return _fail(counted, report.error, stage=report.stage, now=now)
    if report.stage is not None and report.stage > document.stage:
        return _enter(counted, report.stage, now=now)
    if counted is not document:
        outcome = ReportOutcome.APPLIED
    else:
        outcome = _outcome_without_change(document, report)
    if _is_silent(document):
        return _moved(evolve(counted, stalled=False), _Kind.RECOVERED)
    return Change(document=counted, outcome=outcome)


def start_attempt(
    document: Document, worker: str, *, now: int, only_if_pending: bool = False
) -> Change:
    """Return the document as started by `worker`.

    For the worker that has it already this is only a sign of life. A PENDING document starts its
    current attempt; for another worker, or a terminal document, a new attempt begins.

    Raises:
        DocumentTaken: with `only_if_pending`, it is not PENDING, and not the worker's already.
    """
    if not document.state.terminal and document.worker == worker:
        return recover(document)
    if only_if_pending and document.state is not DocumentState.PENDING:
        raise _document_taken(document)
    fresh = document if document.state is DocumentState.PENDING else _next_attempt(document)
    started = evolve(
        fresh,
        state=DocumentState.RUNNING,
        worker=worker,
        stalled=False,
        processing_started_at=now,
    )
    return _moved(started, _Kind.STARTED)


def pause(document: Document, *, now: int) -> Change:
    """Return the document PAUSED, if it is PENDING or RUNNING."""
    if document.state not in (DocumentState.PENDING, DocumentState.RUNNING):
        return Change(document=document)
    held = evolve(document, state=DocumentState.PAUSED, stalled=False, paused_at=now)
    return _moved(held, _Kind.PAUSED)


def resume(document: Document) -> Change:
    """Return the document resumed, if it is PAUSED: RUNNING, or PENDING if it never started."""
    if document.state is not DocumentState.PAUSED:
        return Change(document=document)
    started = document.processing_started_at is not None
    state = DocumentState.RUNNING if started else DocumentState.PENDING
    released = evolve(document, state=state, paused_at=None)
    return _moved(released, _Kind.RESUMED)


def stop(document: Document, *, now: int) -> Change:
    """Return the document STOPPED, if it is open."""
    if document.state.terminal:
        return Change(document=document)
    ended = evolve(document, **_RELEASED, state=DocumentState.STOPPED, stopped_at=now)
    return _moved(ended, _Kind.STOPPED)


def retry(document: Document) -> Change:
    """Return the document PENDING with a new attempt, if it is terminal."""
    if not document.state.terminal:
        return Change(document=document)
    return _moved(_next_attempt(document), _Kind.RETRIED)


def stall(document: Document) -> Change:
    """Return the document stalled, if it is PENDING or RUNNING and not stalled yet."""
    if document.state not in (DocumentState.PENDING, DocumentState.RUNNING) or document.stalled:
        return Change(document=document)
    return _moved(evolve(document, stalled=True), _Kind.STALLED)


def recover(document: Document) -> Change:
    """Return the document no longer stalled, if it is RUNNING and stalled.

    A PENDING one stalls because no worker has started it; a sign of life does not change that.
    """
    if not _is_silent(document):
        return Change(document=document)
    return _moved(evolve(document, stalled=False), _Kind.RECOVERED)


def lose(document: Document, *, now: int) -> Change:
    """Return the document FAILED as lost, if it is RUNNING and stalled."""
    if not _is_silent(document):
        return Change(document=document)
    return _fail(document, LOST, stage=None, now=now)


def _is_silent(document: Document) -> bool:
    return document.stalled and document.state is DocumentState.RUNNING


def _moved(document: Document, kind: TransitionKind) -> Change:
    return Change(document=document, kind=kind, outcome=ReportOutcome.APPLIED)


def _document_taken(document: Document) -> DocumentTaken:
    by = f" by worker {quote(document.worker)}" if document.worker else ""
    state = "has ended as" if document.state.terminal else "is"
    return DocumentTaken(
        f"document {quote(document.document_id)} is taken{by}: it {state} {document.state.name}",
        dataset_id=document.dataset_id,
        batch_id=document.batch_id,
        document_id=document.document_id,
        state=document.state.name,
        attempt=document.attempt,
    )


def _check_attempt(document: Document, attempt: int) -> None:
    if attempt > document.attempt:
        raise FieldInvalid(
            "attempt", f"{attempt} has not started; the current attempt is {document.attempt}"
        )
    if attempt and attempt < document.attempt:
        raise StaleAttempt(
            f"attempt {attempt} of document {quote(document.document_id)} is stale; "
            f"the current attempt is {document.attempt}",
            attempt=document.attempt,
        )


def _outcome_after_end(document: Document, report: Report) -> ReportOutcome:
    """Return whether a report on a terminal document is a repeat or overtaken, else raise."""
    beyond = report.stage is not None and report.stage > document.stage
    if beyond or report.error not in (None, document.error):
        request = f"stage {report.stage.name}" if beyond and report.stage else "an error"
        raise IllegalTransition(
            f"document {quote(document.document_id)} has ended as {document.state.name} in stage "
            f"{document.stage.name}; {request} needs another attempt (StartAttempt)",
            state=document.state.name,
            stage=document.stage.name,
        )
    if report.error is not None:
        return ReportOutcome.DUPLICATE
    ended_well = document.state is DocumentState.SUCCEEDED
    same_stage = report.stage is None or (ended_well and report.stage is document.stage)
    progress = report.progress
    same_progress = progress is None or _is_repeat(document.progress, progress)
    return ReportOutcome.DUPLICATE if same_stage and same_progress else ReportOutcome.OVERTAKEN


def _outcome_without_change(document: Document, report: Report) -> ReportOutcome:
    """Return whether a report that changes nothing is a repeat or overtaken."""
    progress = report.progress
    repeated = progress is None or _is_repeat(document.progress, progress)
    if repeated and not _is_overtaken(document, report.stage):
        return ReportOutcome.DUPLICATE
    return ReportOutcome.OVERTAKEN


def _is_overtaken(document: Document, stage: Stage | None) -> bool:
    return stage is not None and stage < document.stage


def _progress_after(document: Document, report: Report) -> Progress:
    """Return the progress of a document after a report.

    Each counter keeps the highest value reported in this attempt, so that the order in which
    reports arrive does not matter; the total is never below the completed segments.
    """
    current, reported = document.progress, report.progress
    step = _step_after(document, report)
    if reported is None:
        return current if step is current.step else replace(current, step=step)
    completed = max(current.completed_segments, reported.completed_segments)
    totals = [t for t in (current.total_segments, reported.total_segments) if t is not None]
    return Progress(
        completed_segments=completed,
        total_segments=max(completed, *totals) if totals else None,
        step=step,
    )


def _step_after(document: Document, report: Report) -> Step | None:
    """Return the step after a report: the newest one that is of the document's stage."""
    reported = report.progress.step if report.progress else None
    if report.stage is not None and report.stage > document.stage:
        return reported
    if reported is None or _is_overtaken(document, report.stage):
        return document.progress.step
    return reported


def _is_repeat(current: Progress, reported: Progress) -> bool:
    """Return whether progress equals that reported; an omitted part is not compared."""
    if reported.step not in (None, current.step):
        return False
    if reported.step is not None and not _has_counters(reported):
        return True
    return reported.completed_segments == current.completed_segments and (
        reported.total_segments in (None, current.total_segments)
    )


def _has_counters(progress: Progress) -> bool:
    return bool(progress.completed_segments) or progress.total_segments is not None


def _enter(document: Document, stage: Stage, *, now: int) -> Change:
    """Return the document in a later stage; COMPLETED ends it."""
    left = _leave_stages_before(document, stage, now=now)
    if stage is Stage.COMPLETED:
        ended = evolve(
            document, **left, **_RELEASED, state=DocumentState.SUCCEEDED, completed_at=now
        )
        return _moved(ended, _Kind.SUCCEEDED)
    paused = document.state is DocumentState.PAUSED
    state = DocumentState.PAUSED if paused else DocumentState.RUNNING
    return _moved(evolve(document, **left, state=state, stalled=False), _Kind.STAGE_ENTERED)


def _fail(document: Document, error: DocumentError, *, stage: Stage | None, now: int) -> Change:
    """Return the document FAILED, in `stage` if that is later than its current stage."""
    later = stage is not None and stage > document.stage
    left = _leave_stages_before(document, stage, now=now) if later and stage else {}
    failed = evolve(
        document, **left, **_RELEASED, state=DocumentState.FAILED, error=error, stopped_at=now
    )
    return _moved(failed, _Kind.FAILED)


def _leave_stages_before(document: Document, stage: Stage, *, now: int) -> dict[str, Any]:
    """Return the fields of a document that enters `stage`: also when it left all earlier ones."""
    changes: dict[str, Any] = {"stage": stage}
    for behind, field in _LEFT_AT:
        if behind >= stage:
            break
        if getattr(document, field) is None:
            changes[field] = now
    return changes


def _next_attempt(document: Document) -> Document:
    """Return the document reset for its next attempt; the log keeps the old one."""
    return evolve(
        document,
        state=DocumentState.PENDING,
        stage=Stage.WAITING,
        attempt=document.attempt + 1,
        worker="",
        stalled=False,
        progress=Progress(),
        error=None,
        processing_started_at=None,
        parsing_completed_at=None,
        cleaning_completed_at=None,
        splitting_completed_at=None,
        completed_at=None,
        paused_at=None,
        stopped_at=None,
    )
