"""What a request names: the ids of a dataset, a batch, a document.

Every function raises `FieldInvalid` for the first field that breaks its rule.
"""

from __future__ import annotations

from typing import Protocol

from stagecast.wire import checks


class _NamesDataset(Protocol):
    @property
    def dataset_id(self) -> str: ...


class _NamesBatch(_NamesDataset, Protocol):
    @property
    def batch_id(self) -> str: ...


class _NamesDocument(_NamesBatch, Protocol):
    @property
    def document_id(self) -> str: ...


def dataset_id(request: _NamesDataset) -> str:
    """Return the id of the dataset that a request names."""
    return checks.dataset_id(request.dataset_id)


def batch_name(request: _NamesBatch) -> tuple[str, str]:
    """Return the ids of the dataset and the batch that a request names."""
    return dataset_id(request), checks.batch_id(request.batch_id)


def document_name(request: _NamesDocument) -> tuple[str, str, str]:
    """Return the ids of the dataset, the batch and the document that a request names."""
    return *batch_name(request), checks.document_id("document_id", request.document_id)


def batch_or_document_name(request: _NamesDocument) -> tuple[str, str, str]:
    """Return the ids that a request names; the document's is empty for the whole batch."""
    if request.document_id:
        return document_name(request)
    return *batch_name(request), ""
