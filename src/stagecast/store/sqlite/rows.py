"""Rows of the SQLite store: column lists, and conversion between rows and records.

A row has the values of one of the column lists, in its order.
"""

from __future__ import annotations

import json
from typing import Any

from stagecast.model import (
    Batch,
    BatchState,
    Dataset,
    Document,
    DocumentCounts,
    DocumentError,
    DocumentState,
    Progress,
    SegmentTotals,
    Stage,
    Step,
    Transition,
    TransitionKind,
    evolve,
    register,
)
from stagecast.store.protocol import Encoder

COUNTS = ("pending", "running", "paused", "succeeded", "failed", "stopped", "stalled_documents")

CONDITION = (
    "state",
    "stage",
    "attempt",
    "worker",
    "stalled",
    "completed_segments",
    "total_segments",
    "step_name",
    "step_completed",
    "step_total",
    "step_attempt",
    "step_stage",
    "error_reason",
    "error_message",
    "processing_started_at",
    "parsing_completed_at",
    "cleaning_completed_at",
    "splitting_completed_at",
    "completed_at",
    "paused_at",
    "stopped_at",
)

IDENTITY = ("position", "document_id", "display_name", "labels", "created_at")

DOCUMENT = (*IDENTITY, *CONDITION, "revision", "updated_at")

# What the encoder made of a document, its version, and what else changes with the condition.
ENCODED_DOCUMENT = (
    "encoded_identity",
    "encoded_rest",
    "encoder_version",
    "encoded_revision",
    "encoded_progress_seq",
)

NEW_DOCUMENT = (*DOCUMENT, "progress_seq", *ENCODED_DOCUMENT)

DATASET = (
    "dataset_id",
    "display_name",
    "batches",
    "open_batches",
    "pending_batches",
    "last_ended",
    *COUNTS,
    "updated_at",
)

BATCH_CONDITION = (
    "sealed",
    *COUNTS,
    "segments_completed",
    "segments_total",
    "segments_unknown",
    "revision",
    "progress_seq",
    "server_epoch",
    "updated_at",
    "ended_at",
)

BATCH = (
    "id",
    "batch_id",
    "labels",
    "start_after_us",
    "stall_after_us",
    "fail_after_us",
    "seal_after_us",
    "created_at",
    *BATCH_CONDITION,
)

EVENT = (
    "revision",
    "write_id",
    "kind",
    "position",
    "previous_state",
    "previous_stage",
    "event_at",
    "committed_at",
    "sealed",
)

LOG = (*EVENT, *COUNTS, *CONDITION)

# What the encoder made of the document of a transition, and its version.
ENCODED_TRANSITION = ("encoded_condition", "encoder_version")

NEW_TRANSITION = (*LOG, *ENCODED_TRANSITION)


def listed(names: tuple[str, ...], table: str = "") -> str:
    """Return a column list for SQL."""
    prefix = f"{table}." if table else ""
    return ", ".join(f"{prefix}{name}" for name in names)


def placeholders(names: tuple[str, ...]) -> str:
    """Return one question mark for each column."""
    return ", ".join("?" * len(names))


def assignments(names: tuple[str, ...]) -> str:
    """Return the SET list for an UPDATE."""
    return ", ".join(f"{name} = ?" for name in names)


Row = tuple[Any, ...]


def labels_to_text(labels: dict[str, str]) -> str:
    """Write labels as JSON."""
    return json.dumps(labels, ensure_ascii=False, separators=(",", ":")) if labels else "{}"


def counts_to_row(counts: DocumentCounts) -> Row:
    """Write `COUNTS`."""
    return counts


def counts_from_row(row: Row) -> DocumentCounts:
    """Read `COUNTS`."""
    return DocumentCounts(*row)


_NO_STEP = (None,) * 5


def _step_to_row(document: Document, step: Step) -> Row:
    return step.name, step.completed, step.total, document.attempt, document.stage


