"""Resources of responses, as protobuf.

The enums of the model have the numbers of the protos and need no conversion.
"""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from stagecast.model import (
    SECOND_US,
    Batch,
    Dataset,
    Document,
    DocumentCounts,
    Progress,
    batch_progress,
    batch_state,
    dataset_state,
)
from stagecast.v1 import resources_pb2 as _pb


def to_timestamp(moment_us: int | None) -> Timestamp | None:
    """Return a time; `None` is absent."""
    if moment_us is None:
        return None
    seconds, rest = divmod(moment_us, SECOND_US)
    return Timestamp(seconds=seconds, nanos=rest * 1_000)


def to_progress(progress: Progress) -> _pb.Progress:
    """Return progress; an unknown total is absent."""
    step = progress.step
    return _pb.Progress(
        completed_segments=progress.completed_segments,
        total_segments=progress.total_segments,
        step=_pb.Step(name=step.name, completed=step.completed, total=step.total) if step else None,
    )


def to_document(document: Document) -> _pb.Document:
    """Return a document."""
    error = None
    if document.error is not None:
        error = _pb.DocumentError(reason=document.error.reason, message=document.error.message)
    return _pb.Document(
        dataset_id=document.dataset_id,
        batch_id=document.batch_id,
        document_id=document.document_id,
        display_name=document.display_name,
        labels=document.labels,
        state=_pb.DocumentState.ValueType(document.state),
        stage=_pb.Stage.ValueType(document.stage),
        attempt=document.attempt,
        worker=document.worker,
        stalled=document.stalled,
        progress=to_progress(document.progress),
        error=error,
        revision=document.revision,
        create_time=to_timestamp(document.created_at),
        update_time=to_timestamp(document.updated_at),
        processing_start_time=to_timestamp(document.processing_started_at),
        parsing_complete_time=to_timestamp(document.parsing_completed_at),
        cleaning_complete_time=to_timestamp(document.cleaning_completed_at),
        splitting_complete_time=to_timestamp(document.splitting_completed_at),
        complete_time=to_timestamp(document.completed_at),
        pause_time=to_timestamp(document.paused_at),
        stop_time=to_timestamp(document.stopped_at),
    )


def _fill_counts(message: _pb.DocumentCounts, counts: DocumentCounts) -> None:
    message.total = counts.total
    message.pending = counts.pending
    message.running = counts.running
    message.paused = counts.paused
    message.succeeded = counts.succeeded
    message.failed = counts.failed
    message.stopped = counts.stopped
    message.stalled = counts.stalled


def to_batch(batch: Batch) -> _pb.Batch:
    """Return a batch."""
    message = _pb.Batch()
    fill_batch(message, batch)
    return message


def fill_batch(message: _pb.Batch, batch: Batch) -> None:
    """Set the fields of an empty message, in place: copies of the inner ones cost as much again."""
    message.dataset_id = batch.dataset_id
    message.batch_id = batch.batch_id
    if batch.labels:
        message.labels.update(batch.labels)
    message.state = _pb.BatchState.ValueType(batch_state(batch))
    message.sealed = batch.sealed
    _fill_counts(message.counts, batch.counts)
    progress = batch_progress(batch)
    message.progress.completed_segments = progress.completed_segments
    if progress.total_segments is not None:
        message.progress.total_segments = progress.total_segments
    message.revision = batch.revision
    message.start_after.FromMicroseconds(batch.start_after_us)
    message.stall_after.FromMicroseconds(batch.stall_after_us)
    message.fail_after.FromMicroseconds(batch.fail_after_us)
    message.seal_after.FromMicroseconds(batch.seal_after_us)
    message.create_time.FromMicroseconds(batch.created_at)
    message.update_time.FromMicroseconds(batch.updated_at)
    if batch.ended_at is not None:
        message.end_time.FromMicroseconds(batch.ended_at)


def to_dataset(dataset: Dataset) -> _pb.Dataset:
    """Return a dataset."""
    message = _pb.Dataset(
        dataset_id=dataset.dataset_id,
        display_name=dataset.display_name,
        state=_pb.DatasetState.ValueType(dataset_state(dataset)),
        batches=dataset.batches,
        open_batches=dataset.open_batches,
        update_time=to_timestamp(dataset.updated_at),
    )
    _fill_counts(message.counts, dataset.counts)
    return message
