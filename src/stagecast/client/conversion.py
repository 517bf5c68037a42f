"""Messages of the protos as records."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from stagecast.client import enums, records
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s

N = TypeVar("N", bound=StrEnum)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def document_of(message: r.Document) -> records.Document:
    """Return a document."""
    return records.Document(
        dataset_id=message.dataset_id,
        batch_id=message.batch_id,
        document_id=message.document_id,
        display_name=message.display_name,
        labels=dict(message.labels),
        state=_DOCUMENT_STATES.get(message.state, enums.DocumentState.UNKNOWN),
        stage=_STAGES.get(message.stage, enums.Stage.UNKNOWN),
        attempt=message.attempt,
        worker=message.worker,
        stalled=message.stalled,
        progress=progress_of(message.progress),
        error=_error(message.error) if message.HasField("error") else None,
        revision=message.revision,
        create_time=_time(message.create_time),
        update_time=_time(message.update_time),
        processing_start_time=_time_or_none(message, "processing_start_time"),
        parsing_complete_time=_time_or_none(message, "parsing_complete_time"),
        cleaning_complete_time=_time_or_none(message, "cleaning_complete_time"),
        splitting_complete_time=_time_or_none(message, "splitting_complete_time"),
        complete_time=_time_or_none(message, "complete_time"),
        pause_time=_time_or_none(message, "pause_time"),
        stop_time=_time_or_none(message, "stop_time"),
    )


def batch_of(message: r.Batch) -> records.Batch:
    """Return a batch."""
    return records.Batch(
        dataset_id=message.dataset_id,
        batch_id=message.batch_id,
        labels=dict(message.labels),
        state=_BATCH_STATES.get(message.state, enums.BatchState.UNKNOWN),
        sealed=message.sealed,
        counts=_counts(message.counts),
        progress=progress_of(message.progress),
        revision=message.revision,
        stall_after=message.stall_after.ToTimedelta(),
        fail_after=message.fail_after.ToTimedelta(),
        create_time=_time(message.create_time),
        update_time=_time(message.update_time),
        end_time=_time_or_none(message, "end_time"),
        start_after=message.start_after.ToTimedelta(),
        seal_after=message.seal_after.ToTimedelta(),
    )


def dataset_of(message: r.Dataset) -> records.Dataset:
    """Return a dataset."""
    return records.Dataset(
        dataset_id=message.dataset_id,
        state=_DATASET_STATES.get(message.state, enums.DatasetState.UNKNOWN),
        batches=message.batches,
        open_batches=message.open_batches,
        counts=_counts(message.counts),
        update_time=_time(message.update_time),
        display_name=message.display_name,
    )


def transition_of(message: r.Transition) -> records.Transition:
    """Return a transition."""
    state, stage = message.previous_state, message.previous_stage
    return records.Transition(
        revision=message.revision,
        kind=_KINDS.get(message.kind, enums.TransitionKind.UNKNOWN),
        document=document_of(message.document) if message.HasField("document") else None,
        previous_state=(
            _DOCUMENT_STATES.get(state, enums.DocumentState.UNKNOWN) if state else None
        ),
        previous_stage=_STAGES.get(stage, enums.Stage.UNKNOWN) if stage else None,
        event_time=_time_or_none(message, "event_time"),
        commit_time=_time(message.commit_time),
    )


def progress_of(message: r.Progress) -> records.Progress:
    """Return progress."""
    return records.Progress(
        completed_segments=message.completed_segments,
        total_segments=_total(message),
        step=_step(message),
    )


def document_progress_of(message: s.DocumentProgress) -> records.DocumentProgress:
    """Return the new counters of a document."""
    return records.DocumentProgress(
        document_id=message.document_id,
        attempt=message.attempt,
        completed_segments=message.progress.completed_segments,
        total_segments=_total(message.progress),
        step=_step(message.progress),
    )


def snapshot_of(message: s.WatchBatchResponse) -> records.Snapshot:
    """Return the snapshot of a whole message."""
    return records.Snapshot(
        reason=_REASONS.get(message.snapshot.reason, enums.SnapshotReason.UNKNOWN),
        documents=tuple(map(document_of, message.snapshot.documents)),
        batch=batch_of(message.batch),
        revision=message.revision,
    )


def result_of(message: pb.ReportResult) -> records.ReportResult:
    """Return the outcome of a report."""
    return records.ReportResult(
        document_id=message.document_id,
        outcome=_OUTCOMES.get(message.outcome, enums.ReportOutcome.UNKNOWN),
        revision=message.revision,
        refusal=_refusal(message.refusal) if message.HasField("refusal") else None,
    )


def order_of(message: pb.DocumentOrder) -> enums.WorkerOrder:
    """Return what a worker should do with a document."""
    return _ORDERS.get(message.order, enums.WorkerOrder.UNKNOWN)


def _error(message: r.DocumentError) -> records.DocumentError:
    return records.DocumentError(reason=message.reason, message=message.message)


def _refusal(message: pb.ReportRefusal) -> records.ReportRefusal:
    return records.ReportRefusal(reason=message.reason, message=message.message)


def _counts(message: r.DocumentCounts) -> records.DocumentCounts:
    return records.DocumentCounts(
        total=message.total,
        pending=message.pending,
        running=message.running,
        paused=message.paused,
        succeeded=message.succeeded,
        failed=message.failed,
        stopped=message.stopped,
        stalled=message.stalled,
    )


def _total(message: r.Progress) -> int | None:
    return message.total_segments if message.HasField("total_segments") else None


def _step(message: r.Progress) -> records.Step | None:
    if not message.HasField("step"):
        return None
    step = message.step
    total = step.total if step.HasField("total") else None
    return records.Step(name=step.name, completed=step.completed, total=total)


def _time(message: Timestamp) -> datetime:
    return _EPOCH + timedelta(seconds=message.seconds, microseconds=message.nanos // 1_000)


def _time_or_none(message: Any, name: str) -> datetime | None:  # noqa: ANN401 - any message
    return _time(getattr(message, name)) if message.HasField(name) else None


def _members(enum: type[N], descriptor: EnumDescriptor) -> dict[int, N]:
    """Return the members of an enum by their numbers."""
    prefix = descriptor.values[0].name.removesuffix("UNSPECIFIED")
    return {each.number: enum(each.name.removeprefix(prefix)) for each in descriptor.values[1:]}


_STAGES = _members(enums.Stage, r.Stage.DESCRIPTOR)
_DOCUMENT_STATES = _members(enums.DocumentState, r.DocumentState.DESCRIPTOR)
_BATCH_STATES = _members(enums.BatchState, r.BatchState.DESCRIPTOR)
_DATASET_STATES = _members(enums.DatasetState, r.DatasetState.DESCRIPTOR)
_KINDS = _members(enums.TransitionKind, r.TransitionKind.DESCRIPTOR)
_REASONS = _members(enums.SnapshotReason, s.SnapshotReason.DESCRIPTOR)
_OUTCOMES = _members(enums.ReportOutcome, pb.ReportOutcome.DESCRIPTOR)
_ORDERS = _members(enums.WorkerOrder, pb.WorkerOrder.DESCRIPTOR)