def condition_to_row(document: Document) -> Row:
    """Write `CONDITION`."""
    step = document.progress.step
    return (
        document.state,
        document.stage,
        document.attempt,
        document.worker,
        int(document.stalled),
        document.progress.completed_segments,
        document.progress.total_segments,
        *(_step_to_row(document, step) if step else _NO_STEP),
        document.error.reason if document.error else None,
        document.error.message if document.error else None,
        document.processing_started_at,
        document.parsing_completed_at,
        document.cleaning_completed_at,
        document.splitting_completed_at,
        document.completed_at,
        document.paused_at,
        document.stopped_at,
    )


def identity_to_row(document: Document) -> Row:
    """Write `IDENTITY`."""
    return (
        document.position,
        document.document_id,
        document.display_name,
        labels_to_text(dict(document.labels)),
        document.created_at,
    )


# The identity of another version is dropped: it would count as one of this version.
SAVED_DOCUMENT = f"""
    {assignments((*CONDITION, "revision", "updated_at"))},
    progress_seq = coalesce(?, progress_seq),
    encoded_rest = ?, encoded_revision = ?, encoded_progress_seq = coalesce(?, progress_seq),
    encoded_identity = CASE encoder_version WHEN ? THEN encoded_identity END, encoder_version = ?
"""

_NO_CONDITION = ((None,) * len(CONDITION), None)


