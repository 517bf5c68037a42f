"""The ids in a request: of a dataset, a batch, a document.

Every function raises `FieldInvalid` for the first invalid field.
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
    """Return the dataset id of a request."""
    return checks.dataset_id(request.dataset_id)


def batch_name(request: _NamesBatch) -> tuple[str, str]:
    """Return the dataset and batch ids of a request."""
    return dataset_id(request), checks.batch_id(request.batch_id)


def document_name(request: _NamesDocument) -> tuple[str, str, str]:
    """Return the dataset, batch and document ids of a request."""
    return *batch_name(request), checks.document_id("document_id", request.document_id)


def batch_or_document_name(request: _NamesDocument) -> tuple[str, str, str]:
    """Return the ids of a request; the document id is empty for the whole batch."""
    if request.document_id:
        return document_name(request)
    return *batch_name(request), ""
