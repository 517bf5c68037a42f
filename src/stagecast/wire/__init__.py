"""Between protobuf and the model: requests are checked, answers built."""

from __future__ import annotations

from stagecast.wire.requests import (
    batch_name,
    dataset_id,
    document_name,
    document_query,
    new_batch,
    new_documents,
    reports,
    watch_request,
    worker,
)
from stagecast.wire.resources import (
    to_batch,
    to_dataset,
    to_document,
    to_progress,
    to_timestamp,
    to_transition,
)

__all__ = [
    "batch_name",
    "dataset_id",
    "document_name",
    "document_query",
    "new_batch",
    "new_documents",
    "reports",
    "to_batch",
    "to_dataset",
    "to_document",
    "to_progress",
    "to_timestamp",
    "to_transition",
    "watch_request",
    "worker",
]
