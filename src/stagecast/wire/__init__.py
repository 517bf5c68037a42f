"""Conversion between protobuf and the model; requests are validated."""

from __future__ import annotations

from stagecast.wire.encoding import (
    StoreEncoder,
    WatchEncoder,
    encode_document,
    encode_documents,
    encode_transitions,
)
from stagecast.wire.messages import encode_batch, encode_dataset, encode_datasets_message
from stagecast.wire.names import (
    batch_name,
    batch_or_document_name,
    dataset_id,
    document_name,
)
from stagecast.wire.report_requests import (
    heartbeats,
    new_batch,
    new_documents,
    partial_reports,
    reports,
    worker,
)
from stagecast.wire.resources import to_batch, to_dataset, to_document
from stagecast.wire.status_requests import (
    batch_query,
    dataset_query,
    datasets_watch_request,
    document_query,
    transition_query,
    wait_timeout_s,
    watch_request,
)

__all__ = [
    "StoreEncoder",
    "WatchEncoder",
    "batch_name",
    "batch_or_document_name",
    "batch_query",
    "dataset_id",
    "dataset_query",
    "datasets_watch_request",
    "document_name",
    "document_query",
    "encode_batch",
    "encode_dataset",
    "encode_datasets_message",
    "encode_document",
    "encode_documents",
    "encode_transitions",
    "heartbeats",
    "new_batch",
    "new_documents",
    "partial_reports",
    "reports",
    "to_batch",
    "to_dataset",
    "to_document",
    "transition_query",
    "wait_timeout_s",
    "watch_request",
    "worker",
]