class RowWriter:
    """Writes rows of documents and of the log; the condition of a document once for both.

    All documents outlive it.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._version = encoder.version
        self._conditions: dict[int, tuple[Row, bytes]] = {}  # by `id`
        self._encoded: dict[Row, bytes] = {}  # by the columns: many documents have the same

    def new_document(self, document: Document) -> Row:
        """Write `NEW_DOCUMENT`."""
        columns, encoded = self._condition(document)
        return (
            *identity_to_row(document),
            *columns,
            *(document.revision, document.updated_at, 0),
            self._encoder.identity(document),
            encoded + self._encoder.last_change(document),
            *(self._version, document.revision, 0),
        )

    def saved_document(self, document: Document, progress_seq: int | None) -> Row:
        """Write `SAVED_DOCUMENT`; without a `progress_seq` the stored one stays."""
        columns, encoded = self._condition(document)
        return (
            *columns,
            *(document.revision, document.updated_at, progress_seq),
            encoded + self._encoder.last_change(document),
            *(document.revision, progress_seq, self._version, self._version),
        )

    def transition(self, transition: Transition) -> Row:
        """Write `NEW_TRANSITION`."""
        document = transition.document
        columns, encoded = self._condition(document) if document else _NO_CONDITION
        return (
            transition.revision,
            transition.write_id,
            transition.kind,
            document.position if document else None,
            transition.previous_state,
            transition.previous_stage,
            transition.event_at,
            transition.committed_at,
            int(transition.sealed),
            *counts_to_row(transition.counts),
            *columns,
            *(encoded, self._version),
        )

    def _condition(self, document: Document) -> tuple[Row, bytes]:
        """Return the condition of a document, as columns and encoded."""
        condition = self._conditions.get(id(document))
        if condition is None:
            columns = condition_to_row(document)
            encoded = self._encoded.get(columns)
            if encoded is None:
                encoded = self._encoded[columns] = self._encoder.condition(document)
            condition = self._conditions[id(document)] = columns, encoded
        return condition


_BLANK = register(
    dataset_id="", batch_id="", document_id="", position=0, display_name="", labels={}, now=0
)
_STATES, _STAGES = (dict(zip(kind, kind, strict=True)) for kind in (DocumentState, Stage))


def _pop_step(fields: dict[str, Any]) -> Step | None:
    """Take the step from the columns of a document, unless it is of another stage.

    A release that does not know steps leaves an old one when it moves the document.
    """
    pop = fields.pop
    name, completed, total = pop("step_name"), pop("step_completed"), pop("step_total")
    attempt, stage = pop("step_attempt"), pop("step_stage")
    if attempt != fields["attempt"] or stage != fields["stage"]:
        return None
    return Step(name=name, completed=completed, total=total)


def document_from_row(row: Row, dataset_id: str, batch_id: str) -> Document:
    """Read `DOCUMENT`; most columns are fields."""
    fields: dict[str, Any] = dict(zip(DOCUMENT, row, strict=True))
    labels, step = fields["labels"], _pop_step(fields)
    reason, message = fields.pop("error_reason"), fields.pop("error_message")
    completed, total = fields.pop("completed_segments"), fields.pop("total_segments")
    fields |= {
        "dataset_id": dataset_id,
        "batch_id": batch_id,
        "labels": json.loads(labels) if labels != "{}" else {},
        "state": _STATES[fields["state"]],
        "stage": _STAGES[fields["stage"]],
        "stalled": bool(fields["stalled"]),
        "progress": Progress(completed_segments=completed, total_segments=total, step=step),
        "error": None if reason is None else DocumentError(reason=reason, message=message),
    }
    # A copy of a dict with just these keys: one that has had more keys takes 550 bytes more.
    return evolve(_BLANK, **fields)


def dataset_to_row(dataset: Dataset) -> Row:
    """Write `DATASET`."""
    return (
        dataset.dataset_id,
        dataset.display_name,
        dataset.batches,
        dataset.open_batches,
        dataset.pending_batches,
        dataset.last_ended,
        *counts_to_row(dataset.counts),
        dataset.updated_at,
    )


def dataset_from_row(row: Row) -> Dataset:
    """Read `DATASET`."""
    dataset_id, display_name, batches, *rest = row
    open_batches, pending_batches, last_ended, *counts, updated_at = rest
    return Dataset(
        dataset_id=dataset_id,
        display_name=display_name,
        batches=batches,
        open_batches=open_batches,
        pending_batches=pending_batches,
        last_ended=BatchState(last_ended) if last_ended else None,
        counts=counts_from_row(tuple(counts)),
        updated_at=updated_at,
    )


def batch_condition_to_row(batch: Batch) -> Row:
    """Write `BATCH_CONDITION`."""
    return (
        int(batch.sealed),
        *counts_to_row(batch.counts),
        batch.segments.completed,
        batch.segments.total,
        batch.segments.unknown,
        batch.revision,
        batch.progress_seq,
        batch.server_epoch,
        batch.updated_at,
        batch.ended_at,
    )


def batch_from_row(row: Row, dataset_id: str) -> Batch:
    """Read `BATCH`."""
    key, batch_id, labels, *spans = row[:7]
    start_after_us, stall_after_us, fail_after_us, seal_after_us = spans
    created_at, sealed, *condition = row[7:]
    (
        *counts,
        completed,
        total,
        unknown,
        revision,
        progress_seq,
        server_epoch,
        updated_at,
        ended_at,
    ) = condition
    return Batch(
        key=key,
        dataset_id=dataset_id,
        batch_id=batch_id,
        labels=json.loads(labels),
        start_after_us=start_after_us,
        stall_after_us=stall_after_us,
        fail_after_us=fail_after_us,
        seal_after_us=seal_after_us,
        created_at=created_at,
        sealed=bool(sealed),
        counts=counts_from_row(tuple(counts)),
        segments=SegmentTotals(completed=completed, total=total, unknown=unknown),
        revision=revision,
        progress_seq=progress_seq,
        server_epoch=server_epoch,
        updated_at=updated_at,
        ended_at=ended_at,
    )


def transition_from_row(row: Row, dataset_id: str, batch_id: str) -> Transition:
    """Read `LOG` followed by `IDENTITY` of its document."""
    event, rest = row[: len(EVENT)], row[len(EVENT) :]
    (
        revision,
        write_id,
        kind,
        position,
        state_before,
        stage_before,
        event_at,
        committed_at,
        sealed,
    ) = event
    counts, rest = rest[: len(COUNTS)], rest[len(COUNTS) :]
    condition, identity = rest[: len(CONDITION)], rest[len(CONDITION) :]
    document = None
    if position is not None:
        document = document_from_row(
            (*identity, *condition, revision, committed_at), dataset_id, batch_id
        )
    return Transition(
        revision=revision,
        kind=TransitionKind(kind),
        document=document,
        previous_state=DocumentState(state_before) if state_before else None,
        previous_stage=Stage(stage_before) if stage_before else None,
        event_at=event_at,
        committed_at=committed_at,
        counts=counts_from_row(counts),
        sealed=bool(sealed),
        write_id=write_id,
    )
