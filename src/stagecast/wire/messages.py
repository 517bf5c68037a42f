"""Encoded answers with one resource, and messages of watches."""

from __future__ import annotations

from stagecast.model import Batch, Dataset, DatasetsMessage, Document, WatchMessage
from stagecast.v1 import status_service_pb2 as _pb
from stagecast.wire.resources import fill_batch, to_dataset, to_progress, to_timestamp


def encode_dataset(dataset: Dataset) -> bytes:
    """Return an encoded `GetDatasetResponse`."""
    return _pb.GetDatasetResponse(dataset=to_dataset(dataset)).SerializeToString()


def encode_batch(batch: Batch) -> bytes:
    """Return an encoded `GetBatchResponse`."""
    response = _pb.GetBatchResponse()
    fill_batch(response.batch, batch)
    return response.SerializeToString()


def encode_watch_message(message: WatchMessage) -> bytes:
    """Return an encoded `WatchBatchResponse`, or a piece of one.

    Pieces are concatenated: repeated fields add up, and a singular field is set in one piece only.
    """
    response = _pb.WatchBatchResponse(
        progress=map(_to_document_progress, message.progress),
        revision=message.revision,
        resume_token=message.resume_token,
        server_time=to_timestamp(message.server_at),
    )
    if message.batch is not None:
        fill_batch(response.batch, message.batch)
    return response.SerializeToString()


def encode_datasets_message(message: DatasetsMessage) -> bytes:
    """Return an encoded `WatchDatasetsResponse`."""
    return _pb.WatchDatasetsResponse(
        datasets=map(to_dataset, message.datasets),
        removed_dataset_ids=message.removed,
        complete=message.complete,
        server_time=to_timestamp(message.server_at),
    ).SerializeToString()


def _to_document_progress(document: Document) -> _pb.DocumentProgress:
    return _pb.DocumentProgress(
        document_id=document.document_id,
        attempt=document.attempt,
        progress=to_progress(document.progress),
    )
